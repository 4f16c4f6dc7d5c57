"""Keep as few layers in float as an accuracy budget needs.

The layers are ranked by their quantization noise; the shortest prefix of that ranking that meets the budget is found
by doubling and halving, and then every layer of it that can go back to integers does. Same pictures, same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecls_export.provenance import BudgetTrial
from edgecls_runtime.backends import open_backend
from edgecls_runtime.errors import CalibrationError, ImageError
from edgecls_runtime.preprocess import decode, normalize, resize_and_crop

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["Budget", "Judge", "Search", "spend"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What INT8 may cost.

    Attributes:
        max_drop: percentage points of acc@1 under float32; of the same best class where no picture has a label.
        images: pictures to measure on.
        targets: the index of each one's class; None where they have no labels.
        origin: which pictures, in words.
    """

    max_drop: float
    images: Sequence[ImageSource]
    targets: Sequence[int] | None
    origin: str


@dataclass(frozen=True)
class Search:
    """What was tried, in order; the last of `trials` that met the budget with the fewest layers is `best`.

    Attributes:
        best: the trial that met the budget; the nearest to it if none did.
        met: whether it did.
        trials: all of them.
    """

    best: BudgetTrial
    met: bool
    trials: tuple[BudgetTrial, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.trials))


class Judge:
    """Scores graphs on the budget's pictures, which are read once and kept as bytes (150 KB each at 224x224)."""

    def __init__(self, budget: Budget, preprocess: Preprocess) -> None:
        """Read the pictures.

        Raises:
            CalibrationError: there are none, one cannot be read, or there is not one target for each.
        """
        if not budget.images:
            raise CalibrationError(f"{budget.origin}: holds no pictures to measure on", "Give some: --eval-data DIR")
        if budget.targets is not None and len(budget.targets) != len(budget.images):
            raise CalibrationError(
                f"{budget.origin}: has {len(budget.images)} pictures and {len(budget.targets)} targets",
                "Give the class of each picture, in their order, or None.",
            )
        try:
            self._pixels = [resize_and_crop(decode(image, preprocess), preprocess) for image in budget.images]
        except ImageError as error:
            raise CalibrationError(error.cause, "Repair or remove it: every picture is measured on.") from error
        self.budget, self._preprocess = budget, preprocess
        self._targets = None if budget.targets is None else np.asarray(budget.targets)
        self._agreeing: NDArray[np.intp] | None = None

    @property
    def measure(self) -> str:
        """What the score is: ``acc@1``, or ``agreement`` with the first graph that was scored."""
        return "acc@1" if self._targets is not None else "agreement"

    def score(self, path: str | os.PathLike[str]) -> float:
        """Return a graph's score in percent; without labels the first graph's answers are the right ones."""
        backend = open_backend(path)
        size = (backend.input.shape or (None,))[0]
        step = size if isinstance(size, int) else 1
        best = []
        for start in range(0, len(self._pixels), step):
            batch = np.zeros((step, 3, *self._preprocess.crop_size), np.float32)
            for row, pixels in zip(batch, self._pixels[start : start + step], strict=False):
                normalize(pixels, self._preprocess, out=row)
            logits = backend.run(batch.astype(backend.input.dtype, copy=False)).reshape(step, -1)
            best += logits.argmax(1).tolist()
        backend.close()
        answers = np.asarray(best[: len(self._pixels)])
        if self._targets is not None:
            return float(100 * (answers == self._targets).mean())
        if self._agreeing is None:
            self._agreeing = answers
        return float(100 * (answers == self._agreeing).mean())


def spend(
    ranking: Sequence[str],
    score_with: Callable[[tuple[str, ...]], float],
    *,
    baseline: float,
    max_drop: float,
    most: int,
) -> Search:
    """Find a smallest set of layers to keep in float.

    Args:
        ranking: names of the layers, the noisiest first.
        score_with: score in percent with these layers in float.
        baseline: score of float32, in percent.
        max_drop: what may be lost, in percentage points.
        most: layers that may stay in float, at most.

    Returns:
        The search; no layer of its best trial can be taken out alone without breaking the budget.
    """
    trials: list[BudgetTrial] = []

    def attempt(layers: tuple[str, ...]) -> bool:
        known = next((trial for trial in trials if trial.float_layers == layers), None)
        if known is None:
            score = score_with(layers)
            known = BudgetTrial(float_layers=layers, score=score, drop=baseline - score)
            trials.append(known)
        return known.drop <= max_drop + 1e-9

    def prefix(count: int) -> tuple[str, ...]:
        return tuple(ranking[:count])

    most = min(most, len(ranking))
    low, high = -1, 0  # a prefix of `low` layers fails, one of `high` is the next to try
    while not attempt(prefix(high)):
        low = high
        if high == most:
            nearest = min(trials, key=lambda trial: (trial.drop, len(trial.float_layers)))
            return Search(nearest, met=False, trials=tuple(trials))
        high = min(most, max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if attempt(prefix(middle)) else (middle, high)
    kept = prefix(high)
    for layer in reversed(kept):  # the quietest first: it is the likeliest to be needless
        without = tuple(name for name in kept if name != layer)
        if attempt(without):
            kept = without
    best = next(trial for trial in trials if trial.float_layers == kept)
    return Search(best, met=True, trials=tuple(trials))
