"""MobileNetV2 with real weights on real photos: how much of it half precision and integers keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecls import checkpoint
from edgecls.weights import load_weights
from edgecls_export import Fp16, Fp32, Int8, ModelCard, export_all, pick_images
from edgecls_runtime import Classifier
from edgecls_runtime.manifest import Source


@pytest.mark.real_data
def test_mobilenet_v2_keeps_its_answers(real_data: Path, tmp_path: Path) -> None:
    loaded = load_weights(real_data / "weights" / "mobilenet_v2_imagenet.pth", arch="mobilenet_v2")
    card = ModelCard(
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        arch="mobilenet_v2",
        source=Source(weights=loaded.weights, sha256=checkpoint.state_dict_sha256(loaded.state_dict)),
    )
    folder = real_data / "imagenet_samples"
    images = pick_images(real_data / "imagenette" / "train", 300, evaluation=[folder])
    cache = tmp_path / "ranges"  # both schemes want the same
    precisions = {"fp32": Fp32(), "fp16": Fp16(), "cpu": Int8(images=images, cache=cache)}
    precisions["cpu-any"] = Int8(images=images, target="cpu-any", cache=cache)
    paths = {name: tmp_path / f"{name}.onnx" for name in precisions}
    export_all(loaded.build(), [(paths[name], precision) for name, precision in precisions.items()], card)

    truth = json.loads((folder / "labels.json").read_text())
    logits = {}
    for name, path in paths.items():
        with Classifier.load(path) as classifier:
            logits[name] = np.stack([classifier.logits(folder / file) for file in truth]).astype(np.float64)
    right = np.array(list(truth.values()))
    reference, size = logits["fp32"], paths["fp32"].stat().st_size
    print()
    for name, bounds in {
        # size, same top-1, mean cosine, drop of acc@1 in points (one photo is half a point)
        "fp16": (0.51, 0.995, 0.9999, 0.5),
        "cpu": (0.28, 0.96, 0.996, 0.5),
        "cpu-any": (0.28, 0.94, 0.993, 1.0),
    }.items():
        got = logits[name]
        cosine = ((got * reference).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(reference, axis=1)).mean()
        share = paths[name].stat().st_size / size
        same = (got.argmax(1) == reference.argmax(1)).mean()
        drop = 100 * ((reference.argmax(1) == right).mean() - (got.argmax(1) == right).mean())
        print(f"{name}: {share:.3f} of the size, top-1 {same:.1%}, mean cosine {cosine:.5f}, acc@1 {-drop:+.1f} points")
        assert (share <= bounds[0], same >= bounds[1], cosine >= bounds[2], drop <= bounds[3]) == (True,) * 4, name
