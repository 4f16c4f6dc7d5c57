"""Which run of a baseline belongs to which of a contender: those of one setup."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from edgecls.benchmark.document import NEVER_LOADED, Measured
from edgecls_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls.benchmark.document import Document, Run, Setup
    from edgecls.benchmark.worker import Order

__all__ = ["check_setups", "pair_runs", "setup_key", "why_incomplete"]


def pair_runs(baseline: Document, contender: Document, names: tuple[str, str]) -> list[tuple[Run, Run]]:
    """Return the runs of each setup, in the contender's order, then of those that it did not reach.

    Where a document is not complete, a run that it lacks is one without queries, that failed.

    Raises:
        BenchmarkError: a complete document lacks a setup that the other has, or has one twice.
    """
    were, are = _keyed(baseline, contender, names[0]), _keyed(contender, baseline, names[1])
    return [
        (were.get(key) or _absent(run, baseline, names), are.get(key) or _absent(run, contender, names[::-1]))
        for key, run in {**are, **were}.items()
    ]


def check_setups(baseline: Document, orders: Sequence[Order], names: tuple[str, str]) -> None:
    """Refuse orders that do not give the setups of a baseline, before they are measured.

    Raises:
        BenchmarkError: one has a setup that the other lacks.
    """
    for run in baseline.runs:
        if not any(_gives(order, run.setup) for order in orders):
            raise _lacks(names[1], names[0], f"{run.setup} ({run.setup.engine})")
    for order in orders:
        if baseline.complete and not any(_gives(order, run.setup) for run in baseline.runs):
            batch = "" if order.batch_size is None else f", batch {order.batch_size}"
            raise _lacks(names[0], names[1], f"{order.scenario}, {order.placement}{batch}")


def setup_key(setup: Setup) -> tuple[object, ...]:
    """Return what two runs of one setup share: all but the engine's version, which may be what is compared."""
    name, _, rest = setup.engine.partition(" ")
    return setup.scenario, setup.batch_size, setup.threads, setup.provider, name, rest.partition(" ")[2]


def why_incomplete(document: Document) -> str:
    """Return the first reason why a document is not complete."""
    return document.failure or next((run.failure for run in document.runs if run.failure), "it ended early")


def _keyed(document: Document, other: Document, name: str) -> dict[tuple[object, ...], Run]:
    """Return the runs by their setups; a setup that never loaded goes by what became of it in the other document."""
    runs = []
    for run in document.runs:
        became: Setup | None = run.setup
        if run.setup.engine == NEVER_LOADED and not document.complete:
            became = next((item.setup for item in other.runs if _became(run.setup, item.setup)), None)
        if became is not None:  # else its batch is not known; what it failed of, the document says
            runs.append(replace(run, setup=became))
    keys = [setup_key(run.setup) for run in runs]
    for key, count in Counter(keys).items():
        if count > 1:
            raise BenchmarkError(
                f"{name}: has {count} runs of one setup: {runs[keys.index(key)].setup}",
                "Measure again: edgecls bench MODEL --json FILE",
            )
    return dict(zip(keys, runs, strict=True))


def _absent(run: Run, document: Document, names: tuple[str, str]) -> Run:
    if document.complete:
        raise _lacks(*names, f"{run.setup} ({run.setup.engine})")
    nothing = Measured(latency_ms=(), stages_ms={}, rounds=())
    return replace(run, measured=nothing, failure=f"not measured ({why_incomplete(document)})")


def _became(asked: Setup, found: Setup) -> bool:
    work = (asked.scenario, asked.batch_size, asked.threads)
    return work == (found.scenario, found.batch_size, found.threads) and _runs_on(asked.provider, found)


def _gives(order: Order, setup: Setup) -> bool:
    """Return whether an order may give a setup; where it names no batch, the model's file does."""
    work = (order.scenario, order.batch_size or setup.batch_size, order.placement.threads)
    return work == (setup.scenario, setup.batch_size, setup.threads) and _runs_on(order.placement.provider, setup)


def _runs_on(provider: str, setup: Setup) -> bool:
    """Return whether a provider, as it is asked for, is that of a setup, in the engine's own words."""
    return setup.provider.lower().removeprefix("nv").startswith(provider)


def _lacks(one: str, other: str, setup: str) -> BenchmarkError:
    return BenchmarkError(
        f"{one}: lacks a setup that {other} has: {setup}",
        "Measure both with the same --provider, --threads, --batch and --scenario.",
    )
