"""``edgecls compare``: also where torch is not installed."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]


def test_files_side_by_side(in_process: Run, models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "tiny.onnx", tmp_path / "other.onnx")
    with Classifier.load(models / "tiny.onnx") as classifier:
        labels = classifier.labels
    (tmp_path / "flat").mkdir()
    for number in range(3):
        (tmp_path / "classes" / labels[number % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(draw_picture(number))
        picture.save(tmp_path / "flat" / f"{number}.png")
        picture.save(tmp_path / "classes" / labels[number % 2] / f"{number}.png")
    done = in_process("compare", models / "tiny.onnx", "other.onnx", "--data", "flat")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["tiny.onnx", "other.onnx"]
    assert "on this machine take" in done.stdout
    done = in_process("compare", models / "tiny.onnx", "other.onnx", "--data", "classes", "--format", "json")
    rows = json.loads(done.stdout)["rows"]
    assert rows[0]["accuracy"] == rows[1]["accuracy"]
    assert rows[0]["accuracy"] is not None


def test_what_is_assumed_of_a_foreign_file_is_said_once(in_process: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for number in range(3):
        Image.fromarray(draw_picture(number)).save(tmp_path / "flat" / f"{number}.png")
    logging.getLogger().handlers.clear()  # as in a process of its own; pytest's come back by themselves
    done = in_process("compare", models / "foreign.onnx", "--data", "flat")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no labels given for 5 classes") == 1
    logging.getLogger().handlers.clear()


def test_bad_input_is_refused(in_process: Run, refused: Refused, models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    tiny = models / "tiny.onnx"
    refused(
        in_process("compare", tiny, "absent.onnx", "--data", "empty"),
        "empty: holds no pictures",
        "of pictures; for acc@1",
    )
    refused(in_process("compare", "absent.onnx", "--data", "empty"), "absent.onnx: no such file", "Check the path")
    for points in ("nan", "-1", "101"):
        assert in_process("compare", tiny, "--data", "empty", "--max-drop", points).returncode == 2
    assert in_process("compare", tiny).returncode == 2
    assert in_process("compare", "--data", "empty").returncode == 2
