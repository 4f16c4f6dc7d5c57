"""How far an artifact may stray from PyTorch: one table, a reason for each row.

Parity at export and golden outputs on the device are judged by the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TOLERANCES", "Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the logits of an artifact against PyTorch's.

    Attributes:
        max_relative_diff: largest ``max |difference| / max |reference logit|`` over all pictures.
        min_cosine: smallest cosine similarity of any picture's logits.
        min_top1_agreement: smallest share of pictures with the same best class.
        min_top5_agreement: smallest share of pictures with the same five best classes in the same order;
            classes whose reference logits lie closer together than the allowed difference may change places.
        reason: where the bounds come from.
    """

    max_relative_diff: float
    min_cosine: float
    min_top1_agreement: float
    min_top5_agreement: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(
        max_relative_diff=1e-4,
        min_cosine=0.999999,
        min_top1_agreement=1.0,
        min_top5_agreement=1.0,
        reason="Both sides compute in float32 (TF32 off) and differ in the order of additions alone: 1e-6 of the "
        "largest logit was measured on the five first-class architectures, so 1e-4 is a broken graph, not noise.",
    ),
}
"""By precision. A precision without a row cannot be exported."""
