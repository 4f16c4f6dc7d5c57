"""One setup in a process of its own, `edgecls.benchmark.worker_process`, that does as it is told.

A fresh process has its own place in memory, its own threads and nothing of another engine's, and a setup that is
measured in several of them shows how much that matters. If the engine takes its process with it, what was measured
before is kept. Orders and answers are JSON, a line each, on standard input and output; between them the process waits
for the next line and computes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from edgecls.benchmark.sampling import Samples, WarmUp
from edgecls_runtime import errors
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import BenchmarkError, EdgeclsError
from edgecls_runtime.manifest import from_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["COMMAND", "Loaded", "Order", "Worker"]

COMMAND = (sys.executable, "-P", "-m", "edgecls.benchmark.worker_process")
"""Starts the process; ``-P`` keeps modules of the current folder out of it."""

_TICK_S = 0.25
_PATIENCE_S = 10  # with a process that was asked to stop

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run, and on what.

    Attributes:
        model: path of the file.
        pictures: paths, in the order in which they are taken.
        scenario: of `edgecls.benchmark.document.Setup`.
        batch_size: pictures a run; None for one, with ``multistream`` and ``offline`` for what suits them.
        placement: where to run.
        trust: of `Classifier.load`.
        engine_cache: likewise.
    """

    model: str
    pictures: tuple[str, ...]
    scenario: Literal["singlestream", "multistream", "offline", "engine"] = "singlestream"
    batch_size: int | None = None
    placement: Placement = field(default_factory=Placement)
    trust: bool = False
    engine_cache: str | None = None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the model turned out to be.

    Attributes:
        provider: that really runs it, in the engine's own words.
        engine: name and version.
        batch_size: pictures a run.
        assumptions: `Classifier.assumptions`.
    """

    provider: str
    engine: str
    batch_size: int
    assumptions: tuple[str, ...]


class Worker:
    """A process that measures one setup. Close it, or use it as a context.

    Args:
        order: what to run.
        command: that starts the process.
    """

    def __init__(self, order: Order, *, command: Sequence[str] = COMMAND) -> None:
        self._order = order
        # In a group of its own, so that a terminal's Ctrl-C does not end it during its imports: `stop` tells it.
        self._process = subprocess.Popen(  # noqa: S603 - our own
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            process_group=0,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read_lines, daemon=True).start()

    def load(self) -> Loaded:
        """Load the model.

        Raises:
            EdgeclsError: as `Classifier.load` does.
            BenchmarkError: the process ended.
        """
        return self._ask(Loaded, "load", what=dataclasses.asdict(self._order))

    def warm_up(self, *, limit_s: float) -> WarmUp:
        """Answer queries until the latency has settled; see `edgecls.benchmark.sampling.warm_up`.

        Raises:
            EdgeclsError: a query failed.
            BenchmarkError: the process ended.
        """
        return self._ask(WarmUp, "warm_up", limit_s=limit_s)

    def measure(
        self,
        *,
        duration_s: float | None = None,
        iterations: int | None = None,
        tick: Callable[[], object] | None = None,
    ) -> Samples:
        """Answer queries that count; see `edgecls.benchmark.sampling.take_samples`.

        Each call goes on with the pictures where the last one stopped.

        Args:
            duration_s: seconds.
            iterations: number of queries.
            tick: called now and then while it lasts.

        Raises:
            BenchmarkError: the process ended. What a query raises is part of the samples.
        """
        return self._ask(Samples, "measure", tick, duration_s=duration_s, iterations=iterations)

    def stop(self) -> Samples | None:
        """End the measurement of a `measure` that an exception has left; return what it has, or None."""
        with contextlib.suppress(OSError, ValueError):  # Windows has no such signal; its Ctrl-C reaches every process
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(EdgeclsError):
            return self._answer(Samples, patience_s=_PATIENCE_S)
        return None

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe("stdin").close()  # the process ends where it has no more orders
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe("stdout").close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def _ask(
        self, answer: type[_Answer], order: str, tick: Callable[[], object] | None = None, **details: object
    ) -> _Answer:
        with contextlib.suppress(OSError):  # a process that is no more says why, below
            self._pipe("stdin").write(json.dumps({"do": order, **details}) + "\n")
            self._pipe("stdin").flush()
        return self._answer(answer, tick=tick)

    def _answer(
        self, kind: type[_Answer], *, tick: Callable[[], object] | None = None, patience_s: float = float("inf")
    ) -> _Answer:
        line = None
        while line is None:
            try:
                line = self._lines.get(timeout=_TICK_S)
            except queue.Empty:
                patience_s -= _TICK_S
                if patience_s < 0:
                    raise BenchmarkError(f"{self._order.model}: its process does not stop", "It is ended.") from None
                if tick is not None:
                    tick()
        if not line:
            self._lines.put("")  # for whoever asks again
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise getattr(errors, error["kind"])(error["cause"], error["remedy"])
        result: _Answer = from_document(kind, answer, "worker")
        return result

    def _ended(self) -> BenchmarkError:
        status = self._process.wait()
        with contextlib.suppress(ValueError):
            return BenchmarkError(
                f"{self._order.model}: the process that measured it was ended by {signal.Signals(-status).name}",
                "The engine crashed, or the memory did not suffice; try: edgecls verify MODEL",
            )
        return BenchmarkError(
            f"{self._order.model}: the process that measured it ended with status {status}",
            "What it said stands above; try: edgecls verify MODEL",
        )

    def _read_lines(self) -> None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in self._pipe("stdout"):
                self._lines.put(line)
        self._lines.put("")

    def _pipe(self, name: Literal["stdin", "stdout"]) -> Any:
        return getattr(self._process, name)
