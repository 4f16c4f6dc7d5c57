"""Measure a model on labelled pictures: a checkpoint or any artifact, by the same code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.evaluation.metrics import (
    ClassMetrics,
    confusion_matrix,
    multilabel_metrics,
    per_class_metrics,
    single_label_metrics,
)
from edgecls.evaluation.predictions import Predictions, predict
from edgecls_runtime.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgecls.data import Sample, Task, Unreadable
    from edgecls.evaluation.predictor import Predictor

__all__ = ["FORMAT", "Evaluation", "Mistake", "evaluate"]

FORMAT = "edgecls.evaluation/1"
"""Version of `Evaluation.to_document`; any change of its keys raises the number."""

_MISTAKES = 25
_TABLE_CLASSES = 20
_TABLE_MISTAKES = 5


@dataclass(frozen=True)
class Mistake:
    """A picture that the model got wrong.

    Attributes:
        path: of the picture.
        true: its labels.
        predicted: the labels that the model gave it, best first.
        label: the label that it is most wrong about: one that it gave, or (with several labels) one that it missed.
        score: of that label.
    """

    path: Path
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    label: str
    score: float

    def __str__(self) -> str:
        said = "no label" if not self.predicted else f"{', '.join(self.predicted)}"
        about = f" ({self.label} {self.score:.2%})" if self.predicted != (self.label,) else f" ({self.score:.2%})"
        return f"{self.path}: is {', '.join(self.true) or 'none of the labels'}, taken for {said}{about}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model gets right and wrong.

    Attributes:
        model: its name.
        provider: what ran it, in the engine's own words.
        tta: views a picture.
        metrics: in percent, by name (`edgecls.evaluation.metrics`).
        per_class: in the order of the model's labels.
        confusion: int64 [C, C], the row is the true class; None with several labels a picture.
        mistakes: the most confident ones first, 25 at most.
        predictions: the answers to all pictures.
    """

    model: str
    provider: str
    tta: int
    metrics: dict[str, float]
    per_class: tuple[ClassMetrics, ...] = field(repr=False)
    confusion: NDArray[np.int64] | None = field(repr=False)
    mistakes: tuple[Mistake, ...] = field(repr=False)
    predictions: Predictions = field(repr=False)

    @property
    def task(self) -> Task:
        """One label a picture, or any number."""
        return self.predictions.task

    @property
    def images(self) -> int:
        """Number of pictures measured on."""
        return len(self.predictions.paths)

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """The pictures that were left out, because they could not be read."""
        return self.predictions.unreadable

    def __str__(self) -> str:
        left_out = f", {len(self.unreadable):,} unreadable left out" if self.unreadable else ""
        views = f", {self.tta} views each" if self.tta > 1 else ""
        lines = [f"{self.model} on {self.provider}", f"{self.images:,} pictures{views}{left_out}", ""]
        lines += [f"  {name:11} {value:7.2f} %" for name, value in self.metrics.items()]
        lines += ["", *self._class_table()]
        if self.mistakes:
            lines += ["", "most confident mistakes"]
            lines += [f"  {mistake}" for mistake in self.mistakes[:_TABLE_MISTAKES]]
        return "\n".join(lines)

    def to_document(self) -> dict[str, Any]:
        """Return all but the single predictions as plain types for JSON; shares are in percent, scores from 0 to 1."""
        labels = self.predictions.labels
        confusion = None
        if self.confusion is not None:  # sparse: ImageNet's million cells are nearly all 0
            confusion = [
                {"true": labels[true], "predicted": labels[said], "images": int(self.confusion[true, said])}
                for true, said in np.argwhere(self.confusion).tolist()
            ]
        return {
            "format": FORMAT,
            "model": self.model,
            "provider": self.provider,
            "task": self.task,
            "tta": self.tta,
            "images": self.images,
            "unreadable": [{"path": str(item.path), "error": item.cause} for item in self.unreadable],
            "metrics": self.metrics,
            "classes": [dataclasses.asdict(item) for item in self.per_class],
            "confusion": confusion,
            "mistakes": [dataclasses.asdict(item) | {"path": str(item.path)} for item in self.mistakes],
        }

    def _class_table(self) -> list[str]:
        """List every class, or the worst ones of many; classes without a picture here only where there are few."""
        rows = list(self.per_class)
        title = ""
        if len(rows) > _TABLE_CLASSES:
            rows = [item for item in rows if item.images]
            title = f"  ({len(self.per_class) - len(rows):,} classes without a picture here not shown)"
        if len(rows) > _TABLE_CLASSES:
            rows = sorted(rows, key=lambda item: item.f1 or 0.0)[:_TABLE_CLASSES]
            title = f"  (the {len(rows)} of the lowest F1; --format json has all {len(self.per_class):,})"
        return [
            f"  {'images':>7} {'prec. %':>7} {'rec. %':>7} {'F1 %':>7}  label{title}",
            *(f"  {row}" for row in rows),
        ]


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    tta: int = 1,
    strict: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Measure a model.

    Args:
        predictor: the model.
        samples: pictures whose targets are indices of the predictor's labels.
        batch_size: as for `edgecls.evaluation.predictions.predict_scores`, like all that follow.
        workers: threads that decode.
        tta: views of each picture.
        strict: stop at the first picture that cannot be read, instead of leaving it out.
        progress: called with the number of pictures done since the last call.

    Raises:
        DataError: there are no pictures, none can be read or, with ``strict``, one cannot.
        ModelError: the model failed.
        ValueError: a target is no output of the model, or a picture does not have one label where it must.
    """
    if not samples:
        raise DataError("there are no pictures to measure on", "Name a folder or a list that has some.")
    labels, single = predictor.labels, predictor.task == "single"
    for sample in samples:
        if not all(0 <= target < len(labels) for target in sample.targets) or (single and len(sample.targets) != 1):
            raise ValueError(f"{sample.path}: targets {sample.targets} for {len(labels)} labels, {predictor.task}")
    predictions = predict(
        predictor,
        [sample.path for sample in samples],
        batch_size=batch_size,
        workers=workers,
        tta=tta,
        strict=strict,
        progress=progress,
    )
    left_out = {item.path for item in predictions.unreadable}
    kept = [sample for sample in samples if sample.path not in left_out]
    scores = predictions.scores
    confusion = None
    if single:
        targets = np.array([sample.targets[0] for sample in kept], np.int64)
        metrics = single_label_metrics(scores, targets)
        per_class = per_class_metrics(scores, targets, labels)
        confusion = confusion_matrix(scores, targets, len(labels))
    else:
        targets = np.zeros(scores.shape, np.int64)
        for row, sample in zip(targets, kept, strict=True):
            row[list(sample.targets)] = 1
        thresholds = predictor.thresholds or (0.5,) * len(labels)
        metrics = multilabel_metrics(scores, targets, thresholds)
        per_class = per_class_metrics(scores, targets, labels, thresholds)
    return Evaluation(
        model=predictor.name,
        provider=predictor.provider,
        tta=tta,
        metrics=metrics,
        per_class=per_class,
        confusion=confusion,
        mistakes=_mistakes(predictions, kept),
        predictions=predictions,
    )


def _mistakes(predictions: Predictions, samples: Sequence[Sample]) -> tuple[Mistake, ...]:
    """Return the most confident mistakes.

    The confidence of a mistake is the score of a label that is wrong, or one minus the score of one that was missed;
    with one label a picture only the former counts.
    """
    found: list[tuple[float, Mistake]] = []
    for row, sample in enumerate(samples):
        predicted, true, scores = predictions.predicted(row), sample.targets, predictions.scores[row]
        confidence = {index: float(scores[index]) for index in predicted if index not in true}
        if predictions.task == "multilabel":
            confidence |= {index: 1 - float(scores[index]) for index in true if index not in predicted}
        if not confidence:
            continue
        worst = max(confidence, key=lambda index: confidence[index])
        names = predictions.labels
        mistake = Mistake(
            sample.path,
            tuple(names[index] for index in true),
            tuple(names[index] for index in predicted),
            names[worst],
            float(scores[worst]),
        )
        found.append((confidence[worst], mistake))
    found.sort(key=lambda item: -item[0])  # stable: equal ones stay in the pictures' order
    return tuple(mistake for _, mistake in found[:_MISTAKES])
