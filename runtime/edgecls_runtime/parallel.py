"""Work on pictures in several threads: Pillow, numpy and the engines let go of Python's lock while they work."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = ["bounded_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# How long an end waits for what is in work. A decode or a run takes less; a read from a silent pipe takes for ever.
_PATIENCE_S = 5.0

Call: TypeAlias = "Callable[[], None]"


def bounded_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in their order, computed in ``workers`` threads.

    Unlike ``Executor.map`` it holds no more than ``ahead`` results, however many items there are. The caller's own
    thread reads the items, so that a database cursor may be among what they come from. When the generator is closed or
    lost, or fails, its threads end after what they have in work; at the interpreter's exit likewise.

    Args:
        function: called in another thread; what it raises is raised here, in its item's turn.
        items: read no further than needed; what reading them raises is raised here after the results of those before.
        workers: number of threads.
        ahead: items in work or waiting to be yielded; four for each thread if None. The next is read when the caller
            comes back for more, so that 1 yields each result before it waits for another item.
    """
    remaining = iter(items)
    limit = 4 * workers if ahead is None else ahead
    pending: deque[Future[Result]] = deque()
    failure: Exception | None = None
    more = True
    threads = _Threads(workers)
    try:
        while True:
            while more and len(pending) < limit:
                try:
                    item = next(remaining)
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - raised below, in its turn
                    more, failure = False, error
                else:
                    pending.append(threads.submit(function, item))
                    del item
            if not pending:
                break
            yield pending.popleft().result()
        if failure is not None:
            raise failure
    finally:
        threads.end()


class _Threads:
    """Threads that do calls in turn until they are told to end.

    Not a `ThreadPoolExecutor`: the interpreter's exit waits for all that one still has to do, and for ever for a thread
    that reads from a silent pipe. Its threads would not be allowed to be daemons either. Ours are, and yet at the exit
    they are given time to come out of the engine, where a thread that is cut off can bring down the process.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        # Must not refer to `self`. It also runs at the interpreter's exit, if nobody has called end() by then.
        self.end = weakref.finalize(self, _end, self._threads, self._calls, self._ended)

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Have a thread call the function; threads begin as they are needed."""
        future: Future[Result] = Future()

        def call() -> None:
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                future.set_exception(error)

        self._calls.put(call)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=_work, args=(self._calls, self._ended), name="edgecls", daemon=True)
            thread.start()
            self._threads.append(thread)
        return future


def _work(calls: SimpleQueue[Call | None], ended: threading.Event) -> None:
    while (call := calls.get()) is not None and not ended.is_set():
        call()
        del call  # or it would keep its picture until the next one comes


def _end(threads: list[threading.Thread], calls: SimpleQueue[Call | None], ended: threading.Event) -> None:
    ended.set()
    for _ in threads:
        calls.put(None)
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        if thread is not threading.current_thread():  # a lost generator may be collected in any thread
            thread.join(max(0.0, deadline - time.monotonic()))
