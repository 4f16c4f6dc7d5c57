from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.benchmark import intervals
from edgecls.benchmark.intervals import FEWEST_ROUNDS, median_of_ratios, ratio_of_medians, student_quantile

BOTH = pytest.mark.parametrize("compare", [ratio_of_medians, median_of_ratios])


def rounds(
    generator: np.random.Generator,
    count: int = 10,
    queries: int = 30,
    *,
    between: float = 0.02,
    within: float = 0.05,
    median_ms: float = 5.0,
    drift: float = 0.0,
    correlation: float = 0.0,
) -> list[list[float]]:
    """Latencies whose rounds differ, drift, and hang together; a tenth of the queries is disturbed."""
    mood = np.empty(count)
    mood[0] = generator.normal()
    for number in range(1, count):
        mood[number] = correlation * mood[number - 1] + math.sqrt(1 - correlation**2) * generator.normal()
    found = []
    for number in range(count):
        noise = within * generator.normal(size=queries)
        for index in range(1, queries):  # neighbouring queries share the machine's mood
            noise[index] = 0.5 * noise[index - 1] + math.sqrt(0.75) * noise[index]
        noise += np.where(generator.random(queries) < 0.1, generator.exponential(size=queries), 0)
        found.append((median_ms * np.exp(between * mood[number] + drift * number + noise)).tolist())
    return found


latencies = st.lists(
    st.lists(st.floats(0.1, 1e4), min_size=1, max_size=8), min_size=FEWEST_ROUNDS, max_size=FEWEST_ROUNDS + 3
)


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    # Abramowitz and Stegun, table 26.10
    [(0.975, 1, 12.706), (0.99, 2, 6.965), (0.995, 3, 5.841), (0.9995, 4, 8.610), (0.99, 9, 2.821), (0.975, 30, 2.042)],
)
def test_students_quantiles_are_those_of_the_tables(probability: float, freedom: int, value: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(value, abs=6e-4)


@BOTH
@given(data=latencies, factor=st.sampled_from([1e-3, 0.5, 3.0, 1e3]))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_time_does_not_matter(compare: object, data: list[list[float]], factor: float) -> None:
    other = [[value * 1.25 for value in reversed(samples)] for samples in data]
    plain = compare(data, other, error=0.01)  # type: ignore[operator]
    scaled = compare(
        *([[value * factor for value in samples] for samples in each] for each in (data, other)), error=0.01
    )  # type: ignore[operator]
    slower = compare(data, [[value * factor for value in samples] for samples in other], error=0.01)  # type: ignore[operator]
    for name in ("ratio", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-6)
        assert getattr(slower, name) == pytest.approx(getattr(plain, name) * factor, rel=1e-6)


@BOTH
@given(data=latencies)
@settings(max_examples=20, deadline=None)
def test_swapping_the_two_inverts_the_interval(compare: object, data: list[list[float]]) -> None:
    other = [[value**1.1 for value in reversed(samples)] for samples in data]
    there = compare(data, other, error=0.01)  # type: ignore[operator]
    back = compare(other, data, error=0.01)  # type: ignore[operator]
    assert back.ratio == pytest.approx(1 / there.ratio, rel=1e-9)
    assert (back.low, back.high) == (pytest.approx(1 / there.high, rel=1e-9), pytest.approx(1 / there.low, rel=1e-9))


@given(data=latencies)
@settings(max_examples=20, deadline=None)
def test_the_medians_of_draws_are_those_of_the_samples_drawn(data: list[list[float]]) -> None:
    counts = intervals._drawn_counts(len(data), 1.7)[:20]
    assert (counts.sum(axis=1) == len(data)).all()
    arrays = [np.array(samples) for samples in data]
    for found, drawn in zip(intervals._medians(arrays, counts), counts, strict=True):
        samples = np.concatenate([np.repeat(array, times) for array, times in zip(arrays, drawn, strict=True)])
        assert found == np.median(samples)


@BOTH
def test_too_few_rounds_have_no_interval(compare: object) -> None:
    few = [[1.0, 2.0]] * (FEWEST_ROUNDS - 1)
    assert compare(few, few, error=0.01) is None  # type: ignore[operator]
    assert compare([*few, [1.0, 2.0]], [*few, [1.0, 2.0]], error=0.01) is not None  # type: ignore[operator]


@BOTH
def test_more_queries_of_the_same_rounds_prove_little_more(compare: object) -> None:
    # Samples drawn one by one would make the interval ten times narrower.
    widths = []
    for queries in (10, 1000):
        generator = np.random.default_rng(4)
        pair = [rounds(generator, 12, queries, between=0.05, within=0.02) for _ in range(2)]
        found = compare(*pair, error=0.025)  # type: ignore[operator]
        widths.append(math.log(found.high / found.low))
    assert widths[1] > 0.6 * widths[0]


def test_what_hits_both_in_turn_cancels_out() -> None:
    generator = np.random.default_rng(5)
    baseline, contender = (rounds(generator, between=0.005, drift=0.04) for _ in range(2))
    apart, in_turn = (compare(baseline, contender, error=0.025) for compare in (ratio_of_medians, median_of_ratios))
    assert apart is not None
    assert in_turn is not None
    assert math.log(in_turn.high / in_turn.low) < 0.25 * math.log(apart.high / apart.low)
    assert in_turn.low < 1 < in_turn.high


def test_pictures_that_differ_cancel_out_in_turn() -> None:
    generator = np.random.default_rng(6)
    pictures = np.exp(generator.normal(0, 0.5, (10, 20)))  # some take five times as long as others
    noise = np.exp(generator.normal(0, 0.01, (2, 10, 20)))
    found = median_of_ratios((pictures * noise[0]).tolist(), (1.1 * pictures * noise[1]).tolist(), error=0.01)
    assert found is not None
    assert 1.09 < found.low < 1.1 < found.high < 1.11


def test_rounds_that_hang_together_are_drawn_together() -> None:
    generator = np.random.default_rng(7)
    steps = generator.normal(size=200)
    series = np.convolve(steps, np.ones(8) / 8, mode="valid")
    assert intervals._block_length(series) > 5
    assert intervals._block_length(steps) < 2
    assert intervals._block_length(np.ones(9)) == 1
    wide, narrow = (
        ratio_of_medians([[5.0]] * 193, [[5 * math.exp(0.05 * value)] for value in values], error=0.025)
        for values in (series, generator.permutation(series))
    )
    assert wide is not None
    assert narrow is not None
    assert math.log(wide.high / wide.low) > 1.5 * math.log(narrow.high / narrow.low)


@pytest.mark.parametrize(("compare", "count"), [(ratio_of_medians, 8), (ratio_of_medians, 20), (median_of_ratios, 6)])
def test_the_true_ratio_lies_outside_as_rarely_as_was_asked_for(
    compare: object, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_RESAMPLES", 300)  # a standard error to within 4 %, for the sake of time
    generator = np.random.default_rng(8)
    error, trials = 0.05, 200
    below = above = 0
    for _ in range(trials):
        pair = [rounds(generator, count, 12, median_ms=median_ms) for median_ms in (5.0, 5.5)]
        found = compare(*pair, error=error)  # type: ignore[operator]
        below += found.low > 1.1
        above += found.high < 1.1
    # binomial(200, 0.05) exceeds 20 once in a thousand times
    assert below <= 20
    assert above <= 20
    assert below + above >= 4  # nor are the intervals wider than need be


def test_the_less_certain_of_the_two_decides_the_degrees_of_freedom() -> None:
    noisy = [[5.0 * times] for times in (1.0, 1.03, 0.98, 1.05, 0.99, 1.02)]
    steady = [[5.0]] * 40
    for pair, freedom in (((noisy, noisy), 10), ((steady, noisy), 5), ((noisy, steady), 5)):
        found = ratio_of_medians(*pair, error=0.025)
        assert found is not None
        errors = [intervals._Medians(rounds).standard_error for rounds in pair]
        assert intervals._Medians(noisy).independent == 6
        margin = student_quantile(0.975, freedom) * math.hypot(*errors)
        assert math.log(found.high / found.ratio) == pytest.approx(margin, rel=1e-6)
        assert math.log(found.ratio / found.low) == pytest.approx(margin, rel=1e-6)
