"""How much slower, and how sure is that: intervals on a ratio of latencies, from samples that hang together.

Queries that follow one another share the machine's mood, and those of one process its place in memory; ten thousand
samples of one process say little about the next. So whole rounds are drawn again, never single samples: of a
hierarchy, the level that varies most and was repeated least (T. Kalibera and R. Jones, *Rigorous benchmarking in
reasonable time*, ISMM 2013; A. Davison and D. Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8:
draw the upper level with replacement and keep the lower one whole). Neighbouring rounds may share a drift: runs of
them are drawn, of random lengths around one that the rounds' own correlation asks for (D. Politis and J. Romano, *The
stationary bootstrap*, JASA 1994; D. Politis and H. White, *Automatic block-length selection for the dependent
bootstrap*, 2004, with the correction of 2009).

Five to thirty rounds are few: a percentile interval would be too narrow, and has nothing to say about one case in a
thousand. The interval is Student's instead, with the bootstrap's standard error of the logarithm, which Hesterberg's
factor corrects (*What teachers should know about the bootstrap*, American Statistician 2015), and as many degrees of
freedom as there are independent rounds, less one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FEWEST_ROUNDS", "Interval", "median_of_ratios", "ratio_of_medians", "student_quantile"]

FEWEST_ROUNDS = 5
"""With fewer, the rounds' own spread is a guess."""

_RESAMPLES = 2000  # the standard error is known to 1 / sqrt(2 * 2000), 1.6 %
_MOST_CORRELATED = 0.95
_CHUNK = 4_000_000  # numbers at a time


@dataclass(frozen=True)
class Interval:
    """A ratio of latencies, contender over baseline, and between what it lies.

    Attributes:
        ratio: the estimate.
        low: the true ratio is smaller with no more than the probability that was asked for.
        high: likewise larger.
    """

    ratio: float
    low: float
    high: float


def ratio_of_medians(
    baseline: Sequence[Sequence[float]], contender: Sequence[Sequence[float]], *, error: float
) -> Interval | None:
    """Compare two measurements that were made apart.

    Args:
        baseline: latencies of each round, in the order of the rounds; all positive.
        contender: likewise.
        error: probability that the true ratio lies below the interval, and likewise above it. What a machine does to
            all rounds of one measurement alike, and not to the other, no interval can know.

    Returns:
        None if there are too few rounds.
    """
    if min(len(baseline), len(contender)) < FEWEST_ROUNDS:
        return None
    ours, theirs = _Medians(contender), _Medians(baseline)
    variances = np.array([ours.standard_error**2, theirs.standard_error**2])
    freedoms = np.array([ours.independent - 1, theirs.independent - 1])
    total = float(variances.sum())
    # Welch's and Satterthwaite's approximation: the less certain of the two counts more.
    freedom = total**2 / float((variances**2 / freedoms).sum()) if total else float(freedoms.min())
    return _interval(ours.median - theirs.median, math.sqrt(total), freedom, error)


def median_of_ratios(
    baseline: Sequence[Sequence[float]], contender: Sequence[Sequence[float]], *, error: float
) -> Interval | None:
    """Compare two measurements that were made in turn: the n-th query of a round with the other's, of the same picture.

    What the machine did to both cancels out, and so does what makes one picture slower than another.

    Args:
        baseline: latencies of each round, in the order of the rounds; all positive.
        contender: likewise, as many.
        error: probability that the true ratio lies below the interval, and likewise above it.

    Returns:
        None if there are too few rounds.
    """
    if len(baseline) < FEWEST_ROUNDS:
        return None
    ratios = [np.divide(ours, theirs) for ours, theirs in zip(contender, baseline, strict=True)]
    pairs = _Medians(ratios)
    return _interval(pairs.median, pairs.standard_error, pairs.independent - 1, error)


def student_quantile(probability: float, freedom: int) -> float:
    """Return Student's t below which a share of the distribution lies.

    Args:
        probability: above 0.5.
        freedom: degrees of freedom, at least 1.

    The distribution's finite series: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if (1 + _student_within(angle, freedom)) / 2 < probability else (low, angle)
    return math.tan(low) * math.sqrt(freedom)


class _Medians:
    """The median of all rounds' logarithms, and how much it varies when rounds are drawn again.

    Attributes:
        median: of all samples' logarithms.
        independent: number of rounds that count as independent of one another; more than 1.
        standard_error: of the median.
    """

    def __init__(self, rounds: Sequence[Sequence[float] | NDArray[np.float64]]) -> None:
        logs = [np.log(np.asarray(samples, np.float64)) for samples in rounds]
        self.median = float(np.median(np.concatenate(logs)))
        count = len(logs)
        length = _block_length(np.array([np.median(samples) for samples in logs]))
        self.independent = max(1.5, count / length)
        counts = _drawn_counts(count, length)
        spread = float(_medians(logs, counts).std())
        self.standard_error = spread * math.sqrt(count / (count - 1))


def _interval(log_ratio: float, standard_error: float, freedom: float, error: float) -> Interval:
    margin = student_quantile(1 - error, max(1, math.floor(freedom + 1e-9))) * standard_error
    return Interval(*(math.exp(min(value, 700.0)) for value in (log_ratio, log_ratio - margin, log_ratio + margin)))


def _block_length(values: NDArray[np.float64]) -> float:
    """Return how many neighbours to draw together, on average: Politis and White's length for a series of first order.

    With the correlation r of neighbours its autocovariances are those of r**k, and the rule
    (2 G**2 / D)**(1/3) n**(1/3) with D = 2 g(0)**2 becomes (4 r**2 n / (1 - r**2)**2)**(1/3).
    """
    rest = values - values.mean()
    power = float(rest @ rest)
    correlation = float(rest[1:] @ rest[:-1]) / power if power else 0.0
    correlation = min(max(correlation, 0.0), _MOST_CORRELATED)
    return max(1.0, math.cbrt(4 * correlation**2 * len(values) / (1 - correlation**2) ** 2))


def _drawn_counts(count: int, length: float) -> NDArray[np.int64]:
    """Return how often each round is drawn, int64 [resamples, rounds], by the stationary bootstrap; always the same."""
    random = np.random.default_rng(0)
    rows = np.arange(_RESAMPLES)
    counts = np.zeros((_RESAMPLES, count), np.int64)
    at = random.integers(0, count, _RESAMPLES)
    for _ in range(count):
        counts[rows, at] += 1
        begins = random.random(_RESAMPLES) < 1 / length
        at = np.where(begins, random.integers(0, count, _RESAMPLES), (at + 1) % count)
    return counts


def _medians(rounds: Sequence[NDArray[np.float64]], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the median of each draw, float64 [resamples], where a round's samples count as often as it was drawn."""
    values = np.concatenate(rounds)
    owners = np.repeat(np.arange(len(rounds)), [len(samples) for samples in rounds])
    order = np.argsort(values, kind="stable")
    values, owners = values[order], owners[order]
    # The middle of several rounds together lies between their own: what lies outside needs only to be counted.
    middles = [np.sort(samples)[[(len(samples) - 1) // 2, len(samples) // 2]] for samples in rounds]
    first = int(np.searchsorted(values, np.min(middles), "left"))
    last = int(np.searchsorted(values, np.max(middles), "right"))
    below = np.array([np.count_nonzero(owners[:first] == number) for number in range(len(rounds))])
    values, owners = values[first:last], owners[first:last]
    halves = counts @ np.array([len(samples) for samples in rounds]) / 2
    found = np.empty(len(counts))
    step = max(1, _CHUNK // len(values))
    for start in range(0, len(counts), step):
        part = counts[start : start + step]
        reached = (part @ below)[:, None] + np.cumsum(part[:, owners], axis=1)
        half = halves[start : start + step, None]
        # An even number has two middle values; where one is enough both are the same.
        lower, upper = np.argmax(reached >= half, axis=1), np.argmax(reached > half, axis=1)
        found[start : start + step] = (values[lower] + values[upper]) / 2
    return found


def _student_within(angle: float, freedom: int) -> float:
    """Return the probability of |t| < sqrt(freedom) tan(angle)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1, freedom // 2 + 1 if not odd else (freedom + 1) // 2):
        total += term
        term *= cosine**2 * ((2 * k) / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
