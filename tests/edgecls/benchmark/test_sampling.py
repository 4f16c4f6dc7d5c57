from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from edgecls.benchmark.sampling import is_steady, take_samples, warm_up
from edgecls_runtime.errors import ModelError

MS = 1_000_000


class Fake:
    """Queries that take as long as they are told; the clock moves with them alone."""

    def __init__(
        self, run_ns: Sequence[int], *, stages: tuple[str, ...] = ("decode", "run"), decode_ns: int = 0
    ) -> None:
        self.stages = stages
        self.pictures = 2
        self.now = 0
        self.begun = self.rewound = 0
        self.collecting: list[bool] = []
        self._run_ns = run_ns
        self._decode_ns = decode_ns
        self.answered = 0

    def begin(self) -> None:
        self.begun += 1

    def rewind(self) -> None:
        self.rewound += 1

    def answer(self) -> tuple[int, ...]:
        if self.answered == len(self._run_ns):
            raise ModelError("the engine broke", "Mend it.")
        run = self._run_ns[self.answered]
        self.answered += 1
        self.collecting.append(gc.isenabled())
        self.now += run + self._decode_ns
        return (self._decode_ns, run) if self.stages else (run,)

    def clock(self) -> int:
        return self.now


def test_the_warm_up_ends_when_the_latency_has_settled() -> None:
    # Windows of 5 queries that last 100 ms: 60, 40, 30, then 20 ms a query.
    queries = Fake([60 * MS] * 5 + [40 * MS] * 5 + [30 * MS] * 5 + [20 * MS] * 100)
    found = warm_up(queries, limit_s=60, clock=queries.clock)
    assert (found.queries, found.steady) == (30, True)  # three windows at 20 ms
    assert queries.rewound == 1


def test_the_warm_up_looks_at_the_models_runs_alone() -> None:
    queries = Fake([30 * MS] * 100, decode_ns=7 * MS)
    queries.answer = lambda: (queries.answered * 9 * MS, Fake.answer(queries)[1])  # type: ignore[method-assign]
    assert warm_up(queries, limit_s=60, clock=queries.clock).steady


def test_windows_of_short_queries_last_long_enough() -> None:
    queries = Fake([MS] * 1000, stages=())
    found = warm_up(queries, limit_s=60, clock=queries.clock)
    assert (found.queries, found.steady) == (300, True)


def test_the_warm_up_has_a_limit() -> None:
    queries = Fake([ms * MS for ms in range(200, 0, -1)])  # quicker and quicker
    found = warm_up(queries, limit_s=2, clock=queries.clock)
    assert not found.steady
    assert found.queries == 11  # 200 + 199 + ... passes 2 s with the eleventh
    slow = Fake([5000 * MS] * 10)
    assert warm_up(slow, limit_s=1, clock=slow.clock).queries == 2  # always more than one: the first is no measure


def test_the_warm_up_stops_when_told() -> None:
    queries = Fake([MS] * 1000)
    found = warm_up(queries, limit_s=60, clock=queries.clock, should_stop=lambda: queries.answered >= 7)
    assert (found.queries, found.steady) == (7, False)
    with pytest.raises(ModelError):
        warm_up(Fake([MS] * 3), limit_s=60)


@pytest.mark.parametrize(
    ("medians", "steady"),
    [
        ([10, 10, 10], True),
        ([90, 10, 10.4, 10.2], True),
        ([10, 10.6, 10], False),
        ([10, 10, 10, 11], False),
        ([10, 10], False),
    ],
)
def test_what_is_steady(medians: list[float], steady: bool) -> None:
    assert is_steady(medians) is steady


def test_samples_are_kept_all_and_in_order() -> None:
    queries = Fake([3 * MS, 1 * MS, 900 * MS, 2 * MS, 5 * MS], decode_ns=MS // 2)
    samples = take_samples(queries, iterations=5, clock=queries.clock)
    assert samples.latency_ms == (3.5, 1.5, 900.5, 2.5, 5.5)
    assert samples.stages_ms == {"decode": (0.5,) * 5, "run": (3.0, 1.0, 900.0, 2.0, 5.0)}
    assert samples.seconds == pytest.approx(0.9135)
    assert (samples.pictures, samples.failure, queries.begun) == (10, None, 1)
    assert samples.peak_rss_bytes > 10_000_000


def test_time_and_number_are_both_limits() -> None:
    queries = Fake([100 * MS] * 100)
    assert len(take_samples(queries, duration_s=1, iterations=50, clock=queries.clock).latency_ms) == 10
    assert len(take_samples(queries, duration_s=1, iterations=3, clock=queries.clock).latency_ms) == 3
    assert len(take_samples(queries, duration_s=0.001, clock=queries.clock).latency_ms) == 1
    with pytest.raises(ValueError, match="duration_s, iterations"):
        take_samples(queries)


def test_what_fails_midway_is_kept() -> None:
    queries = Fake([MS] * 4)
    samples = take_samples(queries, iterations=10, clock=queries.clock)
    assert samples.latency_ms == (1.0,) * 4
    assert (samples.failure, samples.pictures) == ("the engine broke", 8)
    assert gc.isenabled()


def test_a_stop_ends_it_with_what_there_is() -> None:
    queries = Fake([MS] * 100)
    samples = take_samples(queries, iterations=100, clock=queries.clock, should_stop=lambda: queries.answered >= 6)
    assert len(samples.latency_ms) == 6


def test_the_garbage_collector_is_off_meanwhile_and_on_again() -> None:
    queries = Fake([MS] * 5)
    take_samples(queries, iterations=5, clock=queries.clock)
    assert queries.collecting == [False] * 5
    assert gc.isenabled()
