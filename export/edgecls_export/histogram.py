"""What values an activation takes over many pictures, in bounded memory.

Two passes over the pictures: the first finds each tensor's largest magnitude, the second counts into bins that this
fixes. Bins that grow while one counts would need one pass, but their edges would depend on the order of the pictures;
these do not, and equal those of a histogram over all values at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecls_export.activations import preprocessed
from edgecls_runtime.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edgecls_export.activations import ObservedGraph
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["BINS", "Histogram", "collect_histograms"]

BINS = 2**15
"""Over ``-largest`` to ``largest``: 2**14 a side, fine enough for the tail where one value dwarfs the rest.

256 KiB a tensor, so 60 MB for the 200 activations of a large classifier, however many the pictures.
"""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of a tensor's values, in equal bins around zero.

    Attributes:
        minimum: smallest value.
        maximum: largest value.
        counts: int64 [BINS], from ``-largest`` to ``largest``.
    """

    minimum: float
    maximum: float
    counts: NDArray[np.int64]

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return max(-self.minimum, self.maximum)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, float64 [bins + 1]."""
        return np.linspace(-self.largest, self.largest, len(self.counts) + 1)

    def magnitudes(self, bins: int) -> NDArray[np.int64]:
        """Return the counts of ``abs(value)`` in this many equal bins from 0 to ``largest``; bins divides BINS / 2."""
        half = len(self.counts) // 2
        folded = self.counts[half:] + self.counts[:half][::-1]
        return np.asarray(folded.reshape(bins, -1).sum(axis=1))

    def __str__(self) -> str:
        return f"{int(self.counts.sum()):,} values from {self.minimum:.4g} to {self.maximum:.4g}"


def count(values: NDArray[np.float32], largest: float) -> NDArray[np.int64]:
    """Count values into BINS equal bins from ``-largest`` to ``largest``."""
    if not largest:
        counts = np.zeros(BINS, np.int64)
        counts[BINS // 2] = values.size
        return counts
    factor = BINS / 2 / largest
    kind = np.float32 if factor <= float(np.finfo(np.float32).max) else np.float64  # of tiny values it does not fit
    index = (values.ravel() * kind(factor) + kind(BINS / 2)).astype(np.intp)
    np.clip(index, 0, BINS - 1, out=index)
    return np.bincount(index, minlength=BINS)


def collect_histograms(
    graph: ObservedGraph,
    images: Sequence[ImageSource],
    preprocess: Preprocess,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> dict[str, Histogram]:
    """Run pictures through a float32 graph and count what its tensors hold.

    Args:
        graph: with the tensors to count visible.
        images: the pictures; each is read twice.
        preprocess: what turns them into the input.
        progress: called with the number of pictures done and their total, both passes counted.

    Raises:
        ImageError: a picture cannot be read.
        CalibrationError: a tensor holds a value that is no number.
    """
    total = 2 * len(images)
    spans: dict[str, tuple[float, float]] = {}
    for batch in preprocessed(
        images, preprocess, batch_size=graph.batch_size, progress=lambda done, _: progress(done, total)
    ):
        for name, values in graph.run(batch).items():
            low, high = float(values.min()), float(values.max())
            if not np.isfinite([low, high]).all():
                raise CalibrationError(
                    f"{name}: the float32 graph computes {low} to {high} there",
                    "The weights are broken: check them with a float32 export.",
                )
            before = spans.get(name, (0.0, 0.0))
            spans[name] = min(before[0], low), max(before[1], high)
    counts = {name: np.zeros(BINS, np.int64) for name in spans}
    for batch in preprocessed(
        images, preprocess, batch_size=graph.batch_size, progress=lambda done, of: progress(of + done, total)
    ):
        for name, values in graph.run(batch).items():
            counts[name] += count(values, max(-spans[name][0], spans[name][1]))
    return {name: Histogram(*spans[name], counts[name]) for name in graph.tensors}
