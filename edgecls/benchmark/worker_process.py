"""The other side of `edgecls.benchmark.worker`: ``python -m edgecls.benchmark.worker_process``."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from edgecls.benchmark.queries import open_queries
from edgecls.benchmark.sampling import take_samples, warm_up
from edgecls.benchmark.worker import Loaded, Order
from edgecls_runtime.classifier import Classifier
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.errors import BenchmarkError, EdgeclsError, ModelError
from edgecls_runtime.manifest import from_document
from edgecls_runtime.stream import default_batch_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgecls.benchmark.sampling import Samples, WarmUp

__all__ = ["main"]

_MULTISTREAM = 8  # MLPerf's samples a query (its inference rules, section 6.2)


class _Process:
    """What is loaded, and whether to go on."""

    def __init__(self) -> None:
        self.stopped = False
        self.model = ""  # path of what is loaded
        self._parent = os.getppid()
        self.opened = contextlib.ExitStack()
        self._queries: Any = None  # `Queries`, once loaded

    def should_stop(self) -> bool:
        """Return whether it was told so, or whoever could tell it is gone."""
        return self.stopped or os.getppid() != self._parent

    def do(self, order: str, details: dict[str, Any]) -> Loaded | WarmUp | Samples:
        """Follow an order of `edgecls.benchmark.worker.Worker`."""
        if order == "load":
            return self._load(from_document(Order, details["what"], "order"))
        if order == "warm_up":
            found = warm_up(self._queries, **details, should_stop=self.should_stop)
            gc.collect()
            gc.freeze()  # what is there by now stays: no collection between two measurements looks at it again
            return found
        return take_samples(self._queries, **details, should_stop=self.should_stop)

    def _load(self, order: Order) -> Loaded:
        self.model, placement = order.model, order.placement
        classifier = self.opened.enter_context(
            Classifier.load(
                order.model,
                provider=placement.provider,
                threads=placement.threads,
                settings=placement.settings,
                trust=order.trust,
                engine_cache=order.engine_cache,
            )
        )
        size = _batch_size(classifier, order)
        workers = max(1, usable_cpus() // (placement.threads or 1))
        self._queries = self.opened.enter_context(
            open_queries(classifier, order.pictures, scenario=order.scenario, batch_size=size, workers=workers)
        )
        return Loaded(
            provider=classifier.provider,
            engine=classifier.engine,
            batch_size=size,
            assumptions=classifier.assumptions,
        )


def main() -> None:
    """Follow the orders on standard input until there are no more."""
    process = _Process()

    def stop(*_: object) -> None:
        process.stopped = True

    signal.signal(signal.SIGINT, stop)
    logging.disable(logging.WARNING)  # what was assumed is part of an answer
    # The engines' libraries write to the standard output at will: let them write to the other one.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers, process.opened:
        os.dup2(2, 1)
        _serve(process, sys.stdin, answers)


def _serve(process: _Process, orders: Iterable[str], answers: Any) -> None:
    for line in orders:
        details = json.loads(line)
        try:
            answer = dataclasses.asdict(process.do(details.pop("do"), details))
        except (EdgeclsError, MemoryError) as error:
            if isinstance(error, MemoryError):
                cause = f"{process.model}: the memory does not suffice: {str(error) or 'no more is to be had'}"
                error = BenchmarkError(cause, "Use a smaller --batch.")
            answer = {"error": {"kind": type(error).__name__, "cause": error.cause, "remedy": error.remedy}}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _batch_size(classifier: Classifier, order: Order) -> int:
    if order.scenario == "singlestream":
        return 1  # a file that fixes another number fills up, as Classifier.predict does
    if order.batch_size is None:
        if order.scenario == "offline":
            return default_batch_size(classifier)
        return classifier.batch_size or (1 if order.scenario == "engine" else _MULTISTREAM)
    if classifier.batch_size not in (None, order.batch_size):
        raise ModelError(
            f"{order.model}: takes {classifier.batch_size} pictures a run, not {order.batch_size}",
            "Leave out --batch.",
        )
    return order.batch_size


if __name__ == "__main__":
    main()
