"""How far an artifact may stray from PyTorch: one table, a reason for each row.

Parity asks whether the conversion kept the model. Whether a device then computes what was proven is another question,
with bounds of its own: `edgecls_runtime.tolerance`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TOLERANCES", "Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the logits of an artifact.

    Attributes:
        max_relative_diff: largest ``max |difference| / max |reference logit|`` over all pictures.
        min_cosine: smallest cosine similarity of any picture's logits.
        min_mean_cosine: smallest mean of the cosines.
        min_top1_agreement: smallest share of pictures with the same best class; the number of others that this allows
            is rounded up to a whole picture, so that one of 64 is not 98.4 % under 99.5 %.
        min_top5_agreement: likewise, with the same five best classes in the same order.
        reason: where the bounds come from.
    """

    max_relative_diff: float
    min_cosine: float
    min_mean_cosine: float
    min_top1_agreement: float
    min_top5_agreement: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(
        max_relative_diff=1e-4,
        min_cosine=0.999999,
        min_mean_cosine=0.999999,
        min_top1_agreement=1.0,
        min_top5_agreement=1.0,
        reason="Both sides compute in float32 (TF32 off) and differ in the order of additions alone: 1e-6 of the "
        "largest logit was measured on the five first-class architectures, so 1e-4 is a broken graph, not noise.",
    ),
    "fp16": Tolerance(
        max_relative_diff=0.02,
        min_cosine=0.9995,
        min_mean_cosine=0.9999,
        min_top1_agreement=0.995,
        min_top5_agreement=0.8,
        reason="11 bits of mantissa, rounded after each of some hundred nodes: MobileNetV2 lies 0.003 of the largest "
        "logit off on photos and 0.005 on drawn pictures, smallest cosine 0.9999, and 4 to 8 % of the pictures have "
        "nearly equal classes that change places. The rest is room for engines that add in half instead of float32. "
        "A value that overflowed, or weights that vanished, are far beyond.",
    ),
    "int8": Tolerance(
        max_relative_diff=0.5,
        min_cosine=0.6,
        min_mean_cosine=0.95,
        min_top1_agreement=0.5,
        min_top5_agreement=0.0,
        reason="Wide, because this gate asks whether the graph is broken; whether it is good enough, labelled pictures "
        "say. MobileNetV2 has a mean cosine of 0.975 to 0.997 and a smallest of 0.77 to 0.99, by scheme and method; "
        "the best class is the same on 95 % of photos or more, but on 69 % of drawn pictures, which look like none of "
        "its classes.",
    ),
}
"""By precision. A precision without a row cannot be exported."""
