"""The script for machines with a GPU, tried on one without."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]

pytest.importorskip("torch")
pytest.importorskip("onnxscript")


def test_it_measures_and_says_what_it_could_not(tmp_path: Path) -> None:
    options = ["--quick", "--device", "cpu", "--no-compile", "--only", "mobilenet_v3_small", "--precision", "fp32"]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "measure.py"), *options, "--output", str(tmp_path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["archs"]["mobilenet_v3_small"]
    assert found["parity"]["cpu fp32"]["is_within_tolerance"]
    assert all(passed for passed, _ in found["parity"]["cpu fp32"]["golden"].values())
    assert {name: row["is_right"] for name, row in found["strict"].items()} == {
        "asked for": True,
        "GPU hidden": True,
        "tensorrt, GPU hidden": True,
    }
    for rows in found["speed"].values():
        assert rows["torch eager fp32"]["times_eager"] == 1
        assert rows["edgecls cpu fp32"]["max_relative_diff"] < 1e-4
    assert set(found["speed"]) == {"1", "2"}
    assert "engine fp32" in found["not_run"], "without a GPU there is no engine of this machine's"
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert page.startswith("**Quick run")
    assert "| mobilenet_v3_small | edgecls cpu fp32 | 2 |" in page
    assert "- mobilenet_v3_small, engine fp32: " in page


def test_numbers_of_another_machine_are_kept(tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text('{"machine": {"gpu": "another"}, "archs": {}}')
    main = runpy.run_path(str(ROOT / "benchmarks" / "gpu" / "measure.py"))["main"]
    done = CliRunner().invoke(main, ["--quick", "--device", "cpu", "--output", str(tmp_path)])
    assert (done.exit_code, "was measured on another machine" in done.output) == (1, True)
    assert "another" in (tmp_path / "gpu.json").read_text()
