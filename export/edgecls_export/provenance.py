"""How a model was made and proven: what an export leaves in the manifest for its readers.

A device runs a model without these, so its runtime carries them as they are, and they are parsed here alone.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgecls_runtime.manifest import from_document

if TYPE_CHECKING:
    from edgecls_runtime.manifest import Manifest

__all__ = [
    "AccuracyBudget",
    "BudgetTrial",
    "Calibration",
    "Flip",
    "Parity",
    "calibration_of",
    "parity_of",
    "to_document",
]

_Record = TypeVar("_Record")


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A picture whose best class differs between PyTorch and the artifact.

    Attributes:
        margin: how far PyTorch's logit of its own best class lies above that of the artifact's best class.
    """

    image: str
    expected: str
    got: str
    margin: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """PyTorch against the artifact on the same pictures; `edgecls_export.tolerance` has the bounds.

    Attributes:
        images: number of pictures.
        image_set: which pictures.
        provider: that ran the artifact.
        max_abs_diff: largest difference of a logit.
        max_abs_logit: largest magnitude of a PyTorch logit.
        min_cosine: smallest cosine similarity of a picture's logits.
        mean_cosine: mean over the pictures; None in files of manifest 1.0.
        top1_agreement: share of pictures with the same best class.
        top5_agreement: share of pictures with the same five best classes.
        flips: pictures whose best class differs.
    """

    images: int
    image_set: str
    provider: str
    max_abs_diff: float
    max_abs_logit: float
    min_cosine: float
    mean_cosine: float | None = None
    top1_agreement: float
    top5_agreement: float
    flips: tuple[Flip, ...] = ()

    @property
    def max_relative_diff(self) -> float:
        """``max_abs_diff`` as a share of ``max_abs_logit``; infinite if PyTorch's logits are all zero."""
        return self.max_abs_diff / self.max_abs_logit if self.max_abs_logit else float("inf")

    def __str__(self) -> str:
        # A mean says something where it differs: not in float32, where every cosine is 1.
        mean = f" (mean {self.mean_cosine:.5f})" if self.mean_cosine is not None and self.min_cosine < 0.99999 else ""
        return (
            f"{self.images} pictures ({self.image_set}) on {self.provider}: max |diff| {self.max_abs_diff:.2g} = "
            f"{self.max_relative_diff:.2g} of max |logit| {self.max_abs_logit:.3g}, min cosine {self.min_cosine:.7f}"
            f"{mean}, top-1 {self.top1_agreement:.2%}, top-5 {self.top5_agreement:.2%}"
        )


@dataclass(frozen=True, kw_only=True)
class BudgetTrial:
    """A set of layers in float, and what the model then scores.

    Attributes:
        float_layers: names of the nodes.
        score: in percent.
        drop: percentage points under float32.
    """

    float_layers: tuple[str, ...]
    score: float
    drop: float

    def __str__(self) -> str:
        return f"{len(self.float_layers):>3} layers in float: {self.score:.2f} % (drop {self.drop:+.2f})"


@dataclass(frozen=True, kw_only=True)
class AccuracyBudget:
    """What an INT8 model was allowed to lose, and what it loses.

    Attributes:
        max_drop: percentage points that were allowed.
        measure: ``acc@1``, or ``agreement`` of the best class with float32's where the pictures have no labels.
        images: number of pictures.
        image_set: which pictures.
        fp32: what float32 scores on them, in percent.
        int8: what this model does.
        tried: what was tried, in order.
    """

    max_drop: float
    measure: str
    images: int
    image_set: str
    fp32: float
    int8: float
    tried: tuple[BudgetTrial, ...]

    def __str__(self) -> str:
        return (
            f"{self.measure} {self.fp32:.2f} -> {self.int8:.2f} % on {self.images} pictures ({self.image_set}), "
            f"allowed drop {self.max_drop:g}, {len(self.tried)} tried"
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the ranges of an INT8 model were found.

    Attributes:
        method: of the calibrator.
        parameters: of the calibrator.
        images: number of pictures.
        images_sha256: over the pictures' own digests, sorted.
        image_set: which pictures.
        scheme: of `edgecls_export.int8.SCHEMES`.
        quantized_layers: number of layers with weights that compute in integers.
        bias_correction: number of pictures that the biases were corrected on; 0 if they were not.
        equalized_pairs: number of pairs of layers whose weights were equalized.
        budget: what the model was allowed to lose; None if nobody said.
    """

    method: str
    parameters: dict[str, float]
    images: int
    images_sha256: str
    image_set: str
    scheme: str
    quantized_layers: int
    bias_correction: int = 0
    equalized_pairs: int = 0
    budget: AccuracyBudget | None = None

    def __str__(self) -> str:
        parameters = "".join(f" {value:g}" for value in self.parameters.values())
        steps = [f"{self.quantized_layers} layers in integers ({self.scheme})"]
        if self.equalized_pairs:
            steps.append(f"{self.equalized_pairs} pairs equalized")
        if self.bias_correction:
            steps.append(f"biases corrected on {self.bias_correction} pictures")
        spent = f"\nbudget: {self.budget}" if self.budget else ""
        return f"{self.method}{parameters} on {self.images} pictures ({self.image_set}); {', '.join(steps)}{spent}"


def to_document(record: Parity | Calibration) -> dict[str, Any]:
    """Return a record as the manifest holds it."""
    document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record), allow_nan=False))
    return document


def parity_of(manifest: Manifest) -> Parity | None:
    """Return the proof against PyTorch; None if a manifest has none.

    Raises:
        ManifestError: it is damaged.
    """
    return _read(Parity, manifest.parity, "parity")


def calibration_of(manifest: Manifest) -> Calibration | None:
    """Return how the ranges of an INT8 model were found; None if a manifest does not say.

    Raises:
        ManifestError: it is damaged.
    """
    return _read(Calibration, manifest.calibration, "calibration")


def _read(cls: type[_Record], document: dict[str, Any] | None, name: str) -> _Record | None:
    if document is None:
        return None
    # Whether the manifest is newer than this edgecls is forgotten by now, so what is unknown is passed over.
    record: _Record = from_document(cls, document, f"manifest: {name}", ignore_unknown=True)
    return record
