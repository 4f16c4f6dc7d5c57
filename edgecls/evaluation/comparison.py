"""Several files of one model side by side: size, latency, accuracy, and which one suits this machine."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.classifier import Classifier
from edgecls_runtime.engine_file import is_engine
from edgecls_runtime.errors import DataError, ModelError
from edgecls_runtime.preprocess import load

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource

__all__ = ["Comparison", "Row", "compare_files"]

_WARMUP = 5
_TURNS = 10
_ON_GPU = ("CUDA", "TensorRT", "Tensorrt")
_SAME_SPEED = 0.05
"""Latencies this close cannot be told apart on a machine that does other things, too; then the smaller file wins."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file.

    Attributes:
        path: of the file.
        precision: ``fp32``, ``fp16``, ``int8``; ``?`` if the file does not say.
        size_bytes: of the file.
        p50_ms: median time of the engine for one picture, preprocessed already.
        accuracy: acc@1 in percent; None where the pictures have no labels.
        agreement: pictures with the same best class as the first file's, in percent.
        mean_cosine: mean cosine similarity of the logits with the first file's.
        max_relative_error: largest difference of a logit from the first file's, as a share of its largest logit.
    """

    path: str
    precision: str
    size_bytes: int
    p50_ms: float
    accuracy: float | None
    agreement: float
    mean_cosine: float
    max_relative_error: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The files in the order given, measured in turn with a tenth of the pictures each: a busy minute slows all.

    Attributes:
        rows: the files.
        images: number of pictures.
        origin: which pictures.
        provider: that ran them.
        max_drop: percentage points of accuracy (or agreement) that a recommended file may lose to the first one.
        recommended: index of the row; the quickest whose loss is allowed, the smaller of equally quick ones.
        notes: what makes the comparison say less than it seems to.
    """

    rows: tuple[Row, ...]
    images: int
    origin: str
    provider: str
    max_drop: float
    recommended: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = self._names()
        width = max(4, *map(len, names))
        quality = f"{'acc@1 %':>8} {'same %':>7} {'cosine':>8} {'worst logit':>12}"
        lines = [f"{'file':{width + 7}} {'MB':>7} {'p50 ms':>8} {quality}"]
        for name, row in zip(names, self.rows, strict=True):
            accuracy = "-" if row.accuracy is None else f"{row.accuracy:.2f}"
            lines.append(
                f"{name:{width}}  {row.precision:5} {row.size_bytes / 1e6:7.1f} {row.p50_ms:8.2f} {accuracy:>8} "
                f"{row.agreement:7.2f} {row.mean_cosine:8.5f} {row.max_relative_error:12.2g}"
            )
        lines += [f"{self.images:,} pictures ({self.origin}) on {self.provider}, batch 1, in turn"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), self.recommendation])

    def _names(self) -> list[str]:
        """Return the files' names; with their folders where two have the same."""
        names = [Path(row.path).name for row in self.rows]
        return names if len(set(names)) == len(names) else [row.path for row in self.rows]

    @property
    def recommendation(self) -> str:
        """Which file to take on this machine, and why, in a sentence."""
        first, best = self.rows[0], self.rows[self.recommended]
        names = self._names()
        name = names[self.recommended]
        if self.recommended == 0:
            return f"on this machine take {name}: no other is quicker within {self.max_drop:g} points"
        lost, what = _loss(best, first)
        return (
            f"on this machine take {name}: {first.p50_ms / best.p50_ms:.2f} x as quick as {names[0]}, "
            f"{best.size_bytes / first.size_bytes:.0%} of its size, {what} {-lost:+.2f} points"
        )

    def to_document(self) -> dict[str, Any]:
        """Return the comparison as JSON's types."""
        return {"format": "edgecls.comparison/1", **asdict(self), "recommendation": self.recommendation}


def compare_files(
    paths: Sequence[str | os.PathLike[str]],
    images: Sequence[ImageSource],
    *,
    origin: str,
    targets: Sequence[int] | None = None,
    provider: str | None = None,
    threads: int | None = None,
    trust: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
    max_drop: float = 1.0,
    progress: Callable[[int], object] | None = None,
) -> Comparison:
    """Run several files of one model on the same pictures.

    Args:
        paths: the files; the first one is what the others are held against.
        images: the pictures.
        origin: which pictures, in words.
        targets: the index of each one's class; None where they have no labels.
        provider: that runs them, as in `Classifier.load`; of ONNX files and engines together, the ONNX files.
        threads: of one run, likewise; None leaves it to the engine.
        trust: as in `Classifier.load`.
        engine_cache: likewise.
        max_drop: percentage points that a recommended file may lose.
        progress: called with the number of pictures done since the last call.

    Raises:
        ModelError: a file cannot be used, or the files have different labels.
        DataError: there are no pictures.
        ImageError: a picture cannot be read.
        ProviderError: the provider is not there.
    """
    if not images:
        raise DataError(f"{origin}: holds no pictures", "Name a folder that has some.")
    is_mixed = len({is_engine(path) for path in paths}) > 1

    def load_model(path: str | os.PathLike[str]) -> Classifier:
        if is_mixed and is_engine(path):
            return Classifier.load(path, trust=trust)
        mine = trust and not is_mixed
        return Classifier.load(path, provider=provider, threads=threads, trust=mine, engine_cache=engine_cache)

    models = []
    for path in paths:
        with load_model(path) as model:
            models.append(model)  # closed: for what it says about itself
    for model in models[1:]:
        for what in ("labels", "activation"):
            if getattr(model, what) != getattr(models[0], what):
                raise ModelError(
                    f"{model.path}: has other {what} than {models[0].path}",
                    "Compare files of one and the same model.",
                )
    if targets is not None and models[0].activation == "sigmoid":
        raise DataError(
            f"{origin}: acc@1 is not what a model of several labels is measured by ({models[0].path})",
            "Give a folder of pictures without labels: agreement with the first file is measured then.",
        )
    logits, seconds = _run_in_turn(paths, images, load_model, progress)
    ran_on = ", ".join(dict.fromkeys(model.provider for model in models))
    correct = None if targets is None else np.asarray(targets)
    largest = float(np.abs(logits[0]).max()) or 1.0
    rows = []
    for model, found, times in zip(models, logits, seconds, strict=True):
        best = found.argmax(1)
        rows.append(
            Row(
                path=model.path,
                precision=model.manifest.precision if model.manifest else "?",
                size_bytes=Path(model.path).stat().st_size,
                p50_ms=1e3 * float(np.median(times)),
                accuracy=None if correct is None else 100 * float((best == correct).mean()),
                agreement=100 * float((best == logits[0].argmax(1)).mean()),
                mean_cosine=float(_cosines(found, logits[0]).mean()),
                max_relative_error=float(np.abs(found - logits[0]).max()) / largest,
            )
        )
    return Comparison(
        rows=tuple(rows),
        images=len(images),
        origin=origin,
        provider=ran_on,
        max_drop=max_drop,
        recommended=_recommend(rows, max_drop),
        notes=tuple(_other_models(models)),
    )


def _other_models(models: Sequence[Classifier]) -> Iterator[str]:
    """Say which files do not come from the weights of the first: agreeing with it is then no merit."""
    first = models[0].manifest
    for model in models[1:]:
        own = model.manifest
        if first is not None and own is not None and own.source.sha256 != first.source.sha256:
            other = f"another model ({own.arch})" if own.arch != first.arch else "made of other weights"
            yield f"{model.path} is {other} than {models[0].path}: the differences are those of the models"


def _run_in_turn(
    paths: Sequence[str | os.PathLike[str]],
    images: Sequence[ImageSource],
    load_model: Callable[[str | os.PathLike[str]], Classifier],
    progress: Callable[[int], object] | None,
) -> tuple[list[NDArray[np.float32]], list[list[float]]]:
    """Return each file's logits, float32 [N, C], and its seconds for each picture.

    The files take turns with a share of the pictures, and only one is open on the CPU at a time: ONNX Runtime's threads
    spin between runs, and those of one session would take the cores from the next (four times slower was measured).
    On a GPU they stay open: nothing spins, and TensorRT may compile for minutes when a file is opened.
    """
    logits: list[list[NDArray[np.float32]]] = [[] for _ in paths]
    seconds: list[list[float]] = [[] for _ in paths]
    size = -(-len(images) // _TURNS)
    with contextlib.ExitStack() as on_gpu:
        kept: dict[int, Classifier] = {}
        for turn, start in enumerate(range(0, len(images), size)):
            share = images[start : start + size]
            order = range(len(paths)) if turn % 2 else reversed(range(len(paths)))
            for index in order:
                model = kept.get(index) or on_gpu.enter_context(load_model(paths[index]))
                batches = [load(image, model.preprocess)[None] for image in share]
                for _ in range(_WARMUP):
                    model.run(batches[0])
                for batch in batches:
                    started = time.perf_counter()
                    (found,) = model.run(batch)
                    seconds[index].append(time.perf_counter() - started)
                    logits[index].append(found)
                if any(name in model.provider for name in _ON_GPU):
                    kept[index] = model
                else:
                    model.close()
            if progress is not None:
                progress(len(share))
    return [np.stack(found) for found in logits], seconds


def _cosines(found: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    ours, theirs = found.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray((ours * theirs).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny))


def _loss(row: Row, first: Row) -> tuple[float, str]:
    """Return how many points a file loses to the first one, and by which measure."""
    if row.accuracy is not None and first.accuracy is not None:
        return first.accuracy - row.accuracy, "acc@1"
    return first.agreement - row.agreement, "agreement"


def _recommend(rows: Sequence[Row], max_drop: float) -> int:
    allowed = [index for index, row in enumerate(rows) if _loss(row, rows[0])[0] <= max_drop]
    quickest = min(rows[index].p50_ms for index in allowed)
    close = [index for index in allowed if rows[index].p50_ms <= quickest * (1 + _SAME_SPEED)]
    return min(close, key=lambda index: (rows[index].size_bytes, rows[index].p50_ms))
