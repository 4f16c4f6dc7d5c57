from __future__ import annotations

import dataclasses
import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from edgecls_runtime import Classifier, Preprocess, manifest
from edgecls_runtime.classifier import scores_from_logits
from edgecls_runtime.errors import ImageError, ManifestError, ModelError, ProviderError
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.preprocess import load

PICTURES = [draw_picture(number) for number in range(7)]


@pytest.fixture
def tiny(models: Path) -> Classifier:
    return Classifier.load(models / "tiny.onnx")


def test_predict_is_softmax_of_the_engine_on_the_preprocessed_picture(models: Path, tiny: Classifier) -> None:
    session = onnxruntime.InferenceSession(str(models / "tiny.onnx"), providers=["CPUExecutionProvider"])
    for picture in PICTURES:
        batch = load(picture, tiny.preprocess)[None]
        logits = session.run(None, {"input": batch})[0][0].astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-expected)
        predictions = tiny.predict(picture)
        assert [item.index for item in predictions] == list(order)
        assert [item.label for item in predictions] == [tiny.labels[index] for index in order]
        np.testing.assert_allclose([item.score for item in predictions], expected[order], rtol=1e-5)
        np.testing.assert_array_equal(tiny.logits(picture), logits.astype(np.float32))


def test_top_k(tiny: Classifier) -> None:
    every = tiny.predict(PICTURES[0], top_k=99)
    assert len(every) == 5
    assert tiny.predict(PICTURES[0], top_k=2) == every[:2]
    with pytest.raises(ValueError, match="top_k is 0"):
        tiny.predict(PICTURES[0], top_k=0)


def test_equal_scores_go_by_index(tiny: Classifier) -> None:
    logits = np.array([1, 3, 2, 3, 3], np.float32)
    assert [item.index for item in tiny._model.top(logits, 2)] == [1, 3]
    assert [item.index for item in tiny._model.top(logits, 4)] == [1, 3, 4, 2]


def test_the_best_of_many_are_those_of_all_scores_sorted(tiny: Classifier) -> None:
    logits = np.random.default_rng(0).integers(-40, 40, 1000).astype(np.float32) / 8  # hundreds of them are equal
    model = dataclasses.replace(tiny._model, labels=tuple(map(str, range(1000))))
    for activation in ("softmax", "sigmoid", "identity"):
        every = dataclasses.replace(model, activation=activation).top(logits, 1000)
        scores = scores_from_logits(logits, activation)
        assert [item.index for item in every] == list(np.argsort(-logits, kind="stable"))
        np.testing.assert_allclose([item.score for item in every], scores[[item.index for item in every]], rtol=1e-6)
        for top_k in (1, 5, 33):
            assert dataclasses.replace(model, activation=activation).top(logits, top_k) == every[:top_k]


def test_large_logits_do_not_overflow(tiny: Classifier) -> None:
    best = tiny._model.top(np.array([1e30, -1e30, 0, 0, 0], np.float32), 1)[0]
    assert (best.index, best.score) == (0, 1.0)


def test_a_batch_answers_as_its_pictures_do(tiny: Classifier) -> None:
    together = tiny.predict_batch(PICTURES)
    assert len(together) == len(PICTURES)
    for picture, predictions in zip(PICTURES, together, strict=True):
        alone = tiny.predict(picture)
        assert [item.index for item in predictions] == [item.index for item in alone]
        np.testing.assert_allclose([p.score for p in predictions], [p.score for p in alone], rtol=1e-5)
    assert tiny.predict_batch([]) == []


def test_a_fixed_batch_size_is_filled_up(models: Path, tiny: Classifier) -> None:
    with Classifier.load(models / "fixed4.onnx") as fixed:
        assert fixed.batch_size == 4
        for count in (0, 1, 4, 7):
            expected = [[item.index for item in row] for row in tiny.predict_batch(PICTURES[:count])]
            assert [[item.index for item in row] for row in fixed.predict_batch(PICTURES[:count])] == expected
        np.testing.assert_allclose(fixed.logits(PICTURES[0]), tiny.logits(PICTURES[0]), rtol=1e-5)


def test_multilabel_returns_the_labels_over_their_thresholds(models: Path) -> None:
    with Classifier.load(models / "multilabel.onnx") as classifier:
        for picture in PICTURES:
            logits = classifier.logits(picture).astype(np.float64)
            scores = 1 / (1 + np.exp(-logits))
            expected = [i for i in np.argsort(-scores) if scores[i] >= (0.5, 0.5, 0.5, 0.5, 0.99)[i]]
            got = classifier.predict(picture)
            assert [item.index for item in got] == expected
            np.testing.assert_allclose([item.score for item in got], scores[expected], rtol=1e-5)
        assert classifier._model.top(np.array([-800, -1, -1, -1, 4], np.float32), 5) == ()
        assert [p.index for p in classifier._model.top(np.array([800, -1, -1, -1, 5], np.float32), 5)] == [0, 4]


def test_threads_get_the_answers_of_one(tiny: Classifier) -> None:
    expected = [tiny.predict(picture) for picture in PICTURES]
    with ThreadPoolExecutor(16) as pool:
        for round_of_answers in pool.map(lambda _: [tiny.predict(picture) for picture in PICTURES], range(64)):
            assert round_of_answers == expected


def test_a_closed_classifier_says_so(models: Path) -> None:
    with Classifier.load(models / "tiny.onnx") as classifier:
        classifier.predict(PICTURES[0])
    with pytest.raises(ModelError, match="tiny.onnx: the classifier is closed"):
        classifier.predict(PICTURES[0])
    classifier.close()  # twice does no harm


def test_a_bad_picture_is_an_image_error(tiny: Classifier) -> None:
    with pytest.raises(ImageError, match="is empty"):
        tiny.predict(io.BytesIO())
    with pytest.raises(ImageError, match="over the limit of 10"):
        Classifier.load(tiny.path, max_pixels=10).predict(Image.new("RGB", (4, 4)))


def test_foreign_models_run_on_what_is_said_and_assumed(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Classifier.load(models / "foreign.onnx") as guessed:
        assert guessed.preprocess == Preprocess(resize_size=37, crop_size=(32, 32))
        assert guessed.predict(PICTURES[0], 1)[0].label.startswith("class ")
        assert [text.split(":")[0] for text in guessed.assumptions] == [
            "no labels given for 5 classes",
            "no preprocess given",
            "one label a picture",
        ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    own = Classifier.load(models / "tiny.onnx")
    with Classifier.load(models / "foreign.onnx", labels=own.labels, preprocess=own.preprocess) as told:
        assert len(told.assumptions) == 1
        assert told.predict(PICTURES[0]) == own.predict(PICTURES[0])


def test_a_softmax_in_the_graph_is_not_applied_twice(models: Path) -> None:
    own = Classifier.load(models / "tiny.onnx")
    with Classifier.load(models / "foreign_softmax.onnx", labels=own.labels, preprocess=own.preprocess) as foreign:
        got, expected = foreign.predict(PICTURES[1]), own.predict(PICTURES[1])
        assert [item.label for item in got] == [item.label for item in expected]
        np.testing.assert_allclose([item.score for item in got], [item.score for item in expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("rank3", "is not a picture classifier: takes picture: float32"),
        ("two_inputs", r"is not a picture classifier: 2 inputs \(a, b\)"),
        ("unknown_classes", "is not a picture classifier: returns logits: float32"),
        ("external", "keeps weights in 'external.data', which is missing"),
        ("no_such_model", "no such file"),
    ],
)
def test_what_is_no_classifier_is_refused(models: Path, name: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        Classifier.load(models / f"{name}.onnx")


def test_numbers_that_are_none_are_an_error(models: Path) -> None:
    with Classifier.load(models / "nan.onnx") as classifier, pytest.raises(ModelError, match="returned nan on CPU"):
        classifier.predict(PICTURES[0])


def test_an_engine_that_returns_another_number_of_classes_is_an_error(
    tiny: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny._model.backend, "run", lambda batch: np.zeros((len(batch), 6), np.float32))
    with pytest.raises(ManifestError, match="tiny.onnx: returned 6 outputs for 5 labels"):
        tiny.predict(PICTURES[0])


def test_labels_and_preprocess_must_fit_a_foreign_model(models: Path) -> None:
    with pytest.raises(ManifestError, match="2 labels for 5 outputs"):
        Classifier.load(models / "foreign.onnx", labels=["a", "b"])
    with pytest.raises(ManifestError, match=r"the preprocess crops to \(224, 224\), the model takes \(32, 32\)"):
        Classifier.load(models / "foreign.onnx", preprocess=Preprocess())
    with pytest.raises(ModelError, match="carries its own labels"):
        Classifier.load(models / "tiny.onnx", labels=["a", "b", "c", "d", "e"])


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"labels": ("a", "b")}, "2 labels for 5 outputs"),
        ({"input_name": "x"}, "names .'x', 'logits'., the model has .'input', 'logits'."),
        ({"preprocess": Preprocess()}, r"crop_size \(224, 224\), the model takes \(32, 32\)"),
        ({"batch_size": 4}, "batch_size 4, the model takes batch"),
    ],
)
def test_a_manifest_that_contradicts_its_model_is_refused(
    models: Path, tmp_path: Path, changes: dict[str, object], cause: str
) -> None:
    import dataclasses

    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    wrong = dataclasses.replace(document, golden=None, **changes)  # type: ignore[arg-type]
    manifest.write(wrong, models / "tiny.onnx", tmp_path / "m.onnx")
    with pytest.raises(ManifestError, match=f"m.onnx: manifest: {cause}"):
        Classifier.load(tmp_path / "m.onnx")


def test_providers_are_strict(models: Path) -> None:
    with pytest.raises(ProviderError, match="provider 'tpu': is unknown"):
        Classifier.load(models / "tiny.onnx", provider="tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(
            ProviderError, match="provider cuda: onnxruntime .* has only .*CPUExecutionProvider\nInstall"
        ):
            Classifier.load(models / "tiny.onnx", provider="cuda")


def test_a_provider_that_falls_back_is_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA wheel without a working CUDA: listed as available, and then a session on the CPU."""
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers, **_: real(path, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(ProviderError, match="asked for CUDAExecutionProvider, got CPUExecutionProvider"):
        Classifier.load(models / "tiny.onnx", provider="cuda")


def test_a_damaged_graph_is_named(models: Path, tmp_path: Path) -> None:
    content = (models / "tiny.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content.replace(b"GlobalAveragePool", b"GlobalAbsurdities"))
    with pytest.raises(ModelError, match="m.onnx: onnxruntime cannot load it: .*GlobalAbsurdities"):
        Classifier.load(tmp_path / "m.onnx")


def test_it_names_itself(tiny: Classifier) -> None:
    assert repr(tiny).endswith(f"5 classes on CPUExecutionProvider (onnxruntime {onnxruntime.__version__})>")
    assert str(tiny.predict(PICTURES[0])[0]).strip().endswith("%  " + tiny.predict(PICTURES[0])[0].label)


def test_frames_of_the_other_order_get_the_same_answers_however_they_are_asked_for(tiny: Classifier) -> None:
    rgb = PICTURES[0]
    bgr = rgb[..., ::-1]
    assert not np.array_equal(tiny.logits(bgr), tiny.logits(rgb))
    np.testing.assert_array_equal(tiny.logits(bgr, color="BGR"), tiny.logits(rgb))
    assert tiny.predict(bgr, color="BGR") == tiny.predict(rgb)
    assert tiny.predict_batch([bgr, bgr], color="BGR") == tiny.predict_batch([rgb, rgb])
    (result,) = tiny.predict_stream([bgr], color="BGR")
    assert result.predictions == tiny.predict(rgb)


def test_fast_decoding_is_asked_for_shown_and_used_everywhere(models: Path, tiny: Classifier) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PICTURES[2]).resize((1200, 900), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    photo = buffer.getvalue()
    with Classifier.load(models / "tiny.onnx", decode="fast") as fast:
        assert repr(fast).endswith("), decode fast>")
        assert "decode" not in repr(tiny)
        answers = [
            fast.predict(photo),
            fast.predict_batch([photo])[0],
            *(r.predictions for r in fast.predict_stream([photo])),
        ]
        expected = fast.run(load(photo, fast.preprocess, fast=True)[None])[0]
        np.testing.assert_array_equal(fast.logits(photo), expected)
        assert answers[0] == answers[1] == answers[2] == fast._model.top(expected, 5)
        assert answers[0] != tiny.predict(photo)
        fast.reload(models / "tiny.onnx")
        assert fast.predict(photo) == answers[0]
    with pytest.raises(ValueError, match="decode is 'quick', must be"):
        Classifier.load(models / "tiny.onnx", decode="quick")  # type: ignore[arg-type]
