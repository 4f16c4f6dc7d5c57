"""How far an artifact may stray: one table, a reason for each row.

Two questions, two references. Parity at export asks whether the conversion kept the model, so the reference is
PyTorch. Golden outputs ask whether a device computes what the exporting machine proved. In float32 that is PyTorch's
answer again. Below, PyTorch lies so far off (INT8: a tenth of the largest logit on single pictures) that a bound around
it would hide what ``verify`` is for, integers that saturate on a CPU without VNNI; so there the reference is what the
artifact itself computed once it had passed parity, and the bound need only cover how engines round.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INFERENCE_TOLERANCES", "TOLERANCES", "InferenceTolerance", "Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the logits of an artifact.

    Attributes:
        max_relative_diff: largest ``max |difference| / max |reference logit|`` over all pictures, against PyTorch.
        min_cosine: smallest cosine similarity of any picture's logits.
        min_mean_cosine: smallest mean of the cosines.
        min_top1_agreement: smallest share of pictures with the same best class; the number of others that this allows
            is rounded up to a whole picture, so that one of 64 is not 98.4 % under 99.5 %.
        min_top5_agreement: likewise, with the same five best classes in the same order.
        max_golden_diff: largest ``max |difference| / max |reference logit|`` over the golden pictures, on a device.
        reason: where the bounds come from.
    """

    max_relative_diff: float
    min_cosine: float
    min_mean_cosine: float
    min_top1_agreement: float
    min_top5_agreement: float
    max_golden_diff: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(
        max_relative_diff=1e-4,
        min_cosine=0.999999,
        min_mean_cosine=0.999999,
        min_top1_agreement=1.0,
        min_top5_agreement=1.0,
        max_golden_diff=1e-4,
        reason="Both sides compute in float32 (TF32 off) and differ in the order of additions alone: 1e-6 of the "
        "largest logit was measured on the five first-class architectures, so 1e-4 is a broken graph, not noise.",
    ),
    "fp16": Tolerance(
        max_relative_diff=0.02,
        min_cosine=0.9995,
        min_mean_cosine=0.9999,
        min_top1_agreement=0.995,
        min_top5_agreement=0.8,
        max_golden_diff=0.02,
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
        max_golden_diff=0.08,
        reason="Wide, because this gate asks whether the graph is broken; whether it is good enough, labelled pictures "
        "say. MobileNetV2 has a mean cosine of 0.975 to 0.997 and a smallest of 0.77 to 0.99, by scheme and method; "
        "the best class is the same on 95 % of photos or more, but on 69 % of drawn pictures, which look like none of "
        "its classes. Golden outputs: integer kernels against the same graph simulated in float differ by up to 0.038 "
        "(MobileNetV2) and 0.056 (V3), where a rounding that falls the other way travels through 50 layers; 16-bit "
        "sums that saturate, as on x86 without VNNI, by 0.17 and 0.09 (emulated).",
    ),
}
"""By precision. A precision without a row cannot be exported."""


@dataclass(frozen=True)
class InferenceTolerance:
    """Bound on the golden outputs where an engine is asked to compute in less than the file holds.

    Attributes:
        max_golden_diff: as `Tolerance.max_golden_diff`; the larger of the two counts.
        reason: where the bound comes from.
    """

    max_golden_diff: float
    reason: str


INFERENCE_TOLERANCES: dict[str, InferenceTolerance] = {
    "bf16": InferenceTolerance(
        max_golden_diff=0.05,
        reason="8 bits of mantissa, where half has 11. Measured with OpenVINO on AMX: MobileNetV2 0.025 of the largest "
        "logit, VGG-16 0.008, MobileNetV3-small 0.007, AlexNet 0.003 (the last three with random weights), with the "
        "best class of one golden picture in four changed at most. INT8 files keep their integers and their own bound.",
    ),
    "f16": InferenceTolerance(
        max_golden_diff=0.02,
        reason="As an fp16 file's. Measured: MobileNetV2 0.003 of the largest logit, VGG-16 and AlexNet 0.001. What "
        "half cannot hold fails here: OpenVINO converts weights and scales without looking, so INT8 files lie 0.6 and "
        "more off, and random weights with logits of 1e-9 vanish.",
    ),
    "tf32": InferenceTolerance(
        max_golden_diff=0.02,
        reason="10 bits of mantissa in products, as half has, with float32's range and sums: an fp16 file's bound, "
        "not measured yet.",
    ),
}
"""By inference precision (`edgecls_runtime.backends.settings.SessionSettings`); ``f32`` needs no row; ``tf32``
is a TensorRT engine's that was built with it."""
