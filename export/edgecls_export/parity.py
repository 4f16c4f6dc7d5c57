"""PyTorch against the artifact, on the same pictures through the same preprocess."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecls_export.provenance import Flip, Parity
from edgecls_export.tolerance import TOLERANCES
from edgecls_runtime.errors import ParityError
from edgecls_runtime.preprocess import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["Reference", "compare", "require"]

Reference: TypeAlias = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"
"""PyTorch as a function of arrays: float32 [N, 3, H, W] to logits float32 [N, classes]."""

_BATCH_SIZES = (1, 8, 3)
"""Pictures a run, in turn: a free batch axis must give the same answers whatever its length."""

_FLIPS_KEPT = 20  # in the manifest; the agreement counts them all


def compare(
    reference: Reference,
    classifier: Classifier,
    images: Iterable[tuple[str, ImageSource]],
    *,
    preprocess: Preprocess,
    image_set: str,
) -> Parity:
    """Run both on the same pictures, each all its own way from the picture on, and measure how far apart they lie.

    Args:
        reference: PyTorch.
        classifier: the artifact, with the preprocess and labels that it carries.
        preprocess: what turns a picture into PyTorch's input.
        images: names and pictures.
        image_set: what they are, in words.

    Raises:
        ImageError: a picture cannot be read.
        ParityError: there are no pictures, or PyTorch's logits are all zero.
    """
    names: list[str] = []
    expected_parts: list[NDArray[np.float32]] = []
    got_parts: list[NDArray[np.float32]] = []
    rest = iter(images)
    for size in itertools.cycle(_BATCH_SIZES):
        chunk = list(itertools.islice(rest, size))
        if not chunk:
            break
        names += [name for name, _ in chunk]
        for parts, run, spec in (
            (expected_parts, reference, preprocess),
            (got_parts, classifier.run, classifier.preprocess),
        ):
            parts.append(run(np.stack([load(image, spec) for _, image in chunk])))
    if not names:
        raise ParityError(f"{image_set}: holds no pictures to compare on", "Give at least one; 64 are a fair sample.")
    expected, got = np.concatenate(expected_parts), np.concatenate(got_parts)
    if expected.shape != got.shape:
        raise ParityError(
            f"PyTorch returns logits {list(expected.shape)}, the artifact {list(got.shape)}",
            "The conversion is broken: please report the architecture.",
        )
    if not expected.any():  # as a zero-initialized head does: any graph that answers nothing would agree
        raise ParityError(
            f"PyTorch answers all {len(names)} pictures ({image_set}) with logits of 0, which prove nothing",
            "Give weights whose last layer is not all zeros.",
        )
    best_expected, best_got = _top(expected, 1)[:, 0], _top(got, 1)[:, 0]
    five = min(5, expected.shape[1])
    cosines = _cosine(expected, got)
    flips = [
        Flip(
            image=names[i],
            expected=classifier.labels[best_expected[i]],
            got=classifier.labels[best_got[i]],
            margin=float(expected[i, best_expected[i]] - expected[i, best_got[i]]),
        )
        for i in np.flatnonzero(best_expected != best_got)
    ]
    return Parity(
        images=len(names),
        image_set=image_set,
        provider=classifier.provider,
        max_abs_diff=float(np.abs(got - expected).max()),
        max_abs_logit=float(np.abs(expected).max()),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        top1_agreement=float((best_expected == best_got).mean()),
        top5_agreement=float((_top(expected, five) == _top(got, five)).all(axis=1).mean()),
        flips=tuple(flips[:_FLIPS_KEPT]),
    )


def require(parity: Parity, precision: str) -> None:
    """Raise a ParityError that names every bound of this precision that is broken.

    Raises:
        ParityError: the artifact may not leave.
    """
    bound = TOLERANCES[precision]
    mean = float("nan") if parity.mean_cosine is None else parity.mean_cosine
    # Negated, so that a NaN fails.
    broken = [
        text
        for text, held in (
            (
                f"max |diff| is {parity.max_relative_diff:.3g} of max |logit|, over {bound.max_relative_diff:g}",
                parity.max_relative_diff <= bound.max_relative_diff,
            ),
            (f"cosine is {parity.min_cosine:.7f}, under {bound.min_cosine:g}", parity.min_cosine >= bound.min_cosine),
            (f"mean cosine is {mean:.7f}, under {bound.min_mean_cosine:g}", mean >= bound.min_mean_cosine),
            (
                f"top-1 agreement is {parity.top1_agreement:.2%}, under {bound.min_top1_agreement:.2%}",
                _enough(parity.top1_agreement, bound.min_top1_agreement, parity.images),
            ),
            (
                f"top-5 agreement is {parity.top5_agreement:.2%}, under {bound.min_top5_agreement:.2%}",
                _enough(parity.top5_agreement, bound.min_top5_agreement, parity.images),
            ),
        )
        if not held
    ]
    if not broken:
        return
    flips = "".join(
        f"; {flip.image}: {flip.expected} became {flip.got} (margin {flip.margin:.3g})" for flip in parity.flips[:3]
    )
    remedy = {
        "fp32": "Another --opset or torch version may convert it rightly; please report the architecture.",
        "fp16": "Keep the layers that suffer in float32, or export fp32.",
        "int8": "Calibrate on more pictures, and such as the model meets; try another method; keep layers in float.",
    }[precision]
    raise ParityError(
        f"{precision} on {parity.provider}: the artifact does not agree with PyTorch on {parity.images} pictures "
        f"({parity.image_set}): {'; '.join(broken)}{flips}",
        f"No file was written. {remedy}",
    )


def _enough(agreement: float, bound: float, images: int) -> bool:
    """Return whether no more pictures differ than the bound allows, rounded up to a whole picture; NaN fails."""
    return (1 - agreement) * images <= math.ceil((1 - bound) * images - 1e-9) + 1e-9


def _top(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the largest logits, best first, equal ones by index: [N, count]."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine similarity of each row; 0 where one side is all zeros."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)  # random MobileNetV3 logits are 1e-10: their squares vanish
    product = (a64 * b64).sum(axis=1)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    result: NDArray[np.float64] = np.divide(product, norms, out=np.zeros_like(product), where=norms > 0)
    return result
