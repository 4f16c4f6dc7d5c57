"""Measure a model in several setups that take turns, and keep what there is however it ends."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
import os
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls.benchmark.cold_start import start_cold
from edgecls.benchmark.conditions import between, take_snapshot
from edgecls.benchmark.document import Document, Model
from edgecls.benchmark.fingerprint import this_fingerprint
from edgecls.benchmark.recording import Recorder
from edgecls.benchmark.worker import COMMAND, Worker
from edgecls_runtime import __version__, engine_file, manifest
from edgecls_runtime.errors import EdgeclsError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgecls.benchmark.document import ColdStart, Pictures, Run
    from edgecls.benchmark.worker import Order

__all__ = ["QUICK", "Effort", "Measurement", "describe_model", "new_document"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure; what is reached first ends it.

    Attributes:
        duration_s: of the queries that count, for each setup; None for as long as the iterations take.
        iterations: queries that count, for each setup; None for as many as there is time for.
        rounds: turns of each setup, each in a process of its own; fewer if there are fewer iterations.
        warmup_s: of each round at most.
        cold_starts: processes that are started for their cold start.
    """

    duration_s: float | None = 10
    iterations: int | None = None
    rounds: int = 10
    warmup_s: float = 2
    cold_starts: int = 5


QUICK = Effort(duration_s=3, rounds=8, warmup_s=0.75, cold_starts=3)


class Measurement:
    """A measurement that knows, at any moment, what it has.

    Args:
        orders: one for each setup, all of one model and the same pictures.
        effort: how long.
        command: that starts a `edgecls.benchmark.worker.Worker`.

    Attributes:
        assumptions: what the model's file left to be assumed.
    """

    def __init__(self, orders: Sequence[Order], effort: Effort, *, command: Sequence[str] = COMMAND) -> None:
        self.assumptions: tuple[str, ...] = ()
        self._complete = False
        self._failure: str | None = None
        self._orders = orders
        self._effort = effort
        self._command = command
        self._recorders = [Recorder(order) for order in orders]
        self._cold_starts: list[ColdStart] = []

    def run(self, progress: Callable[[str, float], object] = lambda *_: None) -> None:
        """Measure all setups, in turns. A setup that fails is over, and the others go on.

        Ctrl-C goes through, as all that is raised meanwhile; what there is by then is kept.

        Args:
            progress: called with what is going on, and with the share of the whole that is done.

        Raises:
            EdgeclsError: nothing could be measured: why, of the first setup.
        """
        effort, first_error = self._effort, None
        rounds = min(effort.rounds, effort.iterations or effort.rounds)
        turns = list(zip(self._orders, self._recorders, strict=True))
        for number in range(rounds):
            for place, (order, recorder) in enumerate(turns):
                if recorder.failure is not None:
                    continue
                try:
                    self._turn(
                        order, recorder, number, rounds, self._progress_of(order, place, number, rounds, progress)
                    )
                except EdgeclsError as error:
                    recorder.failure = error.cause
                    first_error = first_error or error
            turns.reverse()  # who comes after whom turns too
            if not any(recorder.pictures for recorder in self._recorders) and first_error is not None:
                raise first_error
            self._start_cold(number, rounds, progress)
        failures = [recorder.failure for recorder in self._recorders]
        self._complete = self._failure is None and not any(failures)

    def to_document(
        self, model: Model, pictures: Pictures, options: dict[str, str], *, failure: str | None = None
    ) -> Document:
        """Return what there is.

        Args:
            model: that was measured.
            pictures: likewise.
            options: for the document.
            failure: what ended the measurement; None if it went through.
        """
        return new_document(
            model=model,
            pictures=pictures,
            options=options,
            runs=tuple(recorder.to_run() for recorder in self._recorders if recorder.pictures or recorder.failure),
            cold_starts=tuple(self._cold_starts),
            complete=self._complete,
            failure=failure or self._failure,
        )

    def _turn(
        self, order: Order, recorder: Recorder, number: int, rounds: int, progress: Callable[[float], object]
    ) -> None:
        effort = self._effort
        duration_s = None if effort.duration_s is None else effort.duration_s / rounds
        iterations = None if effort.iterations is None else (effort.iterations + number) // rounds
        # Where the last round stopped, so that all pictures have their turn however short the rounds are.
        first = recorder.pictures % len(order.pictures)
        order = dataclasses.replace(order, pictures=order.pictures[first:] + order.pictures[:first])
        with Worker(order, command=self._command) as worker:
            progress(0)
            loaded = worker.load()
            self.assumptions = loaded.assumptions
            warm_up = worker.warm_up(limit_s=effort.warmup_s)
            before, began = take_snapshot(), time.monotonic()

            def tick() -> None:
                progress(min(1, (time.monotonic() - began) / (duration_s or math.inf)))

            try:
                samples = worker.measure(duration_s=duration_s, iterations=iterations, tick=tick)
            except (KeyboardInterrupt, SystemExit):
                rest = worker.stop()
                if rest is not None:
                    recorder.add(loaded, warm_up, rest, between(before, take_snapshot(), own_cpu_s=rest.cpu_seconds))
                raise
            recorder.add(loaded, warm_up, samples, between(before, take_snapshot(), own_cpu_s=samples.cpu_seconds))

    def _start_cold(self, number: int, rounds: int, progress: Callable[[str, float], object]) -> None:
        """Measure the cold starts that are due after a round; they are spread over all of them."""
        count = self._effort.cold_starts
        due = [index for index in range(count) if index * rounds // count == number]
        order = next(
            (order for order, recorder in zip(self._orders, self._recorders, strict=True) if not recorder.failure), None
        )
        if not due or order is None or self._failure is not None:
            return
        progress("cold start", (number + 1) / rounds)
        try:
            if not self._cold_starts:
                start_cold(order)  # does not count: it brings the files into the system's cache
            self._cold_starts += [start_cold(order) for _ in due]
        except EdgeclsError as error:
            self._failure = error.cause

    def _progress_of(
        self, order: Order, place: int, number: int, rounds: int, progress: Callable[[str, float], object]
    ) -> Callable[[float], object]:
        setups = len(self._orders)
        return lambda share: progress(
            f"{order.scenario}, {order.placement}", (number + (place + share) / setups) / rounds
        )


def describe_model(path: str | os.PathLike[str]) -> Model:
    """Say which file is measured.

    Raises:
        ModelError: it cannot be read.
        ManifestError: its manifest, or an engine's sidecar, is damaged.
    """
    where = os.fspath(path)
    if engine_file.is_engine(path):
        beside = engine_file.sidecar_path(path)
        found = engine_file.read(path).manifest if beside.exists() else None
    else:
        found = manifest.read(path)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}", "Check the path.") from error
    return Model(
        file=Path(path).name,
        sha256=digest,
        bytes=size,
        arch=found.arch if found else None,
        precision=found.precision if found else None,
    )


def new_document(
    *,
    model: Model,
    pictures: Pictures,
    options: dict[str, str],
    runs: tuple[Run, ...],
    complete: bool,
    cold_starts: tuple[ColdStart, ...] = (),
    failure: str | None = None,
) -> Document:
    """Return a document of here and now; see `edgecls.benchmark.document.Document`."""
    engines = dict(run.setup.engine.split()[:2] for run in runs if run.measured.rounds)
    return Document(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        edgecls=__version__,
        versions={name: metadata.version(name) for name in ("numpy", "pillow")} | engines,
        machine=this_fingerprint(),
        model=model,
        pictures=pictures,
        options=options,
        cold_starts=cold_starts,
        runs=runs,
        complete=complete,
        failure=failure,
    )
