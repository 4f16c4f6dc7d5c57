"""Two models in turn, as a noisy machine needs it: both meet the same minute, the same neighbours, the same heat.

A round has a fresh process for each model, because where a process lies in memory makes it some percent quicker or
slower for all its life (T. Mytkowicz et al., *Producing wrong data without doing anything obviously wrong!*, ASPLOS
2009). The two take turns in blocks of some 50 ms, in the order ABBA or BAAB by lot: what drifts evenly cancels out, and
no rhythm of the machine can side with one of them. One works while the other waits for a line on its standard input.

Rounds are added until the interval decides. Who looks often enough sees a difference at last, so there is a plan of
when to look, and each look has its share of the allowed error (`edgecls.benchmark.comparison.compare`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from edgecls.benchmark.comparison import Comparison, compare
from edgecls.benchmark.conditions import between, take_snapshot
from edgecls.benchmark.measurement import new_document
from edgecls.benchmark.recording import Recorder
from edgecls.benchmark.sampling import Samples
from edgecls.benchmark.worker import COMMAND, Worker
from edgecls_runtime.errors import BenchmarkError, EdgeclsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgecls.benchmark.conditions import Snapshot
    from edgecls.benchmark.document import Document, Model, Pictures
    from edgecls.benchmark.sampling import WarmUp
    from edgecls.benchmark.worker import Loaded, Order

__all__ = ["QUICK", "Effort", "Pair", "PairMeasurement"]

_BLOCK_S = 0.05
"""Long enough that the query which goes before each block costs little, short against the moods of a machine."""

_FEWEST_QUERIES, _MOST_QUERIES = 3, 500  # of a block
_FIRST_LOOK = 6  # rounds
_QUICKEST_ROUND_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure each setup at most.

    Attributes:
        limit_s: seconds, starts of processes included, after which no further round begins; the rounds up to
            the first look are made all the same, since fewer prove nothing.
        round_s: seconds of queries in a round at least; half of what its processes took to get ready, if that is more.
        warmup_s: of each process at most.
    """

    limit_s: float = 60
    round_s: float = 0.5
    warmup_s: float = 1

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many rounds to see whether the interval decides, up to what the limit may allow.

        Half as many rounds again each time: more looks would cost more in certainty than they save in time.
        """
        looks = [_FIRST_LOOK]
        while looks[-1] * _QUICKEST_ROUND_S < self.limit_s:
            looks.append(looks[-1] * 3 // 2)
        return tuple(looks)


QUICK = Effort(limit_s=15, warmup_s=0.5)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What two models in turn gave.

    Attributes:
        comparison: of the second with the first.
        baseline: document of the first.
        contender: document of the second.
    """

    comparison: Comparison
    baseline: Document
    contender: Document

    def __str__(self) -> str:
        return str(self.comparison)


class PairMeasurement:
    """A measurement of two models in turn that knows, at any moment, what it has.

    Args:
        orders: one pair for each setup, of the baseline and of the contender, on the same pictures.
        models: the two files.
        names: what to call them; None for their file names.
        pictures: what both are measured on.
        options: for the documents.
        max_regression: share by which a query of the contender may take longer.
        effort: how long.
        commands: that start a `edgecls.benchmark.worker.Worker` of each.

    Attributes:
        assumptions: what the files of the baseline and of the contender left to be assumed.

    Raises:
        BenchmarkError: the models are of different architectures.
    """

    def __init__(
        self,
        orders: Sequence[tuple[Order, Order]],
        *,
        models: tuple[Model, Model],
        pictures: Pictures,
        options: dict[str, str],
        names: tuple[str, str] | None = None,
        max_regression: float = 0.05,
        effort: Effort | None = None,
        commands: tuple[Sequence[str], Sequence[str]] = (COMMAND, COMMAND),
    ) -> None:
        self._effort = effort or Effort()
        self._setups = [_Turns(pair, commands, self._effort) for pair in orders]
        self._models = models
        self._names = names
        self._pictures = pictures
        self._options = options
        self._max_regression = max_regression
        self._complete = False
        self.assumptions: tuple[tuple[str, ...], ...] = ((), ())
        self._compare([])

    def run(self, progress: Callable[[str, float], object] = lambda *_: None) -> None:
        """Measure each setup until its interval decides, or its time is over.

        Ctrl-C goes through, as all that is raised meanwhile; the whole rounds until then are kept.

        Args:
            progress: called with what is going on, and with the share of the longest time that is over.

        Raises:
            EdgeclsError: a model failed before both had answered anything. A later failure ends the measurement, and
                stands in the model's document.
        """
        effort = self._effort
        for index, setup in enumerate(self._setups):
            began = time.monotonic()
            for number in range(effort.looks[-1]):
                elapsed = time.monotonic() - began
                if number >= effort.looks[0] and elapsed * (1 + 1 / number) > effort.limit_s:
                    break
                share = min(1.0, max(elapsed / effort.limit_s, number / effort.looks[-1]))
                progress(f"in turn, {setup.name}", (index + share) / len(self._setups))
                error = setup.add_round()
                if error is not None:
                    if any(measured.answered for measured in self._setups):
                        return
                    raise error
                self.assumptions = setup.assumptions
                if number + 1 in effort.looks and self._compare([setup]).comparison.verdict != "inconclusive":
                    break
        self._complete = True

    def result(self, *, failure: str | None = None) -> Pair:
        """Return what there is.

        Args:
            failure: what ended the measurement; None if it went through.
        """
        begun = [setup for setup in self._setups if setup.begun]
        return self._compare(begun, complete=self._complete, failure=failure)

    def _compare(self, setups: Sequence[_Turns], *, complete: bool = True, failure: str | None = None) -> Pair:
        baseline, contender = (
            new_document(
                model=model,
                pictures=self._pictures,
                options=self._options,
                runs=tuple(setup.recorders[side].to_run() for setup in setups),
                complete=complete,
                failure=failure,
            )
            for side, model in enumerate(self._models)
        )
        # However many setups are looked at here, the error is shared by all looks at all setups.
        looks = len(self._effort.looks) * len(self._setups) // max(1, len(setups))
        comparison = compare(
            baseline, contender, max_regression=self._max_regression, names=self._names, in_turn=True, looks=looks
        )
        return Pair(comparison=comparison, baseline=baseline, contender=contender)


class _Turns:
    """One setup of both models.

    Attributes:
        name: of the setup.
        recorders: of the baseline and of the contender; their rounds are always of the same sizes.
        assumptions: what the two files left to be assumed.
    """

    def __init__(
        self, orders: tuple[Order, Order], commands: tuple[Sequence[str], Sequence[str]], effort: Effort
    ) -> None:
        self.name = f"{orders[0].scenario}, {orders[0].placement}"
        self.recorders = tuple(Recorder(order) for order in orders)
        self.assumptions: tuple[tuple[str, ...], ...] = ((), ())
        self._orders = orders
        self._commands = commands
        self._effort = effort
        self._lots = random.Random(0)  # noqa: S311 - reproducible, not secret

    @property
    def answered(self) -> bool:
        """Whether both have answered anything that counts."""
        return all(recorder.pictures for recorder in self.recorders)

    @property
    def begun(self) -> bool:
        """Whether there is anything to tell."""
        return self.answered or any(recorder.failure for recorder in self.recorders)

    def add_round(self) -> EdgeclsError | None:
        """Let two fresh processes take turns; of a turn that fails nothing is kept. Return what failed, if anything."""
        kept: tuple[list[Samples], list[Samples]] = ([], [])
        players: list[_Player] = []
        failures: list[str | None] = [None, None]
        failed: EdgeclsError | None = None
        began, before = time.monotonic(), take_snapshot()
        with contextlib.ExitStack() as processes:
            # Both start at once; from then on one is at work at a time.
            workers = [
                processes.enter_context(Worker(self._order(side), command=self._commands[side])) for side in (0, 1)
            ]
            try:
                for side, worker in enumerate(workers):
                    with _blamed(failures, side):
                        players.append(_get_ready(worker, self._effort.warmup_s))
                with _blamed(failures, 1):
                    _check_alike(self._orders, players)
                # Kalibera and Jones: what a level costs decides how often to repeat the one below.
                seconds = max(self._effort.round_s, (time.monotonic() - began) / 2)
                queries, turns = _size(max(player.query_s for player in players), seconds)
                before = take_snapshot()
                for _ in range(turns):
                    blocks: tuple[list[Samples], list[Samples]] = ([], [])
                    for side in (0, 1, 1, 0) if self._lots.random() < 0.5 else (1, 0, 0, 1):
                        with _blamed(failures, side):
                            blocks[side].append(players[side].answer(queries))
                    for so_far, more in zip(kept, blocks, strict=True):
                        so_far.extend(more)
            except EdgeclsError as error:
                failed = error
        self._keep(players, kept, before)
        for recorder, failure in zip(self.recorders, failures, strict=True):
            recorder.failure = failure
        if failed is None:
            self.assumptions = tuple(player.loaded.assumptions for player in players)
        return failed

    def _keep(self, players: Sequence[_Player], kept: Sequence[list[Samples]], before: Snapshot) -> None:
        if not kept[0]:
            return
        joined = [_joined(blocks) for blocks in kept]
        conditions = between(before, take_snapshot(), own_cpu_s=sum(samples.cpu_seconds for samples in joined))
        for recorder, player, samples in zip(self.recorders, players, joined, strict=True):
            recorder.add(player.loaded, player.warm_up, samples, conditions)

    def _order(self, side: int) -> Order:
        """Go on where the last round stopped, so that all pictures have their turn however short the rounds are."""
        order = self._orders[side]
        first = self.recorders[side].pictures % len(order.pictures)
        return dataclasses.replace(order, pictures=order.pictures[first:] + order.pictures[:first])


@dataclass(frozen=True, kw_only=True)
class _Player:
    """A process that is ready to take its turns.

    Attributes:
        worker: itself.
        loaded: what the model turned out to be.
        warm_up: what came first.
        query_s: seconds that a query took meanwhile, about.
    """

    worker: Worker
    loaded: Loaded
    warm_up: WarmUp
    query_s: float

    def answer(self, queries: int) -> Samples:
        """Answer a block of queries.

        Raises:
            EdgeclsError: a query failed, or the process ended.
        """
        samples = self.worker.measure(iterations=queries)
        if samples.failure is not None:
            raise BenchmarkError(samples.failure, "Try: edgecls verify MODEL")
        return samples


@contextlib.contextmanager
def _blamed(failures: list[str | None], side: int) -> Iterator[None]:
    """Note what went wrong, and whose fault it was."""
    try:
        yield
    except EdgeclsError as error:
        failures[side] = error.cause
        raise


def _get_ready(worker: Worker, warmup_s: float) -> _Player:
    loaded = worker.load()
    began = time.monotonic()
    warm_up = worker.warm_up(limit_s=warmup_s)
    query_s = (time.monotonic() - began) / warm_up.queries
    return _Player(worker=worker, loaded=loaded, warm_up=warm_up, query_s=query_s)


def _size(query_s: float, round_s: float) -> tuple[int, int]:
    """Return how many queries a block has, and how many turns of four blocks a round."""
    queries = min(max(round(_BLOCK_S / query_s), _FEWEST_QUERIES), _MOST_QUERIES)
    return queries, max(1, round(round_s / (4 * (queries + 1) * query_s)))


def _check_alike(orders: Sequence[Order], players: Sequence[_Player]) -> None:
    """Refuse to compare different setups before much time is spent on it."""
    was, now = (player.loaded for player in players)
    for what in ("provider", "engine", "batch_size"):
        if getattr(was, what) != getattr(now, what):
            raise BenchmarkError(
                f"{orders[1].model}: runs with {what.replace('_', ' ')} {getattr(now, what)}, "
                f"{orders[0].model} with {getattr(was, what)}",
                "Compare two models that run alike; edgecls bench report shows others side by side.",
            )


def _joined(blocks: Sequence[Samples]) -> Samples:
    """Return the blocks of a round as one turn of a setup."""
    return Samples(
        latency_ms=tuple(chain.from_iterable(samples.latency_ms for samples in blocks)),
        stages_ms={
            stage: tuple(chain.from_iterable(samples.stages_ms[stage] for samples in blocks))
            for stage in blocks[0].stages_ms
        },
        seconds=sum(samples.seconds for samples in blocks),
        cpu_seconds=sum(samples.cpu_seconds for samples in blocks),
        pictures=sum(samples.pictures for samples in blocks),
        peak_rss_bytes=max(samples.peak_rss_bytes for samples in blocks),
    )
