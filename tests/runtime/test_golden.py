from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import types
from pathlib import Path

import numpy as np
import pytest

from edgecls_runtime import golden, manifest, preprocess
from edgecls_runtime.errors import ManifestError, VerificationError
from edgecls_runtime.loading import load_model
from edgecls_runtime.manifest import Manifest

DIGEST = "fa787bc9668b8430083a03ac31c318732db83dae73128670e93ddc70867d916b"


def damaged(models: Path, tmp_path: Path, **changes: object) -> Path:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    manifest.write(dataclasses.replace(document, **changes), models / "tiny.onnx", tmp_path / "m.onnx")  # type: ignore[arg-type]
    return tmp_path / "m.onnx"


def failed(path: Path) -> list[str]:
    result = golden.verify(path)
    names = [check.name for check in result.checks if not check.passed]
    assert bool(result) is not bool(names)
    if names:
        with pytest.raises(VerificationError, match=f"{path.name}: {names[0]}: "):
            result.require()
    else:
        result.require()
    return names


def document(models: Path) -> Manifest:
    read = manifest.read(models / "tiny.onnx")
    assert read is not None
    return read


def test_the_pictures_never_change() -> None:
    """Exported models carry the answers to exactly these pictures."""
    pictures = [golden.draw_picture(number) for number in range(4)]
    assert {picture.shape for picture in pictures} == {(300, 400, 3)}
    assert all(60 < picture.mean() < 190 and picture.std() > 25 for picture in pictures)
    digest = hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
    assert digest == DIGEST


@pytest.mark.parametrize("name", ["tiny", "fixed4", "multilabel"])
def test_what_was_exported_verifies(models: Path, name: str) -> None:
    assert failed(models / f"{name}.onnx") == []


def test_one_changed_weight_is_found(models: Path, tmp_path: Path) -> None:
    content = bytearray((models / "tiny.onnx").read_bytes())
    content[len(content) // 3] ^= 0x40
    (tmp_path / "m.onnx").write_bytes(content)
    assert "graph" in failed(tmp_path / "m.onnx")


def test_shifted_labels_are_found(models: Path, tmp_path: Path) -> None:
    labels = document(models).labels
    assert failed(damaged(models, tmp_path, labels=(*labels[1:], labels[0]))) == ["contract"]


def test_a_swapped_normalization_is_found(models: Path, tmp_path: Path) -> None:
    right = document(models).preprocess
    assert failed(damaged(models, tmp_path, preprocess=right.replace(mean=right.std, std=right.mean))) == [
        "contract",
        "logits",
    ]


def test_an_engine_that_computes_something_else_is_found(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    right = OnnxRuntimeBackend.run
    monkeypatch.setattr(OnnxRuntimeBackend, "run", lambda self, batch: right(self, batch) * 1.001)
    assert failed(models / "tiny.onnx") == ["logits"]


def test_a_pillow_that_resizes_otherwise_is_found(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = preprocess.resize_and_crop

    def off_by_one(*arguments: object, **options: object) -> object:
        pixels = right(*arguments, **options).copy()  # type: ignore[arg-type]
        pixels[0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr(golden, "resize_and_crop", off_by_one)
    assert failed(models / "tiny.onnx") == ["pixels"]


def test_without_golden_outputs_there_is_nothing_to_verify(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="foreign.onnx: carries no manifest to verify it by"):
        golden.verify(models / "foreign.onnx")
    with pytest.raises(ManifestError, match="m.onnx: carries no golden outputs to verify it by"):
        golden.verify(damaged(models, tmp_path, golden=None))


def test_it_prints_a_line_a_check(models: Path) -> None:
    lines = str(golden.verify(models / "tiny.onnx")).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "graph"],
        ["ok", "contract"],
        ["ok", "pixels"],
        ["ok", "logits"],
    ]


@pytest.mark.parametrize("tf32", [False, True])
def test_an_engine_built_with_tf32_has_a_bound_of_its_own(monkeypatch, models, tf32):
    """What it would compute on a GPU: a thousandth of the largest logit off, far from float32, near for TF32."""
    plan = types.SimpleNamespace(has_option=lambda name: tf32 and name == "tf32")
    monkeypatch.setattr(golden, "is_engine", lambda _: True)
    monkeypatch.setattr(golden, "read_plan", lambda *_, **__: plan)
    monkeypatch.setattr(golden, "_compare_origin", lambda *_: golden.Check("plan", passed=True, found=""))
    with contextlib.closing(load_model(models / "tiny.onnx")) as model:
        run = model.run
        monkeypatch.setattr(model, "run", lambda batch: run(batch) * np.float32(1.001))
        assert bool(golden.verify_loaded(model)) is tf32
