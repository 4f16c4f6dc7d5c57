from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgecls_export import parity
from edgecls_export.provenance import Parity
from edgecls_runtime import Classifier
from edgecls_runtime.errors import ParityError

PERFECT = Parity(
    images=64,
    image_set="drawn",
    provider="CPUExecutionProvider",
    max_abs_diff=1e-6,
    max_abs_logit=10.0,
    min_cosine=1.0,
    mean_cosine=1.0,
    top1_agreement=1.0,
    top5_agreement=1.0,
)
Pictures = list[tuple[str, np.ndarray]]


@pytest.fixture
def tiny(models: Path) -> Classifier:
    return Classifier.load(models / "tiny.onnx")


def test_a_model_agrees_with_itself(tiny: Classifier, pictures: Pictures) -> None:
    sizes: list[int] = []

    def reference(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return tiny.run(batch)

    found = parity.compare(reference, tiny, iter(pictures), preprocess=tiny.preprocess, image_set="golden")
    assert (found.images, found.image_set, found.max_abs_diff, found.flips) == (7, "golden", 0, ())
    assert (found.top1_agreement, found.top5_agreement) == (1, 1)
    assert found.min_cosine == pytest.approx(1)
    assert sizes == [1, 6]
    parity.require(found, "fp32")


def test_numbers_are_what_they_are_called(tiny: Classifier, pictures: Pictures) -> None:
    """Against a reference whose difference is known: one logit of the third picture is raised to the top."""
    calls = 0

    def reference(batch: np.ndarray) -> np.ndarray:
        nonlocal calls
        logits = tiny.run(batch).copy()
        for row in logits:
            if calls == 2:
                row[1] = row.max() + 3
            calls += 1
        return logits

    found = parity.compare(reference, tiny, pictures, preprocess=tiny.preprocess, image_set="golden")
    logits = tiny.logits(pictures[2][1])
    changed = logits.copy()
    changed[1] = logits.max() + 3
    assert found.max_abs_diff == pytest.approx(abs(changed - logits).max())
    cosine = float(changed @ logits / np.linalg.norm(changed) / np.linalg.norm(logits))
    assert found.min_cosine == pytest.approx(cosine, rel=1e-5)
    assert found.top1_agreement == pytest.approx(6 / 7)
    assert found.top5_agreement == pytest.approx(6 / 7)
    (flip,) = found.flips
    assert (flip.image, flip.expected, flip.got) == ("golden 2", "bee", tiny.labels[logits.argmax()])
    assert flip.margin == pytest.approx(3)
    with pytest.raises(ParityError, match="top-1 agreement is 85.71%.*golden 2: bee became .* .margin 3"):
        parity.require(found, "fp32")


def test_a_preprocess_that_differs_is_seen(tiny: Classifier, pictures: Pictures) -> None:
    swapped = tiny.preprocess.replace(mean=tiny.preprocess.std, std=tiny.preprocess.mean)
    found = parity.compare(tiny.run, tiny, pictures, preprocess=swapped, image_set="golden")
    assert found.max_relative_diff > 0.01
    with pytest.raises(ParityError):
        parity.require(found, "fp32")


def test_tiny_logits_are_judged_by_their_own_size(tiny: Classifier, pictures: Pictures) -> None:
    """A randomly initialized MobileNetV3 answers with 1e-10; an absolute bound would let anything pass."""

    class Shrunk:
        labels, preprocess, provider = tiny.labels, tiny.preprocess, tiny.provider

        def run(self, batch: np.ndarray) -> np.ndarray:
            return tiny.run(batch) * np.float32(1e-10)

    def wrong(batch: np.ndarray) -> np.ndarray:
        return tiny.run(batch) * np.float32(1.01e-10)

    small = Shrunk()
    right = parity.compare(small.run, small, pictures, preprocess=tiny.preprocess, image_set="g")  # type: ignore[arg-type]
    parity.require(right, "fp32")
    found = parity.compare(wrong, small, pictures, preprocess=tiny.preprocess, image_set="g")  # type: ignore[arg-type]
    assert found.max_abs_diff < 1e-9
    with pytest.raises(ParityError, match="max .diff. is 0.0099"):
        parity.require(found, "fp32")


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"max_abs_diff": 1.01e-3}, "max |diff| is 0.000101 of max |logit|, over 0.0001"),
        ({"max_abs_diff": float("nan")}, "max |diff| is nan"),
        ({"max_abs_logit": 0.0}, "max |diff| is inf"),
        ({"min_cosine": 0.99}, "cosine is 0.9900000, under 0.999999"),
        ({"min_cosine": float("nan")}, "cosine is nan"),
        ({"mean_cosine": 0.99}, "mean cosine is 0.9900000, under 0.999999"),
        ({"mean_cosine": None}, "mean cosine is nan"),
        ({"top1_agreement": 63 / 64}, "top-1 agreement is 98.44%, under 100.00%"),
        ({"top5_agreement": 63 / 64}, "top-5 agreement is 98.44%, under 100.00%"),
    ],
)
def test_every_bound_holds(changes: dict[str, float], broken: str) -> None:
    parity.require(PERFECT, "fp32")
    with pytest.raises(ParityError) as raised:
        parity.require(dataclasses.replace(PERFECT, **changes), "fp32")
    assert broken in raised.value.cause
    assert raised.value.cause.count(" is ") == 1  # no other bound is blamed


def test_a_share_allows_whole_pictures() -> None:
    """One of 64 is 98.4 %, under fp16's 99.5 %, and no proof of anything."""
    for images, differing, passes in ((64, 1, True), (64, 2, False), (200, 1, True), (200, 2, False), (1000, 5, True)):
        found = dataclasses.replace(PERFECT, images=images, top1_agreement=1 - differing / images)
        if passes:
            parity.require(found, "fp16")
        else:
            with pytest.raises(ParityError, match="top-1 agreement is"):
                parity.require(found, "fp16")


def test_no_pictures_prove_nothing(tiny: Classifier) -> None:
    with pytest.raises(ParityError, match="my folder: holds no pictures"):
        parity.compare(tiny.run, tiny, [], preprocess=tiny.preprocess, image_set="my folder")


def test_zeros_prove_nothing(tiny: Classifier, pictures: Pictures) -> None:
    """A randomly initialized Vision Transformer has a head of zeros."""
    with pytest.raises(ParityError, match="PyTorch answers all 7 pictures .golden. with logits of 0"):
        parity.compare(
            lambda batch: tiny.run(batch) * 0, tiny, pictures, preprocess=tiny.preprocess, image_set="golden"
        )


def test_another_number_of_classes_is_an_error(tiny: Classifier, pictures: Pictures) -> None:
    with pytest.raises(ParityError, match=r"PyTorch returns logits \[7, 4\], the artifact \[7, 5\]"):
        parity.compare(
            lambda batch: tiny.run(batch)[:, :4], tiny, pictures, preprocess=tiny.preprocess, image_set="golden"
        )
