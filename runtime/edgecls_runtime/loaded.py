"""One model file as it runs: its engine, and everything that belongs to that file and to no other."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import ManifestError, ModelError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from edgecls_runtime.backends import Backend
    from edgecls_runtime.backends.settings import Placement
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["LoadedModel", "Prediction", "scores_from_logits"]


@dataclass(frozen=True)
class Prediction:
    """A class and its score: a probability with softmax, a per-label probability with sigmoid."""

    index: int
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.score:8.2%}  {self.label}"


@dataclass(eq=False, kw_only=True)
class LoadedModel:
    """A model file and its engine. Nothing in it changes, so whoever holds one gets its logits with its labels.

    It is closed when whoever made it says so and the last run that holds it is over. The attributes are those of
    `edgecls_runtime.classifier.Classifier`, and ``engine_cache`` that of its ``load``, for `reload`.
    """

    backend: Backend
    engine_cache: str | os.PathLike[str] | None = None
    placement: Placement
    path: str
    manifest: Manifest | None
    labels: tuple[str, ...]
    preprocess: Preprocess
    activation: str
    assumptions: tuple[str, ...]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _holders: int = 0
    _closed: bool = False

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """With ``sigmoid``, the score from which each label counts."""
        return self.manifest.thresholds if self.manifest else None

    @property
    def batch_size(self) -> int | None:
        """Fixed number of pictures a run; None if it is free."""
        axis = (self.backend.input.shape or (None,))[0]
        return axis if isinstance(axis, int) else None

    def acquire(self) -> bool:
        """Keep the engine open until `release`; return False if it is closed already."""
        with self._lock:
            self._holders += not self._closed
            return not self._closed

    def release(self) -> None:
        """Let go of the engine; who comes last after `close` frees its memory."""
        with self._lock:
            self._holders -= 1
            last = self._closed and not self._holders
        if last:
            self.backend.close()

    def close(self) -> None:
        """Free the engine's memory, now or after the runs in flight."""
        if self.acquire():
            self._closed = True
            self.release()

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, classes], of preprocessed pictures, a batch of `Preprocess.new_batch`.

        Raises:
            ModelError: the model failed, or returned a number that is none.
            ValueError: the batch is not of the shape and dtype that the model takes.
        """
        count, size = len(batch), self.batch_size
        if count == 0:
            return np.empty((0, len(self.labels)), np.float32)
        taken = self.backend.input
        shape = taken.shape or batch.shape
        pairs = zip(shape[1:], batch.shape[1:], strict=False)
        differs = batch.ndim != len(shape) or any(isinstance(axis, int) and axis != length for axis, length in pairs)
        if differs or not np.can_cast(batch.dtype, taken.dtype, "same_kind"):
            raise ValueError(f"batch is {batch.dtype} {list(batch.shape)}, must be {taken} (Preprocess.new_batch)")
        batch = batch.astype(np.dtype(taken.dtype), copy=False)
        if size is None or count == size:
            logits = self.backend.run(batch)
        else:
            fill = np.zeros((-count % size, *batch.shape[1:]), batch.dtype)
            filled = np.concatenate([batch, fill])
            runs = [self.backend.run(filled[start : start + size]) for start in range(0, len(filled), size)]
            logits = np.concatenate(runs)[:count]
        if len(logits) != count:
            raise ModelError(
                f"{self.path}: answered {count} pictures with {len(logits)} rows of outputs",
                "Its graph fixes or mixes what is in a run: export it again with a batch axis that is free throughout.",
            )
        return self.checked(logits)

    def checked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the engine computed, [N, ...], as [N, classes].

        Raises:
            ManifestError: there are more or fewer than there are labels.
            ModelError: one of them is no number.
        """
        logits = logits.reshape(len(logits), -1)  # [N, classes, 1, 1] is a classifier too
        if logits.shape[1] != len(self.labels):
            raise ManifestError(
                f"{self.path}: returned {logits.shape[1]} outputs for {len(self.labels)} labels",
                "Give one label for each output, in its order.",
            )
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{self.path}: returned {logits[~np.isfinite(logits)][0]} on {self.backend.provider}",
                f"The model or its engine is broken; check it with: edgecls verify {self.path}",
            )
        return logits

    def top(self, logits: NDArray[np.float32], top_k: int) -> tuple[Prediction, ...]:
        """Return the best classes of one picture's logits, float32 [classes]; equal scores go by index."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, must be at least 1")
        # Everything from the k-th largest up, then only those few are sorted; equal scores go by index.
        count = min(top_k, len(logits))
        ordered = logits.copy()
        ordered.partition(-count)
        candidates = (logits >= ordered[-count]).nonzero()[0].tolist()
        best = sorted(candidates, key=logits.__getitem__, reverse=True)[:count]  # reversed, a sort is still stable
        if self.activation == "softmax":  # `scores_from_logits` of these few alone
            powers = np.exp(logits - logits[best[0]])
            total = float(powers.sum())
            scores = [powers.item(index) / total for index in best]
        else:
            scores = scores_from_logits(logits[best], self.activation).tolist()
        bounds = self.thresholds
        return tuple(
            Prediction(index, self.labels[index], score)
            for index, score in zip(best, scores, strict=True)
            if bounds is None or score >= bounds[index]
        )


def scores_from_logits(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Turn logits into scores between 0 and 1.

    Args:
        logits: float32 [..., classes].
        activation: ``softmax`` over the classes, ``sigmoid`` of each, or ``identity`` where they are scores already.

    Returns:
        float32 [..., classes].
    """
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        # The argument of exp is never positive, so it cannot overflow.
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)
