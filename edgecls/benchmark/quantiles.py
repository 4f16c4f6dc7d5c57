"""What a sample says about the latency it was taken of, and no more than that.

A quantile of a sample is one of its values; how far the true one may lie above follows from the binomial distribution
alone, whatever the latency's own distribution is: the number of samples below the true ``share`` quantile is
binomial(count, share), so the k-th smallest sample is at least the true quantile with the probability of
``binomial <= k - 1`` (David and Nagaraja, Order Statistics, 3rd edition, section 7.1). Samples that hang together, as
those of a machine in one mood do, carry less than that: `edgecls.benchmark.doubts` looks out for it.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CONFIDENCE", "SHARES", "Quantile", "Summary", "minimum_samples", "quantile", "summarize"]

CONFIDENCE = 0.99
"""With which a true quantile is no larger than the bound that is given for it."""

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Quantile:
    """A quantile that a sample supports.

    Attributes:
        share: of the queries that are no slower.
        value: of the sample.
        at_most: the true quantile is no larger than this, with the confidence that was asked for.
    """

    share: float
    value: float
    at_most: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A sample in a few numbers, all in its own unit.

    Attributes:
        count: of the samples.
        mean: of all of them, as for the rest: nothing is left out as an outlier.
        stdev: of the sample; 0 of a single one.
        min: the smallest.
        max: the largest.
        p50: None where the sample does not support it, as for the rest.
        p90: likewise.
        p95: likewise.
        p99: likewise.
    """

    count: int
    mean: float
    stdev: float
    min: float
    max: float
    p50: Quantile | None
    p90: Quantile | None
    p95: Quantile | None
    p99: Quantile | None

    @property
    def variation(self) -> float:
        """Coefficient of variation: ``stdev`` as a share of ``mean``."""
        return self.stdev / self.mean if self.mean else 0.0


def minimum_samples(share: float, *, confidence: float = CONFIDENCE) -> int:
    """Return from how many samples on the largest is an upper bound: 44 for p90, 90 for p95, 459 for p99.

    All of ``n`` samples lie below the true quantile with the probability ``share**n``.
    """
    return math.ceil(math.log(1 - confidence) / math.log(share))


def quantile(samples: Sequence[float], share: float, *, confidence: float = CONFIDENCE) -> Quantile | None:
    """Return a quantile and its upper bound; None if the sample is too small to have one.

    Args:
        samples: in any order.
        share: between 0 and 1.
        confidence: of the bound.
    """
    count = len(samples)
    rank = _bound_rank(count, share, confidence)
    if rank is None:
        return None
    ordered = sorted(samples)
    return Quantile(share, ordered[math.ceil(count * share) - 1], ordered[rank - 1])


def summarize(samples: Sequence[float], *, confidence: float = CONFIDENCE) -> Summary:
    """Say in a few numbers what a sample holds.

    Raises:
        ValueError: it holds nothing.
    """
    if not samples:
        raise ValueError("there are no samples to summarize")
    ordered = sorted(samples)
    mean = statistics.fmean(ordered)
    return Summary(
        count=len(ordered),
        mean=mean,
        stdev=statistics.stdev(ordered, mean) if len(ordered) > 1 else 0.0,
        min=ordered[0],
        max=ordered[-1],
        **{name: quantile(ordered, share, confidence=confidence) for name, share in SHARES.items()},
    )


def _bound_rank(count: int, share: float, confidence: float) -> int | None:
    """Return the smallest rank, from 1, of a sample that is an upper bound: P(binomial >= rank) <= 1 - confidence."""
    tail = 0.0
    for rank in range(count, 0, -1):
        tail += math.exp(_log_binomial(count, rank, share))
        if tail > 1 - confidence:
            return None if rank == count else rank + 1
    return 1 if count else None


def _log_binomial(count: int, hits: int, share: float) -> float:
    choices = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return choices + hits * math.log(share) + (count - hits) * math.log1p(-share)
