"""How a histogram of an activation becomes the range that 8 bits shall span.

A wider range clips less and rounds more; each calibrator weighs the two in its own way. All return a range that
holds 0, because padding and ReLU need an exact 0 (Jacob et al. 2018, arXiv 1712.05877, section 2.1), and lies within
the values seen; a symmetric one is ``(-limit, limit)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecls_export.histogram import Histogram

__all__ = ["CALIBRATORS", "Calibrator", "Entropy", "MinMax", "Mse", "Percentile"]

Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class MinMax:
    """The smallest and the largest value seen: nothing is clipped."""

    name: ClassVar[str] = "minmax"

    def range(self, histogram: Histogram, *, symmetric: bool) -> Range:
        """Return the range."""
        return _within(histogram, -histogram.largest, histogram.largest, symmetric=symmetric)


@dataclass(frozen=True)
class Percentile:
    """Clip the outermost values; half of them at either end, or by magnitude if symmetric.

    Attributes:
        percentile: percentage of the values to keep.
    """

    name: ClassVar[str] = "percentile"
    percentile: float = 99.999

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile {self.percentile} must be over 50 and at most 100")

    def range(self, histogram: Histogram, *, symmetric: bool) -> Range:
        """Return the range."""
        if symmetric:
            counts = histogram.magnitudes(len(histogram.counts) // 2)
            limit = _quantile(counts, np.linspace(0, histogram.largest, len(counts) + 1), self.percentile / 100)
            return _within(histogram, -limit, limit, symmetric=True)
        tail = (1 - self.percentile / 100) / 2
        low = -_quantile(histogram.counts[::-1], -histogram.edges[::-1], 1 - tail)
        high = _quantile(histogram.counts, histogram.edges, 1 - tail)
        return _within(histogram, low, high, symmetric=False)


@dataclass(frozen=True)
class Entropy:
    """Lose the least information: the clip of the magnitudes whose 8-bit distribution is closest in KL divergence.

    Every limit from ``levels`` bins up is tried. The values beyond it are added to the last bin of the reference; the
    candidate spreads each level's count evenly over the bins of that level that are not empty. Bin 0 counts no more
    than its neighbour, or the zeros after a ReLU would decide alone.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017; as NVIDIA's pytorch-quantization does it
    (``calib/histogram.py`` in github.com/NVIDIA/TensorRT, ``_compute_amax_entropy``).

    Attributes:
        bins: of the histogram of magnitudes.
    """

    name: ClassVar[str] = "entropy"
    bins: int = 2048

    def __post_init__(self) -> None:
        if not 256 <= self.bins <= 2**14 or self.bins & (self.bins - 1):
            raise ValueError(f"bins {self.bins} must be a power of two from 256 to 16384")

    def range(self, histogram: Histogram, *, symmetric: bool) -> Range:
        """Return the range."""
        # All 256 levels lie on one side only where an asymmetric range has only one.
        levels = 256 if not symmetric and (histogram.minimum >= 0 or histogram.maximum <= 0) else 128
        counts = histogram.magnitudes(self.bins).astype(np.float64)
        counts[0] = counts[1]
        divergences = [_divergence(counts, end, levels) for end in range(levels, self.bins + 1)]
        best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))  # the widest of equals
        limit = histogram.largest * (levels + best) / self.bins
        return _within(histogram, -limit, limit, symmetric=symmetric)


@dataclass(frozen=True)
class Mse:
    """Make the mean squared error of the 8-bit values the smallest, over the histogram's bins.

    An asymmetric range is searched one end after the other, the larger first.

    Attributes:
        steps: number of limits tried, equally spaced up to the largest value.
    """

    name: ClassVar[str] = "mse"
    steps: int = 128

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps {self.steps} must be at least 2")

    def range(self, histogram: Histogram, *, symmetric: bool) -> Range:
        """Return the range."""
        used = np.flatnonzero(histogram.counts)
        centres = ((histogram.edges[:-1] + histogram.edges[1:]) / 2)[used]
        weights = histogram.counts[used].astype(np.float64)
        shares = [step / self.steps for step in range(self.steps, 0, -1)]  # the widest of equals first

        def best(candidates: list[Range]) -> Range:
            errors = [_squared_error(centres, weights, *pair, symmetric=symmetric) for pair in candidates]
            return candidates[int(np.argmin(errors))]

        largest = histogram.largest
        if symmetric:
            return best([(-largest * share, largest * share) for share in shares])
        low, high = _within(histogram, -largest, largest, symmetric=False)
        for end in ("high", "low") if high >= -low else ("low", "high"):
            if end == "high":
                low, high = best([(low, high * share) for share in shares])
            else:
                low, high = best([(low * share, high) for share in shares])
        return low, high


Calibrator: TypeAlias = MinMax | Percentile | Entropy | Mse

CALIBRATORS: dict[str, type[Calibrator]] = {kind.name: kind for kind in (MinMax, Percentile, Entropy, Mse)}
"""By name."""


def _within(histogram: Histogram, low: float, high: float, *, symmetric: bool) -> Range:
    """Bring a range into the values seen, and 0 into the range."""
    if symmetric:
        return float(low), float(high)
    return min(max(float(low), histogram.minimum), 0.0), max(min(float(high), histogram.maximum), 0.0)


def _quantile(counts: NDArray[np.int64], edges: NDArray[np.float64], share: float) -> float:
    """Return the upper edge of the bin in which this share of the values is reached."""
    reached = np.searchsorted(np.cumsum(counts), share * counts.sum() * (1 - 1e-12))
    return float(edges[min(int(reached) + 1, len(counts))])


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    """Return the KL divergence of what is left of a distribution in ``levels`` levels over its first ``end`` bins."""
    kept = counts[:end]
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    filled = kept > 0
    level = np.arange(end) * levels // end
    sums = np.bincount(level, kept, minlength=levels)
    sizes = np.bincount(level, filled, minlength=levels)
    spread = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0)
    if (spread[reference > 0] == 0).any() or not reference.any():
        return float("inf")
    held = reference > 0
    p, q = reference[held] / reference.sum(), spread[held] / spread.sum()
    return float((p * np.log(p / q)).sum())


def _squared_error(
    values: NDArray[np.float64], weights: NDArray[np.float64], low: float, high: float, *, symmetric: bool
) -> float:
    """Return the weighted squared error of values rounded to int8 (-127 to 127) or to uint8 with a zero point."""
    smallest, largest = (-127, 127) if symmetric else (0, 255)
    scale = (high - low) / (largest - smallest)
    if scale <= 0:
        return float((weights * values**2).sum())
    zero = 0 if symmetric else np.round(-low / scale)
    rounded = (np.clip(np.round(values / scale) + zero, smallest, largest) - zero) * scale
    return float((weights * (values - rounded) ** 2).sum())
