from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.benchmark.quantiles import SHARES, minimum_samples, quantile, summarize


def chance_of_fewer_than(rank: int, count: int, share: Fraction) -> Fraction:
    """P(binomial(count, share) < rank), exactly: that the rank-th smallest sample is no less than the quantile."""
    return sum(
        (math.comb(count, hits) * share**hits * (1 - share) ** (count - hits) for hits in range(rank)), Fraction(0)
    )


@pytest.mark.parametrize(("name", "count"), [("p50", 7), ("p90", 44), ("p95", 90), ("p99", 459)])
def test_from_how_many_samples_on_there_is_a_bound(name: str, count: int) -> None:
    share = SHARES[name]
    assert minimum_samples(share) == count
    assert quantile(range(count - 1), share) is None
    found = quantile(range(count), share)
    assert found is not None
    assert found.at_most == count - 1  # the largest of them
    # The definition itself: all samples lie below the quantile with a probability of share ** count.
    assert share**count <= 0.01 < share ** (count - 1)


@settings(deadline=None, max_examples=60)
@given(st.integers(7, 700), st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(95, 100), Fraction(99, 100)]))
def test_the_bound_is_the_smallest_sample_that_is_one(count: int, share: Fraction) -> None:
    found = quantile(list(range(1, count + 1)), float(share))  # each sample is its own rank
    wanted = Fraction(99, 100)
    if found is None:
        assert chance_of_fewer_than(count, count, share) < wanted
        return
    rank = int(found.at_most)
    assert chance_of_fewer_than(rank, count, share) >= wanted
    assert chance_of_fewer_than(rank - 1, count, share) < wanted
    assert found.value == math.ceil(count * share)
    assert found.value <= found.at_most


def test_the_bound_holds_as_often_as_it_says() -> None:
    chance, true_p90, trials = random.Random(1), -math.log(0.1), 2000
    missed = 0
    for _ in range(trials):
        found = quantile([chance.expovariate(1) for _ in range(100)], 0.9)
        assert found is not None
        missed += found.at_most < true_p90
    assert missed <= 0.01 * trials + 3 * math.sqrt(0.01 * trials)  # three standard deviations of the count


def test_many_samples_and_another_confidence() -> None:
    samples = list(range(1, 100_001))
    wide, narrow = quantile(samples, 0.5, confidence=0.9999), quantile(samples, 0.5, confidence=0.6)
    assert wide is not None
    assert narrow is not None
    assert wide.value == narrow.value == 50_000
    # The normal approximation: count/2 + z * sqrt(count)/2.
    assert wide.at_most == pytest.approx(50_000 + 3.719 * math.sqrt(100_000) / 2, abs=3)
    assert narrow.at_most == pytest.approx(50_000 + 0.2533 * math.sqrt(100_000) / 2, abs=3)


def test_a_summary_leaves_nothing_out() -> None:
    summary = summarize([3.0, 1.0, 2.0, 100.0])
    assert (summary.count, summary.min, summary.max, summary.mean) == (4, 1.0, 100.0, 26.5)
    assert summary.stdev == pytest.approx(math.sqrt((23.5**2 + 25.5**2 + 24.5**2 + 73.5**2) / 3))
    assert summary.variation == pytest.approx(summary.stdev / 26.5)
    assert (summary.p50, summary.p90, summary.p95, summary.p99) == (None, None, None, None)


def test_one_sample_and_none() -> None:
    assert (summarize([5.0]).stdev, summarize([0.0]).variation) == (0.0, 0.0)
    assert quantile([], 0.5) is None
    with pytest.raises(ValueError, match="no samples"):
        summarize([])
