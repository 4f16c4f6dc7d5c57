from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="checkpoints need the training packages")

from edgecls import checkpoint, models  # noqa: E402 - after the skip
from edgecls.checkpoint import Checkpoint  # noqa: E402
from edgecls.evaluation.predictor import open_predictor, predictor_from_module  # noqa: E402
from edgecls_runtime import Classifier, Preprocess  # noqa: E402
from edgecls_runtime.classifier import scores_from_logits  # noqa: E402
from edgecls_runtime.errors import CheckpointError, ModelError, ProviderError  # noqa: E402

BATCH = np.random.default_rng(5).normal(0, 1, (3, 3, 32, 32)).astype(np.float32)


def written(path: Path, **fields: object) -> Checkpoint:
    model = models.build("mobilenet_v3_small", num_classes=3)
    fields = {"labels": ("ant", "bee", "cat"), "preprocess": Preprocess(resize_size=36, crop_size=(32, 32))} | fields
    made = Checkpoint(arch="mobilenet_v3_small", state_dict=dict(model.state_dict()), **fields)  # type: ignore[arg-type]
    checkpoint.save(made, path)
    return made


def test_a_checkpoint_answers_as_its_model_does(tmp_path: Path) -> None:
    made = written(tmp_path / "m.pt", activation="sigmoid", thresholds=(0.1, 0.2, 0.3))
    with torch.inference_mode():
        expected = torch.sigmoid(made.build()(torch.from_numpy(BATCH))).numpy()
    with open_predictor(tmp_path / "m.pt") as predictor:
        np.testing.assert_allclose(predictor.scores(BATCH), expected, rtol=1e-4)
        assert (predictor.labels, predictor.preprocess) == (made.labels, made.preprocess)
        assert (predictor.task, predictor.thresholds) == ("multilabel", (0.1, 0.2, 0.3))
        assert str(predictor) == f"{tmp_path / 'm.pt'}: 3 labels, sigmoid, on cpu (torch {torch.__version__})"


@pytest.mark.parametrize("name", ["tiny", "fixed4", "multilabel"])
def test_an_artifact_answers_as_its_classifier_does(models: Path, name: str) -> None:
    classifier = Classifier.load(models / f"{name}.onnx")
    with open_predictor(models / f"{name}.onnx") as predictor:
        np.testing.assert_array_equal(predictor.run(BATCH), classifier.run(BATCH))
        np.testing.assert_array_equal(
            predictor.scores(BATCH), scores_from_logits(classifier.run(BATCH), classifier.activation)
        )
        assert predictor.labels == classifier.labels
        assert predictor.thresholds == classifier.thresholds
        assert predictor.task == ("multilabel" if name == "multilabel" else "single")


def test_scores_of_each_row_sum_to_one(models: Path) -> None:
    with open_predictor(models / "tiny.onnx") as predictor:
        scores = predictor.scores(BATCH)
        np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(scores[1:2], predictor.scores(BATCH[1:2]))


def test_a_foreign_artifact_takes_labels_and_preprocess(models: Path) -> None:
    labels, preprocess = ("a", "b", "c", "d", "e"), Preprocess(resize_size=40, crop_size=(32, 32))
    with open_predictor(models / "foreign.onnx", labels=labels, preprocess=preprocess, threads=1) as predictor:
        assert (predictor.labels, predictor.preprocess) == (labels, preprocess)


def test_arguments_for_the_other_kind_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for checkpoints"), open_predictor(models / "tiny.onnx", device="cuda"):
        pass
    for arguments in ({"provider": "cuda"}, {"threads": 1}, {"labels": ("a",)}, {"preprocess": Preprocess()}):
        with pytest.raises(ValueError, match="for artifacts"), open_predictor(tmp_path / "m.pt", **arguments):
            pass


def test_cuda_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ProviderError, match="device cuda: torch") as raised, open_predictor("gone.pt", device="cuda"):
        pass
    assert "--device cpu" in raised.value.remedy


def test_a_number_that_is_none_is_an_error(tmp_path: Path) -> None:
    made = written(tmp_path / "m.pt")
    model = made.build()
    with torch.no_grad():
        model.classifier[3].bias[1] = float("nan")
    predictor = predictor_from_module(model, made, name="epoch 3")
    with pytest.raises(ModelError, match="epoch 3: returned nan on cpu"):
        predictor.scores(BATCH)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(CheckpointError, match=r"is not a file of torch\.save"), open_predictor(tmp_path / "text.pt"):
        pass
    with pytest.raises(ModelError, match="is not a whole ONNX file"), open_predictor(tmp_path / "text.onnx"):
        pass


def test_nothing_global_is_left_changed(tmp_path: Path) -> None:
    written(tmp_path / "m.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = torch.backends.cudnn.allow_tf32, torch.get_num_threads(), torch.is_inference_mode_enabled()
        with open_predictor(tmp_path / "m.pt") as predictor:
            predictor.run(BATCH)
        assert (torch.backends.cudnn.allow_tf32, torch.get_num_threads(), torch.is_inference_mode_enabled()) == before
