"""Each calibrator against a direct computation over the values themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgecls_export.calibrators import CALIBRATORS, Entropy, MinMax, Mse, Percentile
from edgecls_export.histogram import Histogram, count

VALUES = {
    "heavy tail": np.random.default_rng(0).standard_t(2.5, 50_021),
    "after ReLU": np.maximum(np.random.default_rng(1).standard_t(3, 50_021), 0),
    "lopsided": np.random.default_rng(2).gumbel(0, 1, 50_021),
    "even": np.random.default_rng(3).uniform(-1, 1, 50_021),
}


def histogram(values: np.ndarray) -> Histogram:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return Histogram(low, high, count(values.astype(np.float32), max(-low, high)))


def rounded(values: np.ndarray, low: float, high: float, *, symmetric: bool) -> np.ndarray:
    """Quantize and dequantize, as ONNX defines it."""
    smallest, largest = (-127, 127) if symmetric else (0, 255)
    scale = (high - low) / (largest - smallest)
    zero = 0 if symmetric else np.round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, smallest, largest) - zero) * scale


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_minmax_clips_nothing(name: str, symmetric: bool) -> None:
    values = VALUES[name]
    low, high = MinMax().range(histogram(values), symmetric=symmetric)
    largest = np.abs(values).max()
    expected = (-largest, largest) if symmetric else (min(values.min(), 0), values.max())
    assert (low, high) == pytest.approx(expected)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.999])
def test_percentile_is_numpys(name: str, percentile: float) -> None:
    values = VALUES[name]
    width = np.abs(values).max() / 2**14
    _, limit = Percentile(percentile).range(histogram(values), symmetric=True)
    assert limit == pytest.approx(np.percentile(np.abs(values), percentile, method="inverted_cdf"), abs=1.01 * width)
    low, high = Percentile(percentile).range(histogram(values), symmetric=False)
    tail = (100 - percentile) / 2
    assert high == pytest.approx(np.percentile(values, 100 - tail, method="inverted_cdf"), abs=1.01 * width)
    assert low == pytest.approx(min(-np.percentile(-values, 100 - tail, method="inverted_cdf"), 0), abs=1.01 * width)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_has_the_smallest_error(name: str, symmetric: bool) -> None:
    """No other end of the range has a smaller error over the values themselves."""
    values = VALUES[name]
    low, high = Mse().range(histogram(values), symmetric=symmetric)
    best = np.square(values - rounded(values, low, high, symmetric=symmetric)).mean()
    for share in np.linspace(0.02, 1, 50):
        if symmetric:
            limit = np.abs(values).max() * share
            others = [(-limit, limit)]
        else:
            others = [(low, values.max() * share), *([(values.min() * share, high)] if low < 0 else [])]
        for other in others:
            error = np.square(values - rounded(values, *other, symmetric=symmetric)).mean()
            assert error > best * 0.99, other


def entropy_limit(values: np.ndarray, levels: int) -> float:
    """What Migacz describes and pytorch-quantization does, bin by bin, without a trick."""
    counts, edges = np.histogram(np.abs(values), 2048, (0, np.abs(values).max()))
    counts = counts.astype(float)
    counts[0] = counts[1]
    best, limit = np.inf, 0.0
    for end in range(levels, 2049):
        p = counts[:end].copy()
        p[-1] += counts[end:].sum()
        groups = np.digitize(np.arange(end), np.linspace(0, end, levels + 1)) - 1
        q = np.zeros(end)
        for group in range(levels):
            inside = (groups == group) & (counts[:end] > 0)
            if inside.any():
                q[inside] = counts[:end][inside].mean()
        p, q = p / p.sum(), q / q.sum()
        if (q[p > 0] == 0).any():
            continue
        divergence = (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()
        if divergence <= best:
            best, limit = divergence, edges[end]
    return float(limit)


@pytest.mark.parametrize(("name", "symmetric", "levels"), [("heavy tail", True, 128), ("after ReLU", False, 256)])
def test_entropy_is_the_published_search(name: str, symmetric: bool, levels: int) -> None:
    values = VALUES[name][:20_000]
    _, high = Entropy().range(histogram(values), symmetric=symmetric)
    width = np.abs(values).max() / 2048
    assert high == pytest.approx(entropy_limit(values, levels), abs=2.01 * width)


def test_they_differ_where_the_tail_is_heavy_and_agree_where_there_is_none() -> None:
    heavy = histogram(np.random.default_rng(0).standard_t(2.5, 500_000))  # of which 99.999 % leave five out
    even = histogram(VALUES["even"])
    for symmetric in (False, True):
        limits = {name: kind().range(heavy, symmetric=symmetric)[1] for name, kind in CALIBRATORS.items()}
        assert limits["minmax"] > 1.2 * limits["percentile"]
        assert limits["minmax"] > 4 * limits["entropy"]
        ordered = sorted(limits.values())
        assert all(above > 1.01 * below for below, above in itertools.pairwise(ordered)), limits
        assert [kind().range(even, symmetric=symmetric)[1] for kind in CALIBRATORS.values()] == pytest.approx(
            [1, 1, 1, 1], abs=0.02
        )


@pytest.mark.parametrize("kind", CALIBRATORS.values())
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_range_holds_zero_and_no_more_than_was_seen(kind: type, symmetric: bool) -> None:
    for values in (np.zeros(10), np.full(10, 3.0), np.full(10, -3.0), np.linspace(2, 3, 100), np.linspace(-3, -2, 100)):
        low, high = kind().range(histogram(values), symmetric=symmetric)
        assert low <= 0 <= high
        assert max(-low, high) <= np.abs(values).max()
        assert (low == -high) or not symmetric
        if not symmetric:
            assert low >= min(values.min(), 0)
            assert high <= max(values.max(), 0)


@pytest.mark.parametrize(
    "wrong", [lambda: Percentile(50), lambda: Percentile(101), lambda: Entropy(100), lambda: Mse(1)]
)
def test_parameters_out_of_range_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        wrong()  # type: ignore[operator]
