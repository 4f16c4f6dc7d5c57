"""``edgecls export`` below float32, and ``edgecls calibrate``."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch", reason="export needs the training packages")

from edgecls_export.provenance import calibration_of
from edgecls_runtime import Classifier, manifest

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]

QUICK = ("squeezenet1_1", "--weights", "none", "--labels", "labels.txt", "--preprocess", "pre.json")


def test_all_precisions_at_once(in_process: Run, drawn: Path, tmp_path: Path) -> None:
    done = in_process("export", *QUICK, "--precision", "fp32,fp16,int8", "--calibration", drawn)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"parity: 24 pictures ({drawn}, to calibrate on)") == 3, "as the model meets them"
    assert f"24 pictures ({drawn}, to calibrate on) on CPUExecutionProvider, batch 1, in turn" in done.stdout
    assert re.search(r"note: activations reach [\d.e+-]+ on 24 pictures; half ends at 65,504", done.stdout)
    assert re.search(
        r"note: biases corrected: mean cosine of the logits on 24 pictures [01]\.\d+ -> [01]\.\d+", done.stdout
    )
    names = ["squeezenet1_1.onnx", "squeezenet1_1-fp16.onnx", "squeezenet1_1-int8.onnx"]
    assert [line.split()[0] for line in done.stdout.splitlines()[-5:-2]] == names
    assert "on this machine take" in done.stdout.splitlines()[-1]
    assert "24 pictures are few for calibration" in done.stdout
    sizes = [(tmp_path / name).stat().st_size for name in names]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]
    for name, precision in zip(names, ("fp32", "fp16", "int8"), strict=True):
        found = manifest.read(tmp_path / name)
        assert found is not None
        assert found.precision == precision
        done = in_process("verify", name)
        assert done.returncode == 0, done.stderr
        assert in_process("infer", "--engine", name, drawn / "ant").returncode == 0
    with pytest.raises(AssertionError):  # nothing is overwritten
        assert in_process("export", *QUICK, "--int8").returncode == 0


def test_options_of_int8_reach_the_file(in_process: Run, drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "judge")
    for path in (tmp_path / "judge").glob("*/*"):  # other pictures than those of the calibration
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    options = [
        "--int8",
        "--calibration",
        drawn,
        "--calibration-images",
        10,
        "--method",
        "minmax",
        "--target",
        "cpu-any",
    ]
    options += ["--no-bias-correction", "--calibration-cache", "cache", "--max-drop", 100]
    options += ["--eval-data", "judge"]
    done = in_process("export", *QUICK, *options, "--output", "m.onnx", "--parity-images", drawn)
    assert done.returncode == 0, done.stderr
    found = manifest.read(tmp_path / "m.onnx")
    assert found is not None
    calibration = calibration_of(found)
    assert calibration is not None
    assert (found.target, calibration.method, calibration.images) == ("cpu-any", "minmax", 10)
    assert calibration.bias_correction == 0
    assert calibration.budget is not None
    assert (calibration.budget.measure, calibration.budget.images) == ("acc@1", 24)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert "tried:   0 layers in float" in done.stdout


def test_half_at_the_edges(in_process: Run, drawn: Path, tmp_path: Path) -> None:
    done = in_process("export", *QUICK, "--fp16", "--io-fp16", "--parity-images", drawn)
    assert done.returncode == 0, done.stderr
    with Classifier.load(tmp_path / "squeezenet1_1-fp16.onnx") as classifier:
        assert classifier._model.backend.input.dtype == "float16"
        assert len(classifier.predict(next((drawn / "ant").iterdir()))) == 2


def test_wrong_usage_is_status_2(in_process: Run, drawn: Path) -> None:
    for arguments, said in (
        (["--fp16", "--int8"], "give one"),
        (["--fp16", "--precision", "int8"], "give one"),
        (["--precision", "fp64"], "'fp64' is not one of fp32, fp16, int8"),
        (["--precision", "int8,int8"], "names one twice"),
        (["--calibration", "drawn"], "--calibration is for fp16 and int8, and neither is asked for"),
        (["--fp16", "--target", "cuda"], "--target is for int8"),
        (["--int8", "--io-fp16"], "--io-fp16 is for fp16"),
        (["--int8", "--max-drop", "1"], "--max-drop and --eval-data go together"),
        (["--int8", "--max-drop", "nan"], "'nan' is not a finite number"),
        (["--keep-float", "x"], "--keep-float is for fp16 and int8"),
    ):
        done = in_process("export", *QUICK, *arguments)
        assert done.returncode == 2, arguments
        assert said in done.stderr, (arguments, done.stderr)


def test_bad_input_is_refused_and_nothing_is_left(
    in_process: Run, refused: Refused, drawn: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    (tmp_path / "file").write_text("")
    int8 = ["export", *QUICK, "--int8", "--calibration"]
    for arguments, cause, remedy in (
        ([*int8, "absent"], "absent: is not a folder", "folder of pictures"),
        ([*int8, "empty"], "empty: holds no pictures", "folder of pictures"),
        ([*int8, "broken"], "none of which can be read", "folder of pictures"),
        ([*int8, drawn, "--eval-data", drawn, "--max-drop", 1], "are in the evaluation set too", "training pictures"),
        (
            [*int8, drawn, "--calibration-cache", "file"],
            "file: the calibration cache cannot be written",
            "another folder",
        ),
        ([*int8, drawn, "--keep-float", "nowhere"], "has no node 'nowhere'", "names of its nodes"),
        (["export", *QUICK, "--precision", "fp16,int8", "--output", "x"], "x: is no folder", "mkdir -p x"),
    ):
        refused(in_process(*arguments), cause, remedy)
        assert list(tmp_path.glob("*.onnx*")) == list(tmp_path.glob(".*onnx*")) == []


def test_calibrate_fills_a_folder(in_process: Run, refused: Refused, drawn: Path, tmp_path: Path) -> None:
    done = in_process("calibrate", "chosen", "--from", drawn, "--calibration-images", 6)
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "chosen").rglob("*.png"))
    assert [path.parent.name for path in pictures] == ["ant"] * 3 + ["bee"] * 3
    document = json.loads((tmp_path / "chosen" / "manifest.json").read_text("utf-8"))
    assert sorted(document["images"]) == [path.relative_to(tmp_path / "chosen").as_posix() for path in pictures]
    again = in_process("calibrate", "again", "--from", drawn, "--calibration-images", 6)
    assert again.returncode == 0
    assert json.loads((tmp_path / "again" / "manifest.json").read_text("utf-8")) == document
    refused(in_process("calibrate", "chosen", "--from", drawn), "chosen: exists already", "empty folder")
    refused(in_process("calibrate", drawn / "new", "--from", drawn), "drawn/new: lies in", "a folder beside it")
    refused(in_process("calibrate", "new", "--from", "absent"), "absent: is not a folder", "folder of pictures")
    assert not (tmp_path / "new").exists()


def test_calibrate_says_why_it_cannot_write(
    in_process: Run, refused: Refused, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "copyfile", copy)
    done = in_process("calibrate", "new", "--from", drawn)
    refused(done, "new: cannot be written: Permission denied", "Choose another place.")


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "new", "--from", "drawn"],
        ["calibrate", "drawn", "--from", "none"],
        ["calibrate", "new", "--from", "none", "--eval-data", "drawn"],
        ["evaluate", "none.onnx", "drawn"],
        ["evaluate", "none.onnx", "none", "--output", "drawn"],
    ],
)
def test_a_folder_that_may_not_be_read_is_no_wrong_usage(
    in_process: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # what root would not meet
    assert in_process(*arguments).returncode != 2
