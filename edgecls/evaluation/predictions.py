"""What a model says about pictures, labelled or not; they are decoded in threads while the model runs."""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgecls.data import Unreadable, with_path
from edgecls.evaluation.views import check_views, load_views
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.errors import DataError, ImageError
from edgecls_runtime.output import whole_file
from edgecls_runtime.parallel import bounded_map

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgecls.data import Task
    from edgecls.evaluation.predictor import Predictor

__all__ = ["Predictions", "predict", "predict_scores"]

_TOP = 5


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's answers.

    Attributes:
        paths: the pictures that could be read, N of them.
        scores: float32 [N, C].
        labels: the classes' names, C of them.
        task: one label a picture, or any number.
        thresholds: with several labels, the score from which each counts; None otherwise.
        unreadable: the pictures that have no answer.
    """

    paths: tuple[Path, ...] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    task: Task
    thresholds: tuple[float, ...] | None
    unreadable: tuple[Unreadable, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.paths):,} pictures answered, {len(self.unreadable):,} unreadable"

    def predicted(self, row: int) -> tuple[int, ...]:
        """Return the classes that a picture is said to show, best first: one, or those over their thresholds."""
        if self.thresholds is None:
            return (int(self.scores[row].argmax()),)
        over = self.scores[row] >= np.asarray(self.thresholds)
        return tuple(index for index in self.ranked(row, len(self.labels)) if over[index])

    def ranked(self, row: int, count: int) -> tuple[int, ...]:
        """Return a picture's best classes, best first; equal scores go by index."""
        return tuple(np.argsort(-self.scores[row], kind="stable")[:count].tolist())

    def write(self, path: str | os.PathLike[str], *, root: str | os.PathLike[str], force: bool = False) -> None:
        """Write a CSV file: a line for each picture that could be read.

        With one label a picture the columns are ``id,label,score,label_2,score_2,...``, up to five; with several,
        ``id,labels`` (those over their thresholds, best first, joined by ``;``) and ``score_LABEL`` for each label.
        Scores have as many digits as a float32 needs.

        Args:
            path: of the file.
            root: folder that the ids, which are paths, are relative to.
            force: overwrite.

        Raises:
            OutputError: the file exists (without ``force``), or cannot be written.
        """
        top = min(_TOP, len(self.labels))
        with (
            whole_file(path, force=force) as temporary,
            # Names that are not UTF-8 are written as in `evaluation.json`.
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            rows = csv.writer(file, lineterminator="\n")
            if self.task == "single":
                more = [f"{name}_{rank}" for rank in range(2, top + 1) for name in ("label", "score")]
                rows.writerow(["id", "label", "score", *more])
            else:
                rows.writerow(["id", "labels", *(f"score_{label}" for label in self.labels)])
            for row, picture in enumerate(self.paths):
                name, scores = _relative(picture, root), self.scores[row]
                if self.task == "single":
                    pairs = [(self.labels[index], scores[index]) for index in self.ranked(row, top)]
                    rows.writerow([name, *itertools.chain.from_iterable(pairs)])
                else:
                    rows.writerow([name, ";".join(self.labels[index] for index in self.predicted(row)), *scores])


def predict(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    tta: int = 1,
    strict: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Predictions:
    """Answer pictures; the arguments are those of `predict_scores`.

    Raises:
        DataError: no picture can be read; or, with ``strict``, one cannot.
        ModelError: the model failed.
    """
    scores, unreadable = predict_scores(
        predictor, paths, batch_size=batch_size, workers=workers, tta=tta, strict=strict, progress=progress
    )
    readable = ~np.isnan(scores[:, 0])
    if not readable.any():
        reason = f": {unreadable[0]}" if unreadable else ""
        raise DataError(f"none of the {len(paths):,} pictures can be read{reason}", "Give JPEG, PNG or WebP files.")
    return Predictions(
        paths=tuple(itertools.compress(paths, readable)),
        scores=scores if readable.all() else scores[readable],
        labels=predictor.labels,
        task=predictor.task,
        thresholds=predictor.thresholds,
        unreadable=tuple(unreadable),
    )


def predict_scores(
    predictor: Predictor,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    tta: int = 1,
    strict: bool = False,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.float32], list[Unreadable]]:
    """Score pictures in their order, decoding the next ones in threads while the model runs.

    Pillow and numpy let go of Python's lock while they work. Besides the scores, memory holds two batches and two
    pictures a worker at most, however many pictures there are.

    Args:
        predictor: the model.
        paths: the pictures, N of them.
        batch_size: inputs a run, a picture's views counted one by one.
        workers: threads that decode; None for as many as there are cores, 8 at most.
        tta: views of each picture whose scores are averaged (`edgecls.evaluation.views` says which).
        strict: stop at the first picture that cannot be read.
        progress: called with the number of pictures done since the last call.

    Returns:
        Scores, float32 [N, C], where row i belongs to ``paths[i]`` and is NaN if it could not be read; and the
        pictures that could not.

    Raises:
        DataError: with ``strict``, a picture cannot be read; or there is no room for so many views.
        ModelError: the model failed.
    """
    check_views(predictor.preprocess, tta)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, must be at least 1")
    scores = np.full((len(paths), len(predictor.labels)), np.nan, np.float32)
    unreadable: list[Unreadable] = []
    rows: list[int] = []
    loaded: list[NDArray[np.float32]] = []
    pictures_a_run = max(1, batch_size // tta)

    def flush() -> None:
        views = np.concatenate(loaded)
        runs = [predictor.scores(views[start : start + batch_size]) for start in range(0, len(views), batch_size)]
        scores[rows] = np.concatenate(runs).reshape(len(rows), tta, -1).mean(1)
        if progress is not None:
            progress(len(rows))
        rows.clear()
        loaded.clear()

    def load(path: Path) -> NDArray[np.float32] | ImageError:
        try:
            return load_views(path, predictor.preprocess, tta)
        except ImageError as error:
            return with_path(path, error)

    workers = workers or min(8, usable_cpus())
    ahead = pictures_a_run + 2 * workers + 1  # that many less the one in hand are in work while the model runs
    for row, views in enumerate(bounded_map(load, paths, workers=workers, ahead=ahead)):
        if isinstance(views, ImageError):
            if strict:
                raise DataError(views.cause, f"{views.remedy} Or leave such pictures out: without --strict") from views
            unreadable.append(Unreadable(paths[row], views.cause))
            if progress is not None:
                progress(1)
            continue
        rows.append(row)
        loaded.append(views)
        if len(rows) == pictures_a_run:
            flush()
    if rows:
        flush()
    return scores, unreadable


def _relative(path: Path, root: str | os.PathLike[str]) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
