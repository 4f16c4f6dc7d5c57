"""Numbers from scores, by torchmetrics' functional API: one definition for training, evaluation and every artifact.

A class's precision, recall and F1 are ``tp / (tp + fp)``, ``tp / (tp + fn)`` and ``2 tp / (2 tp + fp + fn)``. Macro
averages are over the classes that occur in the targets: a model of ImageNet's 1,000 classes may be measured on ten of
them, and what it wrongly takes for one of the other 990 counts once, as a miss, and not again as a class of F1 0 (as
it would in scikit-learn's and torchmetrics' own averages; where every class occurs, all agree).
Among equal scores the lower index wins, as in `edgecls_runtime.Classifier`. Shares are in percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "ClassMetrics",
    "best_thresholds",
    "confusion_matrix",
    "multilabel_metrics",
    "per_class_metrics",
    "single_label_metrics",
]

_ECE_BINS = 15  # Guo et al. 2017, section 5


@dataclass(frozen=True)
class ClassMetrics:
    """How well one class is told from the others; None where a share of nothing would be taken.

    Attributes:
        label: the class's name.
        images: pictures that have this label.
        precision: percent of the pictures called so that are so; None if none is called so.
        recall: percent of the pictures that are so that are called so; None if there are none.
        f1: harmonic mean of both, in percent; None if there are neither.
    """

    label: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None

    def __str__(self) -> str:
        shares = " ".join("      -" if value is None else f"{value:7.2f}" for value in self._shares())
        return f"{self.images:7,} {shares}  {self.label}"

    def _shares(self) -> tuple[float | None, float | None, float | None]:
        return self.precision, self.recall, self.f1


def single_label_metrics(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, float]:
    """Measure a model whose pictures have one label each; quick enough for every epoch, for 1,000 classes too.

    Args:
        scores: probabilities, float32 [N, C].
        targets: the true classes, int64 [N].

    Returns:
        In percent: ``acc@1``; ``acc@5`` (the true class is among the five best; only if C > 5); ``ece``, the expected
        calibration error over 15 bins of equal width, ``sum |acc(bin) - conf(bin)| n(bin) / N`` (Guo, Pleiss, Sun,
        Weinberger: On Calibration of Modern Neural Networks, ICML 2017, equation 3); ``f1``, the macro average.

    Raises:
        ValueError: shapes or values are not as above.
    """
    import torch
    from torchmetrics.functional import classification as functional

    scores, targets = _checked(scores, targets, multilabel=False)
    classes = scores.shape[1]
    predicted, true = torch.from_numpy(scores.argmax(1)), torch.from_numpy(targets)
    metrics = {"acc@1": functional.multiclass_accuracy(predicted, true, classes, average="micro", validate_args=False)}
    if classes > 5:
        metrics["acc@5"] = torch.tensor(_ranks(scores, targets) < 5).double().mean()
    # torchmetrics puts a confidence of exactly 1, which float32 reaches easily, into a bin of its own; equation 2 of
    # the paper has it in the last one. Its bins are also closed at the lower end, not the upper.
    below_one = np.minimum(scores, np.nextafter(np.float32(1), np.float32(0)))
    metrics["ece"] = functional.multiclass_calibration_error(
        torch.from_numpy(below_one), true, classes, n_bins=_ECE_BINS, norm="l1", validate_args=False
    )
    f1 = functional.multiclass_f1_score(predicted, true, classes, average=None, validate_args=False)
    metrics["f1"] = f1[np.unique(targets)].mean()
    return _percent(metrics)


def multilabel_metrics(
    scores: NDArray[np.float32], targets: NDArray[np.bool_ | np.int64], thresholds: Sequence[float]
) -> dict[str, float]:
    """Measure a model whose pictures have any number of labels.

    Args:
        scores: a probability for each label, float32 [N, C].
        targets: which labels are true, bool or int [N, C].
        thresholds: the score from which each label counts as predicted, C values.

    Returns:
        In percent: ``mAP``, the mean over the labels that occur of the average precision ``sum (R_n - R_(n-1)) P_n``
        over all thresholds (no interpolation); ``f1``, macro (both absent if no label occurs); ``f1_micro``, from the
        counts of all labels together; ``exact_match``, pictures all of whose labels are right.

    Raises:
        ValueError: shapes or values are not as above.
    """
    import torch
    from torchmetrics.functional import classification as functional

    scores, targets = _checked(scores, targets, multilabel=True)
    predicted, true, labels = _predicted(scores, thresholds), torch.from_numpy(targets), scores.shape[1]
    metrics = {}
    occurring = np.flatnonzero(targets.any(0))
    if len(occurring):
        precisions = [
            functional.binary_average_precision(torch.from_numpy(scores[:, label].copy()), true[:, label])
            for label in occurring
        ]
        metrics["mAP"] = torch.stack(precisions).mean()
        f1 = functional.multilabel_f1_score(predicted, true, labels, average=None, validate_args=False)
        metrics["f1"] = f1.reshape(labels)[occurring].mean()
    metrics["f1_micro"] = functional.multilabel_f1_score(predicted, true, labels, average="micro", validate_args=False)
    metrics["exact_match"] = functional.multilabel_exact_match(predicted, true, labels, validate_args=False)
    return _percent(metrics)


def best_thresholds(scores: NDArray[np.float32], targets: NDArray[np.bool_ | np.int64]) -> tuple[float, ...]:
    """Find for each label the threshold with the highest F1 on these pictures.

    Args:
        scores: a probability for each label, float32 [N, C].
        targets: which labels are true, bool or int [N, C].

    Returns:
        C thresholds: each halfway between two neighbouring scores (below the lowest: halfway to 0). Of equally good
        ones the nearest to 0.5; 0.5 for a label that never occurs.

    Raises:
        ValueError: shapes or values are not as above.
    """
    scores, targets = _checked(scores, targets, multilabel=True)
    return tuple(_best_threshold(scores[:, label], targets[:, label]) for label in range(scores.shape[1]))


def per_class_metrics(
    scores: NDArray[np.float32],
    targets: NDArray[np.bool_ | np.int64],
    labels: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> tuple[ClassMetrics, ...]:
    """Measure each class by itself.

    Args:
        scores: float32 [N, C].
        targets: int64 [N] of one label a picture, or bool or int [N, C] of any number.
        labels: the classes' names, C of them.
        thresholds: the score from which each label counts; with targets [N, C] alone.

    Raises:
        ValueError: shapes or values are not as above.
    """
    from torchmetrics.functional import classification as functional

    if thresholds is None:
        matrix = confusion_matrix(scores, np.asarray(targets, np.int64), len(labels))
        hits = matrix.diagonal()
        counts = np.stack([hits, matrix.sum(0) - hits, matrix.sum(1) - hits], 1)
    else:
        import torch

        scores, targets = _checked(scores, targets, multilabel=True)
        statistics = functional.multilabel_stat_scores(
            _predicted(scores, thresholds),
            torch.from_numpy(targets),
            len(labels),
            average=None,
            validate_args=False,
        )
        counts = statistics.reshape(len(labels), 5).numpy()[:, [0, 1, 3]]  # tp, fp, tn, fn, support
    return tuple(
        ClassMetrics(label, tp + fn, _share(tp, tp + fp), _share(tp, tp + fn), _share(2 * tp, 2 * tp + fp + fn))
        for label, (tp, fp, fn) in zip(labels, counts.tolist(), strict=True)
    )


def confusion_matrix(scores: NDArray[np.float32], targets: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count what is taken for what.

    Returns:
        int64 [classes, classes]: the row is the true class, the column the predicted one.

    Raises:
        ValueError: shapes or values are not as in `single_label_metrics`.
    """
    import torch
    from torchmetrics.functional import classification as functional

    scores, targets = _checked(scores, targets, multilabel=False)
    if scores.shape[1] != classes:
        raise ValueError(f"scores: has {scores.shape[1]} columns for {classes} classes")
    matrix = functional.multiclass_confusion_matrix(
        torch.from_numpy(scores.argmax(1)), torch.from_numpy(targets), classes, validate_args=False
    )
    return np.asarray(matrix.numpy(), np.int64)


def _checked(
    scores: NDArray[np.float32], targets: NDArray[np.bool_ | np.int64], *, multilabel: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return scores in [0, 1] and int64 targets.

    torchmetrics takes the softmax (or sigmoid) of everything if one single score lies outside of [0, 1], and rounding
    alone can lift one a hair above 1.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores: has the shape {list(scores.shape)}, not [N, C] with at least one picture")
    low, high = float(scores.min()), float(scores.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails every comparison
        raise ValueError(f"scores: lie between {low} and {high}, but probabilities lie between 0 and 1")
    whole = np.ascontiguousarray(targets, np.int64)
    if whole.shape != (scores.shape if multilabel else scores.shape[:1]):
        raise ValueError(f"targets: have the shape {list(whole.shape)} for scores {list(scores.shape)}")
    highest = 1 if multilabel else scores.shape[1] - 1
    if whole.min() < 0 or whole.max() > highest:
        raise ValueError(f"targets: lie between {whole.min()} and {whole.max()}, not between 0 and {highest}")
    return scores.clip(0, 1), whole


def _ranks(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of the true class, 0 for the best, int64 [N]; torchmetrics' top-k takes ten times as long."""
    own = np.take_along_axis(scores, targets[:, None], 1)
    higher = (scores > own).sum(1)
    equal_before = ((scores == own) & (np.arange(scores.shape[1]) < targets[:, None])).sum(1)
    return np.asarray(higher + equal_before, np.int64)


def _predicted(scores: NDArray[np.float32], thresholds: Sequence[float]) -> Tensor:
    import torch

    if len(thresholds) != scores.shape[1]:
        raise ValueError(f"thresholds: {len(thresholds)} values for {scores.shape[1]} labels")
    return torch.from_numpy((scores >= np.asarray(thresholds, np.float64)).astype(np.int64))


def _best_threshold(scores: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    positives = int(targets.sum())
    if positives == 0:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    # A cut lies behind a score that is higher than its successor; equal scores stay together.
    cuts = np.flatnonzero(np.diff(ordered, append=-1.0) < 0)
    hits = np.cumsum(targets[order])[cuts]
    f1 = 2 * hits / (cuts + 1 + positives)  # 2 tp + fp + fn = (tp + fp) + (tp + fn)
    halfway = (ordered[cuts] + np.append(ordered, 0.0)[cuts + 1]) / 2
    best = halfway[np.isclose(f1, f1.max(), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _percent(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(100 * float(value), 4) for name, value in metrics.items()}  # float32 holds no more
