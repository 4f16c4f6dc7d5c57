"""Each first-class architecture, exported and compared on 64 real photos: the figures that are promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecls import checkpoint, models
from edgecls.weights import resolve
from edgecls_export.drawn import draw_pictures
from edgecls_export.pipeline import ModelCard, export_onnx
from edgecls_export.provenance import parity_of
from edgecls_runtime import Classifier, golden
from edgecls_runtime.manifest import Source


@pytest.mark.real_data
@pytest.mark.parametrize("arch", models.FIRST_CLASS)
def test_parity_on_photos(arch: str, real_data: Path, tmp_path: Path) -> None:
    weights = str(real_data / "weights" / "mobilenet_v2_imagenet.pth") if arch == "mobilenet_v2" else "none"
    loaded = resolve(arch, weights)
    model = loaded.build()
    photos = sorted((real_data / "imagenet_samples").glob("*.JPEG"))[::3]
    card = ModelCard(
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        arch=arch,
        source=Source(weights=loaded.weights, sha256=checkpoint.state_dict_sha256(loaded.state_dict)),
    )
    target = tmp_path / f"{arch}.onnx"
    report = export_onnx(model, target, card, images=[(path.name, path) for path in photos], image_set="photos")
    parity = parity_of(report.manifest)
    assert parity is not None
    print(f"\n{arch}: {parity}")
    assert parity.images == len(photos) >= 64
    # The promise is 1e-4 x max(1, max |logit|); the gate holds it without the floor of 1, which is stricter for
    # random weights, whose logits are as small as 1e-9.
    assert parity.max_abs_diff <= 1e-4 * parity.max_abs_logit
    assert parity.top1_agreement == parity.top5_agreement == 1
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert golden.verify(target)
    with Classifier.load(target) as classifier:
        assert len(classifier.predict(photos[0])) == 5


def test_any_other_classifier_of_torchvision(tmp_path: Path) -> None:
    """One with attention, another crop (256) and another filter (bicubic) than the first-class ones."""
    loaded = resolve("swin_v2_t", "none")
    card = ModelCard(
        labels=loaded.labels,
        preprocess=loaded.preprocess,
        arch="swin_v2_t",
        source=Source(weights="random", sha256="0" * 64),
    )
    report = export_onnx(loaded.build(), tmp_path / "m.onnx", card, images=draw_pictures(16))
    parity = parity_of(report.manifest)
    assert parity is not None
    assert parity.top5_agreement == 1
