"""Which setups a measurement has: every provider, number of threads, scenario and batch that was asked for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgecls.benchmark.worker import Order
from edgecls_runtime.backends import default_provider
from edgecls_runtime.backends.settings import Placement, SessionSettings
from edgecls_runtime.engine_file import is_engine
from edgecls_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SCENARIOS", "Scenario", "orders_for"]

Scenario: TypeAlias = Literal["singlestream", "multistream", "offline"]

SCENARIOS: tuple[Scenario, ...] = ("singlestream", "multistream", "offline")


def orders_for(
    model: str,
    pictures: tuple[str, ...],
    *,
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    scenarios: Sequence[Scenario] = (),
    batch_sizes: Sequence[int] = (),
    settings: SessionSettings | None = None,
    trust: bool = False,
    engine_cache: str | None = None,
) -> tuple[Order, ...]:
    """Return an order for each setup: all combinations, those of one provider side by side.

    Args:
        model: path of the file.
        pictures: paths.
        providers: none for where the file runs if nobody says.
        threads: of a run; none for the default, which is one for ``offline`` on ``cpu``: the stream keeps all cores
            busy.
        scenarios: none for ``singlestream``, and ``multistream`` for each batch of several pictures.
        batch_sizes: none for one picture, or what suits the scenario.
        settings: of the engine.
        trust: of `Classifier.load`.
        engine_cache: likewise.

    Raises:
        ProviderError: a provider has no such setting.
        BenchmarkError: a provider would build an engine in every round.
    """
    settings = settings or SessionSettings()
    found: dict[Order, None] = {}  # in order, each once: singlestream has no batches
    for provider in providers or (default_provider(model),):
        settings.check(provider)
        if provider == "tensorrt" and not is_engine(model) and engine_cache is None:
            raise BenchmarkError(
                f"{model}: ONNX Runtime's TensorRT provider builds an engine, for minutes, each time it loads a file",
                "Keep what it builds: --engine-cache DIR; or measure an engine: edgecls export MODEL.onnx --tensorrt",
            )
        for count, size in itertools.product(threads or (None,), batch_sizes or (None,)):
            by_size: Scenario = "singlestream" if size in (None, 1) else "multistream"
            for scenario in scenarios or (by_size,):
                one = 1 if scenario == "offline" and provider == "cpu" else None
                order = Order(
                    model=model,
                    pictures=pictures,
                    scenario=scenario,
                    batch_size=None if scenario == "singlestream" else size,
                    placement=Placement(provider=provider, threads=count or one, settings=settings),
                    trust=trust,
                    engine_cache=engine_cache,
                )
                found[order] = None
    return tuple(found)
