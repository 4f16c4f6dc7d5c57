"""``edgecls bench report``: also where torch and matplotlib are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark.files import write

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    write(document(run(60), run(60, setup(threads=1)), file="a.onnx", colds=1), tmp_path / "a.json")
    write(document(run(60, median_ms=4), file="b.onnx", precision="int8", colds=1), tmp_path / "b.json")
    rows = [{"path": "x/a.onnx", "accuracy": 86.5}, {"path": "b.onnx", "accuracy": 85}, {"path": "c", "accuracy": 1}]
    (tmp_path / "compared.json").write_text(json.dumps({"format": "edgecls.comparison/1", "rows": rows}), "utf-8")
    return tmp_path


def test_a_page_and_charts_of_several_documents(in_process: Run, measured: Path) -> None:
    options = ["--output", "it.html", "--charts", "charts", "--accuracy", "compared.json"]
    done = in_process("bench", "report", "a.json", "b.json", *options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "note: c has an accuracy, and was not measured" in done.stderr
    page = (measured / "it.html").read_text("utf-8")
    for said in ("2 benchmarks", "a.onnx", "b.onnx", "Accuracy and latency"):
        assert said in page
    charts = {path.stem for path in (measured / "charts").iterdir()}
    assert {"accuracy", "precisions", "percentiles", "histogram-3", "trace-1"} <= charts
    assert f"{len(charts)} charts" in done.stderr


def test_it_needs_neither_torch_nor_matplotlib(measured: Path) -> None:
    program = (
        "import sys; sys.modules.update(torch=None, matplotlib=None, onnx=None); from edgecls.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "bench", "report", "a.json", "-o", "it.html", "--charts", "charts"]
    done = subprocess.run(command, cwd=measured, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bad_input_is_refused(in_process: Run, refused: Refused, measured: Path) -> None:
    page = ["--output", "it.html"]
    refused(in_process("bench", "report", "absent.json", *page), "absent.json: cannot be read", "Check the path")
    refused(in_process("bench", "report", "compared.json", *page), "is not a benchmark", "edgecls bench --json")
    (measured / "cut.json").write_text((measured / "a.json").read_text("utf-8")[:-9], "utf-8")
    refused(in_process("bench", "report", "a.json", "cut.json", *page), "cut.json: is not valid JSON", "Measure again")
    refused(
        in_process("bench", "report", "a.json", *page, "--accuracy", "a.json"), "is no comparison", "edgecls compare"
    )
    refused(in_process("bench", "report", "a.json", "-o", "no/it.html"), "does not exist", "mkdir")
    assert not (measured / "it.html").exists()
    (measured / "it.html").write_text("mine")
    refused(in_process("bench", "report", "a.json", *page, "--charts", "charts"), "exists already", "--force")
    assert (measured / "it.html").read_text() == "mine"
    assert not (measured / "charts").exists()
    assert in_process("bench", "report", "a.json", *page, "--force").returncode == 0


def test_wrong_usage(in_process: Run, measured: Path) -> None:
    done = in_process("bench", "report", "a.json")
    assert done.returncode == 2
    assert "give --output FILE.html, --charts DIR, or both" in done.stderr
    assert in_process("bench", "report", "--output", "it.html").returncode == 2
