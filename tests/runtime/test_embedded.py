"""Models that take pixels and name the best classes themselves, through every door of the runtime."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import FakeGpu, install, make_tensorrt, write_engine
from PIL import Image

from edgecls_runtime import Classifier, ManifestError, ModelError, Preprocess, golden, manifest
from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgecls_runtime.preprocess import load, normalize

PICTURES = [golden.draw_picture(number) for number in range(7)]
PIXELS = Preprocess(resize_size=36, crop_size=(32, 32), input_layout="NHWC-uint8")


@pytest.fixture(params=["pixels", "embedded"])
def embedded(models: Path, request: pytest.FixtureRequest) -> Path:
    return models / f"{request.param}.onnx"


def test_the_input_is_the_crops_pixels() -> None:
    found = load(PICTURES[0], PIXELS)
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)
    normalized = load(PICTURES[0], PIXELS.replace(input_layout="NCHW-float"))
    np.testing.assert_array_equal(normalize(found, PIXELS.replace(input_layout="NCHW-float")), normalized)
    row = PIXELS.new_batch(2)[1]
    assert load(PICTURES[0], PIXELS, out=row) is row
    np.testing.assert_array_equal(row, found)
    turned = load(PICTURES[0], PIXELS.replace(color="BGR"))
    np.testing.assert_array_equal(turned, found[..., ::-1])
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(load(PICTURES[0], PIXELS.replace(color="BGR"), out=row), found[..., ::-1])
    assert "std 0.229/0.224/0.225 (both in the graph), RGB" in str(PIXELS)
    assert "graph" not in str(Preprocess())


def test_every_way_to_ask_answers_as_the_plain_file(models: Path, embedded: Path) -> None:
    jpeg = Image.fromarray(PICTURES[1])
    with Classifier.load(models / "tiny.onnx") as plain, Classifier.load(embedded) as model:
        for picture in (*PICTURES, jpeg, PICTURES[2][::-1, ::-1]):
            assert model.predict(picture) == plain.predict(picture)
            np.testing.assert_array_equal(model.logits(picture), plain.logits(picture))
        assert model.predict(PICTURES[0], 2, color="BGR") == plain.predict(PICTURES[0], 2, color="BGR")
        assert model.predict_batch(PICTURES) == plain.predict_batch(PICTURES)
        for size in (1, 3):
            ours = [list(result.predictions) for result in model.predict_stream(PICTURES, batch_size=size)]
            theirs = [list(result.predictions) for result in plain.predict_stream(PICTURES, batch_size=size)]
            assert ours == theirs


def test_a_reload_changes_what_goes_in(models: Path, embedded: Path) -> None:
    with Classifier.load(models / "tiny.onnx") as model:
        expected = model.predict(PICTURES[0])
        for path in (embedded, models / "tiny.onnx", embedded):
            model.reload(path)
            assert model.predict(PICTURES[0]) == expected
            assert next(iter(model.predict_stream([PICTURES[0]]))).predictions == expected


def test_a_stream_goes_on_with_another_input(models: Path, embedded: Path) -> None:
    with Classifier.load(models / "tiny.onnx", threads=1) as model:
        expected = model.predict(PICTURES[0])
        for number, result in enumerate(model.predict_stream([PICTURES[0]] * 12, batch_size=2, workers=1, ahead=2)):
            assert result.predictions == expected
            model.reload((embedded, models / "tiny.onnx")[number % 2])


def test_normalized_floats_are_not_cut_to_integers(embedded: Path) -> None:
    with (
        Classifier.load(embedded) as model,
        pytest.raises(ValueError, match=r"batch is float32 .*, must be pixels: uint8"),
    ):
        model.run(load(PICTURES[0], PIXELS.replace(input_layout="NCHW-float"))[None])


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino(models: Path, embedded: Path) -> None:
    assert golden.verify(embedded, provider="openvino")
    with Classifier.load(models / "tiny.onnx") as plain, Classifier.load(embedded, provider="openvino") as model:
        for picture in PICTURES:
            np.testing.assert_allclose(model.logits(picture), plain.logits(picture), rtol=1e-5, atol=1e-6)


def test_an_engine_takes_pixels(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeGpu()
    install(monkeypatch, card, make_tensorrt(card))
    path = write_engine(
        tmp_path / "p.engine", models / "pixels.onnx", profile=(4, 4, 4), input_dtype="UINT8", sidecar={}
    )
    with Classifier.load(models / "tiny.onnx") as plain, Classifier.load(path) as model:
        assert str(model._model.backend.input) == "pixels: uint8 [batch, 32, 32, 3]"
        assert model.predict_batch(PICTURES) == plain.predict_batch(PICTURES)
    assert card.ran == [4, 4]
    assert card.violations == []


def failed(path: Path) -> list[str]:
    return [check.name for check in golden.verify(path).checks if not check.passed]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits, scores, indices: (logits, scores, indices[:, ::-1]),
        lambda logits, scores, indices: (logits, scores[:, ::-1], indices),
        lambda logits, scores, indices: (logits, scores * 1.001, indices),
        lambda logits, scores, indices: (logits, scores, indices + 1),
        lambda logits, scores, indices: (logits, scores, np.where(indices == 4, 1 << 40, indices)),
        lambda logits, scores, indices: (logits, scores, indices * 0 + indices[:, :1]),
        lambda logits, scores, indices: (logits, scores * np.nan, indices),
    ],
    ids=["worst first", "scores turned", "scores off", "shifted", "no class", "one class thrice", "no numbers"],
)
def test_best_classes_that_are_not_those_of_the_logits(
    models: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    assert failed(models / "embedded.onnx") == []
    right = OnnxRuntimeBackend.run_all

    def broken(self: OnnxRuntimeBackend, batch: np.ndarray) -> list[np.ndarray]:
        return list(wrong(*right(self, batch)))

    monkeypatch.setattr(OnnxRuntimeBackend, "run_all", broken)
    assert failed(models / "embedded.onnx") == ["top-k"]


def test_the_bound_of_scores_is_float32s_in_every_precision(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = manifest.read(models / "embedded.onnx")
    assert document is not None
    changed = dataclasses.replace(document, precision="int8")
    manifest.write(changed, models / "embedded.onnx", tmp_path / "m.onnx")
    assert "scores" in str(golden.verify(tmp_path / "m.onnx")).splitlines()[-1]
    assert "(allowed 0.0001)" in str(golden.verify(tmp_path / "m.onnx")).splitlines()[-1]


@pytest.mark.parametrize(
    ("source", "changes", "cause"),
    [
        ("tiny", {"preprocess": PIXELS}, "takes input: float32 [batch, 3, 32, 32], not uint8 pixels"),
        ("pixels", {"preprocess": PIXELS.replace(input_layout="NCHW-float")}, "not normalized float pictures"),
        ("pixels", {"preprocess": PIXELS.replace(crop_size=(3, 32))}, "crop_size (3, 32), the model takes (32, 32)"),
        ("pixels", {"top_k": manifest.TopK(k=3)}, "names the outputs logits, scores, indices, the model others"),
        ("embedded", {"top_k": manifest.TopK(k=3, scores_name="points")}, "names the outputs logits, points, indices"),
        ("embedded", {"top_k": None}, "is not a picture classifier: 3 outputs (logits, scores, indices)"),
        ("pixels", {"input_name": "input"}, "names ('input', 'logits'), the model has ('pixels', 'logits')"),
    ],
)
def test_a_manifest_that_belongs_to_another_file(
    models: Path, tmp_path: Path, source: str, changes: dict[str, Any], cause: str
) -> None:
    document = manifest.read(models / f"{source}.onnx")
    assert document is not None
    manifest.write(dataclasses.replace(document, **changes), models / f"{source}.onnx", tmp_path / "m.onnx")
    with pytest.raises((ManifestError, ModelError)) as caught:
        Classifier.load(tmp_path / "m.onnx")
    assert cause in caught.value.cause


def test_a_foreign_file_that_takes_pixels(models: Path, tmp_path: Path) -> None:
    from edgecls_runtime import onnx_file

    onnx_file.write_metadata(models / "pixels.onnx", tmp_path / "foreign.onnx", key="edgecls-", value="")
    content = (tmp_path / "foreign.onnx").read_bytes().replace(b"\x0a\x07edgecls\x12", b"\x0a\x07another\x12")
    (tmp_path / "foreign.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="takes pixels: uint8 .*, not normalized float pictures"):
        Classifier.load(tmp_path / "foreign.onnx")
    with (
        Classifier.load(tmp_path / "foreign.onnx", preprocess=PIXELS) as foreign,
        Classifier.load(models / "tiny.onnx") as plain,
    ):
        assert foreign.manifest is None
        np.testing.assert_array_equal(foreign.logits(PICTURES[0]), plain.logits(PICTURES[0]))
    with pytest.raises(ManifestError, match=r"crops to \(224, 224\), the model takes \(32, 32\)"):
        Classifier.load(tmp_path / "foreign.onnx", preprocess=Preprocess(input_layout="NHWC-uint8"))
