"""``edgecls export --tensorrt`` and ``--triton``; the engines are real ones, built ahead of time."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]

AHEAD = ("--tensorrt", "--flavour", "tensorrt-rtx", "--compute-capability", "8.9")
QUICK = ("squeezenet1_1", "--weights", "none", "--labels", "labels.txt", "--preprocess", "pre.json")


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'")


@pytest.fixture
def here(models: Path, tmp_path: Path) -> Path:
    """The folder that commands run in, with some models."""
    for name in ("tiny", "fixed4", "foreign", "two_inputs", "pixels", "embedded"):
        shutil.copy(models / f"{name}.onnx", tmp_path)
    return tmp_path


def test_an_onnx_file_becomes_an_engine(edgecls: Run, rtx: None, here: Path) -> None:
    before = set(os.listdir(here))
    done = edgecls("export", "tiny.onnx", *AHEAD, "--batch", "1,8,32")
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(here)) - before == {"tiny.engine", "tiny.engine.json"}
    first, second, layers, third = done.stdout.splitlines()
    assert first.startswith("tiny.engine: tiny fp32 for compute capability 8.9 (tensorrt_rtx ")
    assert second.startswith("batch: 1 to 32 (best 8); layers of the file: ")
    assert layers.startswith("layers of the engine: ")
    assert "1 correlation float32" in layers
    assert third == "golden outputs: not run here: no GPU; prove it on the device: edgecls verify tiny.engine"
    assert done.stderr == "tiny.engine: build ...\n"


def test_info_needs_no_tensorrt(in_process: Run, rtx: None, here: Path) -> None:
    assert in_process("export", "tiny.onnx", *AHEAD, "--tf32").returncode == 0
    blocked = "import sys; sys.modules['tensorrt_rtx'] = None; from edgecls.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", blocked, "info", "tiny.engine"]
    said = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout
    for expected in (
        "plan        as it was built\n",
        "ahead of time\n",
        "runs on     compute capability 8.9, ",
        "options     tf32 true, builder_flags TF32",
        "profile     1 to 8 (best 1)\n",
        "1 correlation float32",
        "rebuild     edgecls export tiny.onnx --tensorrt --flavour tensorrt-rtx --compute-capability 8.9 --tf32",
        "labels      5: ant, bee, cat, dog, eel\n",
    ):
        assert expected in said
    facts = json.loads(in_process("info", "tiny.engine", "--json").stdout)
    assert (facts["plan"], facts["manifest"]["arch"]) == ("as it was built", "tiny")
    (here / "tiny.engine").write_bytes(b"another")
    assert "NOT as it was built: do not run it" in in_process("info", "tiny.engine").stdout
    (here / "tiny.engine").unlink()
    assert "plan        cannot be read: No such file" in in_process("info", "tiny.engine").stdout
    done = in_process("info", "gone.engine")
    assert (done.returncode, done.stderr.count("error: gone.engine.json: is missing")) == (1, 1)


def test_an_architecture_becomes_engines_in_one_command(
    in_process: Run, rtx: None, drawn: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="export needs the training packages")
    from edgecls_runtime import engine_file, manifest

    pictures = ("--parity-images", drawn, "--calibration", drawn)
    done = in_process("export", *QUICK, *AHEAD, "--precision", "fp16,int8", *pictures)
    assert done.returncode == 0, done.stderr
    names = ["squeezenet1_1-fp16", "squeezenet1_1-int8"]
    suffixes = (".onnx", ".engine", ".engine.json")
    assert {f"{name}{suffix}" for name in names for suffix in suffixes} < set(os.listdir(tmp_path))
    for name, precision in zip(names, ("fp16", "int8"), strict=True):
        sidecar = engine_file.read(tmp_path / f"{name}.engine")
        assert sidecar.onnx == f"{name}.onnx"
        assert sidecar.manifest == manifest.read(tmp_path / f"{name}.onnx")
        assert sidecar.manifest is not None
        assert (sidecar.manifest.precision, sidecar.manifest.parity is not None) == (precision, True)
    assert sidecar.manifest.target == "tensorrt"
    lines = [line for line in done.stdout.splitlines() if ".engine: squeezenet1_1 " in line]
    assert len(lines) == 2


def test_the_onnx_file_of_an_engine_lies_beside_it(in_process: Run, rtx: None, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="export needs the training packages")
    (tmp_path / "out").mkdir()
    options = ("--parity-images", drawn, "--batch-size", "2", "--output", "out/my.engine")
    done = in_process("export", *QUICK, *AHEAD, *options)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["my.engine", "my.engine.json", "my.onnx"]
    assert "\nbatch: 2; layers of the file: " in done.stdout


def test_what_is_missing_is_found_before_the_conversion(
    in_process: Run, refused: Refused, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if "tensorrt" in name else right(name, *more)
    )
    for source in ("alexnet", "tiny.onnx"):
        done = in_process("export", source, "--tensorrt")
        refused(done, "neither tensorrt nor tensorrt-rtx is installed", "pip install 'edgecls[tensorrt]'")
        assert "..." not in done.stderr, "no step was begun"


def test_without_a_gpu(in_process: Run, refused: Refused, rtx: None, here: Path) -> None:
    from edgecls_export.gpu import find_gpu

    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    done = in_process("export", "alexnet", "--weights", "none", "--tensorrt", "--flavour", "tensorrt-rtx")
    refused(done, "this machine has no GPU", "--flavour tensorrt-rtx --compute-capability 8.9")


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["fixed4.onnx", *AHEAD, "--batch", "1,8,32"], "takes 4 pictures a run", "give --batch 4"),
        (["tiny.onnx", *AHEAD, "--fp16"], "tiny.onnx: is fp32, and fp16 was asked for", "CHECKPOINT --tensorrt --fp16"),
        (["foreign.onnx", *AHEAD, "--int8"], "does not say its precision", "Leave the precision out"),
        (["two_inputs.onnx", *AHEAD], "is no classifier", "one image in"),
        (["gone.onnx", *AHEAD], "gone.onnx: no such file", "Check the path"),
        (["tiny.onnx", *AHEAD, "-o", "tiny.bin"], "is not called an engine", "end in one of: .engine, .plan"),
        (["tiny.onnx", *AHEAD, "-o", "no/m.engine"], "the folder no does not exist", "mkdir -p no"),
        (["tiny.onnx", *AHEAD[:-1], "9.0"], "cannot build for compute capability 9.0", "It builds for 7.5"),
        (["tiny.onnx", *AHEAD, "--workspace-mib", "1"], "within workspace limit", "Raise --workspace-mib"),
        (["tiny.onnx", *AHEAD, "--triton", "r"], "Triton runs plans of tensorrt", "Serve the ONNX file"),
        (["alexnet", *AHEAD, "-o", "tiny.engine"], "tiny.onnx: exists already", "edgecls export tiny.onnx --tensorrt"),
        (["alexnet", *AHEAD, "-o", "."], ".: is a folder", "model.engine"),
        (["tiny.engine", *AHEAD, "--force"], "tiny.engine: is an engine already", "edgecls info tiny.engine"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_left(
    in_process: Run, refused: Refused, rtx: None, here: Path, arguments: list[str], cause: str, remedy: str
) -> None:
    before = sorted(os.listdir(here))
    refused(in_process("export", *arguments), cause, remedy)
    assert sorted(os.listdir(here)) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alexnet", "--tf32"], "--tf32 goes with --tensorrt."),
        (["alexnet", "--strip-plan"], "--strip-plan goes with --tensorrt."),
        (["alexnet", "--compute-capability", "8.9"], "--compute-capability goes with --tensorrt."),
        (["alexnet", "--batch", "1,2,4"], "--batch goes with --tensorrt or --triton"),
        (["alexnet", "--int8", "--target", "cpu", "--tensorrt"], "--target cpu contradicts --tensorrt."),
        (["alexnet", "--tensorrt", "--batch", "1,2,4", "--batch-size", "2"], "--batch-size 2 fixes"),
        (["alexnet", "--tensorrt", "--batch", "4,2,1"], "does not rise"),
        (["alexnet", "--tensorrt", "--batch", "1,2"], "is neither one number nor three"),
        (["alexnet", "--tensorrt", "--compute-capability", "89"], "'89' is no compute capability"),
        (["alexnet", "--tensorrt", "--compute-capability", "8.9,8.9"], "names one twice"),
        (["alexnet", "--tensorrt", "--builder-level", "6"], "--builder-level"),
        (
            ["alexnet", "--tensorrt", "--flavour", "tensorrt", "--compute-capability", "8.9"],
            "is for --flavour tensorrt-r",
        ),
        (["tiny.onnx"], "is an ONNX file already"),
        (["tiny.onnx", "--tensorrt", "--opset", "17"], "--opset goes with an ARCH or CHECKPOINT"),
        (["tiny.onnx", "--tensorrt", "--weights", "none"], "--weights goes with an ARCH or CHECKPOINT"),
    ],
)
def test_wrong_usage_is_status_2(in_process: Run, here: Path, arguments: list[str], said: str) -> None:
    done = in_process("export", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_a_triton_repository(edgecls: Run, in_process: Run, refused: Refused, here: Path) -> None:
    done = edgecls("export", "tiny.onnx", "--triton", "repository", "--batch", "1,4,16")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == "repository/tiny: onnxruntime_onnx, up to 16 a batch: 1/model.onnx, config.pbtxt, labels.txt\n"
    )
    assert "preferred_batch_size: [ 4, 16 ]" in (here / "repository" / "tiny" / "config.pbtxt").read_text()
    refused(in_process("export", "tiny.onnx", "--triton", "repository"), "repository/tiny: exists already", "--force")
    assert in_process("export", "tiny.onnx", "--triton", "repository", "--force").returncode == 0
    refused(
        in_process("export", "fixed4.onnx", "--triton", "repository", "--batch", "1,2,8"),
        "takes 4 pictures",
        "--batch 4",
    )
    assert os.listdir(here / "repository") == ["tiny"]


def test_a_repository_of_an_architecture(in_process: Run, refused: Refused, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="export needs the training packages")
    (tmp_path / "repository" / "squeezenet1_1").mkdir(parents=True)
    command = ("export", *QUICK, "--parity-images", drawn, "--triton")
    done = in_process(*command, "repository")
    refused(done, "repository/squeezenet1_1: exists already", "Choose another folder")
    assert "..." not in done.stderr, "no step was begun"
    assert in_process(*command, "new").returncode == 0
    assert (tmp_path / "new" / "squeezenet1_1" / "labels.txt").read_text() == "ant\nbee\n"
