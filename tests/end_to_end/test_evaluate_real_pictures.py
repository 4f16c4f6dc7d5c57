"""The same numbers for PyTorch and for the exported file, on photos whose folders have WordNet's names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecls import checkpoint, weights
from edgecls.evaluation.data import find_evaluation_data, read_class_map
from edgecls.evaluation.figures import Evaluation, evaluate
from edgecls.evaluation.predictor import open_predictor
from edgecls_export import ModelCard, export_onnx
from edgecls_runtime.manifest import Source

# WordNet's ids of Imagenette's ten classes, and ImageNet's names of them.
CLASS_MAP = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@pytest.mark.real_data
def test_checkpoint_and_artifact_score_the_same(real_data: Path, tmp_path: Path) -> None:
    loaded = weights.resolve("mobilenet_v2", str(real_data / "weights" / "mobilenet_v2_imagenet.pth"))
    checkpoint.save(loaded, tmp_path / "m.pt")
    card = ModelCard(
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        arch=loaded.arch,
        source=Source(weights="m.pt", sha256="0" * 64),
    )
    export_onnx(loaded.build(), tmp_path / "m.onnx", card)
    (tmp_path / "map.json").write_text(json.dumps(CLASS_MAP))

    done: dict[str, Evaluation] = {}
    for name in ("m.pt", "m.onnx"):
        with open_predictor(tmp_path / name) as predictor:
            class_map = read_class_map(tmp_path / "map.json", predictor.labels)
            data = find_evaluation_data(real_data / "imagenette", predictor.labels, class_map=class_map)
            done[name] = evaluate(predictor, data.samples[::5], batch_size=16)
    ours, artifact = done["m.pt"], done["m.onnx"]
    print(f"\nMobileNetV2 on {ours.images} photos of ten classes: {ours.metrics}")
    assert ours.images == 80
    assert sum(item.images == 8 for item in ours.per_class) == 10
    assert ours.metrics["acc@1"] > 55  # labels off by one, or another preprocess, give far less
    for metric in ("acc@1", "acc@5", "f1"):
        assert ours.metrics[metric] == pytest.approx(artifact.metrics[metric]), metric
    assert ours.metrics["ece"] == pytest.approx(artifact.metrics["ece"], abs=0.01)
    np.testing.assert_allclose(ours.predictions.scores, artifact.predictions.scores, atol=1e-4)
    for row in range(ours.images):
        assert ours.predictions.ranked(row, 5) == artifact.predictions.ranked(row, 5)
    assert [mistake.path for mistake in ours.mistakes] == [mistake.path for mistake in artifact.mistakes]
