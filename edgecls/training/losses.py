"""What training makes small: cross-entropy, its multi-label sibling, and the distance to a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from edgecls.data import Sample, Task

__all__ = ["Criterion", "balanced_class_weights"]


@dataclass(frozen=True)
class Criterion:
    """The loss of a batch.

    Attributes:
        task: softmax and cross-entropy for one label a picture, a sigmoid for each label otherwise.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2015).
        class_weights: float [classes], or None for 1 each; with several labels, of the positive ones.
        distillation: share of the teacher in the loss.
        temperature: of the distillation.
    """

    task: Task
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    distillation: float = 0.0
    temperature: float = 1.0

    def __call__(self, logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
        """Return the mean loss, a float32 scalar.

        Args:
            logits: [N, classes] of any float type; the loss is computed in float32.
            targets: float32 [N, classes]: shares that add up to 1, or 0 to 1 for each label.
            teacher_logits: [N, classes], to be drawn to.
        """
        logits = logits.float()
        if self.task == "multilabel":
            smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            loss = functional.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=self.class_weights)
        else:
            loss = functional.cross_entropy(
                logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing
            )
        if teacher_logits is None:
            return loss
        return (1 - self.distillation) * loss + self.distillation * self._distance(logits, teacher_logits.float())

    def _distance(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Hinton et al. 2015, "Distilling the Knowledge in a Neural Network": T² x KL(teacher / T || student / T)."""
        soft, teacher = logits / self.temperature, teacher_logits / self.temperature
        if self.task == "multilabel":
            distance = functional.binary_cross_entropy_with_logits(soft, teacher.sigmoid())
        else:
            distance = functional.kl_div(
                soft.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean"
            )
        return distance * self.temperature**2


def balanced_class_weights(samples: Sequence[Sample], classes: int, task: Task) -> Tensor:
    """Return a weight for each class, float32 [classes], that makes up for unequal numbers of pictures.

    One label a picture: ``pictures / (classes x pictures of the class)``, scikit-learn's "balanced". Several labels:
    negatives per positive of each label, as `torch.nn.BCEWithLogitsLoss` advises, at most 100.
    """
    counts = torch.zeros(classes)
    for sample in samples:
        counts[list(sample.targets)] += 1
    if task == "multilabel":
        return ((len(samples) - counts) / counts).clamp(0.01, 100)
    return len(samples) / (classes * counts)
