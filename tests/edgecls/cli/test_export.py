from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="export needs the training packages")

from edgecls_runtime import manifest  # noqa: E402 - after the skip

if TYPE_CHECKING:
    from conftest import Refused, Run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses: no test downloads anything, and none waits for a server."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export that several tests look at: a small architecture, random weights, seven classes."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\neel\nfox\ngnu\n")
    (folder / "pre.json").write_text('{"resize_size": 72, "crop_size": [64, 64]}')
    arguments = ["export", "mobilenet_v3_small", "--weights", "none", "--labels", "labels.txt"]
    arguments += ["--preprocess", "pre.json", "--batch-size", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "edgecls", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_export_says_what_it_did(exported: Path) -> None:
    assert sorted(os.listdir(exported)) == ["labels.txt", "mobilenet_v3_small.onnx", "pre.json", "stderr", "stdout"]
    first, second = (exported / "stdout").read_text().splitlines()
    assert first.startswith("mobilenet_v3_small.onnx: mobilenet_v3_small fp32, ")
    assert second.startswith("parity: 64 pictures (drawn by edgecls ")
    notes = (exported / "stderr").read_text()
    assert "note: weights: random" in notes
    assert "parity ..." in notes


def test_the_file_says_what_it_is(exported: Path) -> None:
    document = manifest.read(exported / "mobilenet_v3_small.onnx")
    assert document is not None
    assert document.labels == ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
    assert (document.arch, document.batch_size, document.opset) == ("mobilenet_v3_small", 2, 18)
    assert document.preprocess.crop_size == (64, 64)
    assert document.source.weights == "random"
    assert len(document.source.sha256) == 64


def test_infer_runs_it(exported: Path, edgecls: Run, photo: Path) -> None:
    done = edgecls("infer", "--engine", exported / "mobilenet_v3_small.onnx", photo, "--format", "json")
    (record,) = json.loads(done.stdout)
    assert sum(item["score"] for item in record["predictions"]) == pytest.approx(5 / 7, abs=0.05)
    assert edgecls("verify", exported / "mobilenet_v3_small.onnx").returncode == 0


def test_an_existing_file_is_kept(exported: Path, in_process: Run, refused: Refused) -> None:
    target = exported / "mobilenet_v3_small.onnx"
    before = target.read_bytes()
    refused(in_process("export", "alexnet", "--weights", "none", "-o", target), "exists already", "--force")
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["vgg61"], "'vgg61' is not an architecture", "vgg16"),
        (["alexnet", "--weights", "none", "-o", "no/m.onnx"], "the folder no does not exist", "mkdir -p no"),
        (["alexnet", "--weights", "none", "-o", "."], ".: is a folder", "Name a file in it"),
        (["alexnet", "--weights", "gone.pth"], "gone.pth: no such file", "Check the path."),
        (["gone.pt"], "gone.pt: no such file", "Check the path."),
        (["text.pt"], "text.pt: is not a file of torch.save", "state dict"),
        (["alexnet", "--weights", "bomb.pth"], "bomb.pth: wants to run code on loading (posix.system)", "If you trust"),
        (["alexnet", "--weights", "v3.pth"], "v3.pth: does not fit alexnet: 16 missing", "It fits mobilenet_v3_small."),
        (["alexnet", "--weights", "none", "--parity-images", "empty"], "empty: holds no pictures", "Give a folder"),
        (["alexnet", "--weights", "none", "--labels", "gone.txt"], "gone.txt: cannot be read", "Check the path"),
    ],
)
def test_bad_input(
    in_process: Run,
    refused: Refused,
    offline: None,
    tmp_path: Path,
    arguments: list[str],
    cause: str,
    remedy: str,
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch exploded",)

    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    if "v3.pth" in arguments:
        from torchvision.models import mobilenet_v3_small

        torch.save(mobilenet_v3_small().state_dict(), tmp_path / "v3.pth")
    before = sorted(os.listdir(tmp_path))
    refused(in_process("export", *arguments), cause, remedy)
    assert sorted(os.listdir(tmp_path)) == before


def test_unreachable_weights_are_named(
    in_process: Run, refused: Refused, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    started = time.monotonic()
    done = in_process("export", "vgg16")
    refused(done, "vgg16-397923af.pth cannot be downloaded", "`--weights none`")
    assert "--weights FILE" in done.stderr
    assert time.monotonic() - started < 60
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["export"],
        ["export", "alexnet", "--batch-size", "0"],
        ["export", "alexnet", "--opset", "ten"],
        ["export", "alexnet", "--preprocess", "squash"],
        ["export", "run/best.pt", "--weights", "none"],
    ],
)
def test_wrong_usage_is_2(in_process: Run, arguments: list[str]) -> None:
    done = in_process(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: edgecls export")


def test_a_broken_converter_exits_with_1_and_leaves_no_file(
    in_process: Run, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of 1.2 million has the wrong sign."""
    import onnx
    from onnx import numpy_helper

    from edgecls_export import fp32

    right = fp32.onnx_from_torch

    def buggy(model: Any, path: Path, **options: Any) -> None:
        right(model, path, **options)
        proto = onnx.load(path)
        weight = next(item for item in proto.graph.initializer if numpy_helper.to_array(item).ndim == 4)
        values = numpy_helper.to_array(weight).copy()
        values.flat[abs(values).argmax()] *= -1
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(proto, path)

    monkeypatch.setattr(fp32, "onnx_from_torch", buggy)
    done = in_process("export", "squeezenet1_1", "--weights", "none")
    refused(done, "fp32 on CPUExecutionProvider: the artifact does not agree with PyTorch", "No file was written.")
    assert os.listdir(tmp_path) == []


def test_being_terminated_leaves_no_file(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "edgecls", "export", "squeezenet1_1", "--weights", "none"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "parity ..." not in process.stderr.readline():
        assert process.poll() is None
    assert list(tmp_path.glob(".squeezenet1_1.onnx.*"))  # half of it is there by now
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


def test_summary_and_models(in_process: Run, refused: Refused) -> None:
    done = in_process("summary", "alexnet")
    assert "61,100,840" in done.stdout
    assert "714.68 M" in done.stdout
    refused(in_process("summary", "alexnett"), "'alexnett' is not an architecture", "alexnet")
    listed = in_process("models").stdout
    for arch in ("alexnet", "vgg16", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"):
        assert f"\n{arch} " in listed
    assert "\nresnet50 " in in_process("models", "--all").stdout
