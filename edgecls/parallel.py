"""Work on pictures in several threads: Pillow and numpy let go of Python's lock while they decode and resize."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from edgecls_runtime.cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["bounded_map", "usable_cpus"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def bounded_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in their order, computed in ``workers`` threads.

    Unlike ``Executor.map`` it holds no more than ``ahead`` results, however many items there are.

    Args:
        function: called in another thread; what it raises is raised here, in its item's turn.
        items: read no further than needed.
        workers: number of threads.
        ahead: items in work or waiting to be yielded; four for each thread if None.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(workers, "edgecls")
    try:
        first = itertools.islice(remaining, 4 * workers if ahead is None else ahead)
        pending = deque(pool.submit(function, item) for item in first)
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
