"""Query after query: until the latency has settled, then for the samples that count."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls.benchmark.peak_memory import peak_rss_bytes
from edgecls_runtime.errors import EdgeclsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgecls.benchmark.queries import Queries

__all__ = ["Samples", "WarmUp", "is_steady", "take_samples", "warm_up"]

_WINDOW_QUERIES = 5
_WINDOW_NS = 100_000_000
_WINDOWS = 3
_SAME = 0.05


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """What came before the samples.

    Attributes:
        queries: that were answered.
        steady: whether the latency had settled; else the limit was reached first.
    """

    queries: int
    steady: bool


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What one turn of a setup gave; `edgecls.benchmark.document.Measured` has the like of all turns.

    Attributes:
        latency_ms: of each query.
        stages_ms: by stage, likewise.
        seconds: wall time of them all.
        cpu_seconds: that this process computed from the call on, in all its threads.
        pictures: answered.
        peak_rss_bytes: of the process so far.
        failure: what ended the turn early; None if nothing did.
    """

    latency_ms: tuple[float, ...]
    stages_ms: dict[str, tuple[float, ...]]
    seconds: float
    cpu_seconds: float
    pictures: int
    peak_rss_bytes: int
    failure: str | None = None


def warm_up(
    queries: Queries,
    *,
    limit_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> WarmUp:
    """Answer queries until their latency has settled, or the limit is reached; then begin with the first picture again.

    The model's runs alone are looked at where they are known: the same work each time, whatever the pictures.

    Args:
        queries: to answer.
        limit_s: seconds; at least two queries are answered.
        should_stop: asked after each query.
        clock: nanoseconds.

    Raises:
        EdgeclsError: a query failed.
    """
    run = queries.stages.index("run") if queries.stages else 0
    medians: list[float] = []
    window: list[int] = []
    count = 0
    steady = False
    began = clock()
    while not steady and not should_stop():
        window.append(queries.answer()[run])
        count += 1
        if len(window) >= _WINDOW_QUERIES and sum(window) >= _WINDOW_NS:
            medians.append(statistics.median(window))
            window = []
            steady = is_steady(medians)
        if count > 1 and clock() - began >= limit_s * 1e9:
            break
    queries.rewind()
    return WarmUp(queries=count, steady=steady)


def is_steady(medians: Sequence[float]) -> bool:
    """Return whether the last three windows' medians lie within 5 % of the least of them."""
    last = medians[-_WINDOWS:]
    return len(last) == _WINDOWS and max(last) <= min(last) * (1 + _SAME)


def take_samples(
    queries: Queries,
    *,
    duration_s: float | None = None,
    iterations: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Samples:
    """Answer queries until time or number is reached, whichever is first, and keep the times of all of them.

    The garbage collector is off meanwhile. What a query raises ends it, and stands in ``failure``.

    Args:
        queries: to answer; one more goes before those that count.
        duration_s: seconds; at least one query is answered.
        iterations: number of queries.
        should_stop: asked after each query.
        clock: nanoseconds.
    """
    if duration_s is None and iterations is None:
        raise ValueError("give duration_s, iterations, or both")
    end_ns = float("inf") if duration_s is None else duration_s * 1e9
    times: list[tuple[int, ...]] = []
    failure = None
    gc.disable()
    cpu_began, began = time.process_time(), clock()
    try:
        queries.begin()
        began = clock()
        while len(times) != iterations and not should_stop():
            times.append(queries.answer())
            if clock() - began >= end_ns:
                break
    except EdgeclsError as error:
        failure = error.cause
    finally:
        elapsed, cpu = clock() - began, time.process_time() - cpu_began
        gc.enable()
    return Samples(
        latency_ms=tuple(sum(parts) / 1e6 for parts in times),
        stages_ms={stage: tuple(parts[index] / 1e6 for parts in times) for index, stage in enumerate(queries.stages)},
        seconds=elapsed / 1e9,
        cpu_seconds=cpu,
        pictures=queries.pictures * len(times),
        peak_rss_bytes=peak_rss_bytes(),
        failure=failure,
    )
