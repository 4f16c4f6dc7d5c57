"""``edgecls export --embed-preprocess``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgecls_runtime import manifest

pytest.importorskip("onnx", reason="export needs the training packages")

if TYPE_CHECKING:
    from conftest import Refused, Run


@pytest.fixture
def here(models: Path, tmp_path: Path) -> Path:
    """The folder that commands run in, with some models."""
    for name in ("tiny", "foreign", "embedded"):
        shutil.copy(models / f"{name}.onnx", tmp_path)
    return tmp_path


def test_a_finished_file_takes_pixels_then(in_process: Run, here: Path, photo: Path) -> None:
    done = in_process("export", "tiny.onnx", "--embed-preprocess", "--embed-top-k", "2")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("tiny-embedded.onnx: tiny fp32, 0.0 MB, ")
    assert second == "parity: 64 pictures against the file that it was made of: max |diff| 0 of max |logit|"
    document = manifest.read(here / "tiny-embedded.onnx")
    assert document is not None
    assert document.top_k == manifest.TopK(k=2)
    answers = [in_process("infer", "--engine", f"{name}.onnx", photo).stdout for name in ("tiny", "tiny-embedded")]
    assert answers[0] == answers[1]
    assert in_process("verify", "tiny-embedded.onnx").stdout.count("ok  ") == 5
    told = in_process("info", "tiny-embedded.onnx").stdout
    assert "\ninputs      pixels: uint8 [batch, 32, 32, 3]\n" in told
    assert "\ntop-k       the best 2 in scores and indices\n" in told
    assert "std 0.229/0.224/0.225 (both in the graph)" in told
    assert "top-k" not in in_process("info", "tiny.onnx").stdout


def test_the_other_commands_take_it(in_process: Run, here: Path, drawn: Path) -> None:
    (here / "classes.json").write_text(json.dumps({"ant": "ant", "bee": "bee"}))
    told = {}
    for name in ("tiny", "embedded"):
        done = in_process("evaluate", f"{name}.onnx", drawn, "--tta", "2", "--format", "json")
        assert done.returncode == 0, done.stderr
        told[name] = {key: value for key, value in json.loads(done.stdout).items() if key in ("metrics", "pictures")}
    assert told["tiny"] == told["embedded"] != {}
    done = in_process("compare", "tiny.onnx", "embedded.onnx", "--data", drawn, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][1]["agreement"] == 100
    assert json.loads(done.stdout)["rows"][1]["max_relative_error"] == 0
    done = in_process("tune", "embedded.onnx", "--provider", "cpu", "--threads", "1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["embedded.onnx"], "embedded.onnx: has its preprocess embedded already", "Embed the file that it was made of"),
        (["foreign.onnx"], "foreign.onnx: carries no manifest: nobody knows", "ARCH|CHECKPOINT --embed-preprocess"),
        (["tiny.onnx", "--embed-top-k", "6"], "top-k: the best 6 of 5 classes are asked for", "Ask for 1 to 5."),
        (["gone.onnx"], "gone.onnx: no such file", "Check the path"),
        (["tiny.onnx", "-o", "embedded.onnx"], "embedded.onnx: exists already", "--force"),
        (["tiny.onnx", "-o", "no/m.onnx"], "the folder no does not exist", "mkdir -p no"),
    ],
)
def test_files_that_cannot(
    in_process: Run, refused: Refused, here: Path, arguments: list[str], cause: str, remedy: str
) -> None:
    before = sorted(os.listdir(here))
    refused(in_process("export", *arguments, "--embed-preprocess"), cause, remedy)
    assert sorted(os.listdir(here)) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["alexnet", "--embed-top-k", "5"], "--embed-top-k goes with --embed-preprocess"),
        (["alexnet", "--embed-preprocess", "--embed-top-k", "0"], "0 is not in the range x>=1"),
        (["alexnet", "--embed-preprocess", "--fp16", "--io-fp16"], "--io-fp16 makes the input float16"),
        (["alexnet", "--embed-preprocess", "--embed-top-k", "5", "--tensorrt"], "--embed-top-k is for ONNX files"),
        (["tiny.onnx", "--embed-preprocess", "--fp16"], "--fp16 is for an ARCH or CHECKPOINT"),
        (["tiny.onnx", "--embed-preprocess", "--triton", "r"], "--triton is in a second step of the new file"),
        (["tiny.onnx", "--embed-preprocess", "--labels", "labels.txt"], "--labels is for an ARCH or CHECKPOINT"),
    ],
)
def test_wrong_usage(in_process: Run, here: Path, arguments: list[str], says: str) -> None:
    (here / "labels.txt").write_text("a\n")
    done = in_process("export", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
