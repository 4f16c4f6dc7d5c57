"""What the rounds of a setup give, gathered into one `edgecls.benchmark.document.Run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecls.benchmark.document import NEVER_LOADED, Measured, Run, Setup
from edgecls.benchmark.doubts import condition_doubts, sample_doubts, standing_doubts

if TYPE_CHECKING:
    from edgecls.benchmark.conditions import Conditions
    from edgecls.benchmark.sampling import Samples, WarmUp
    from edgecls.benchmark.worker import Loaded, Order

__all__ = ["Recorder"]


class Recorder:
    """Gathers the rounds of one setup.

    Args:
        order: what is measured.

    Attributes:
        failure: what ended it; None so far.
        pictures: answered so far.
    """

    def __init__(self, order: Order) -> None:
        self.failure: str | None = None
        self.pictures = 0
        self._order = order
        self._loaded: Loaded | None = None
        self._warm_ups: list[WarmUp] = []
        self._rounds: list[Samples] = []
        self._conditions: list[Conditions] = []

    def add(self, loaded: Loaded, warm_up: WarmUp, samples: Samples, conditions: Conditions) -> None:
        """Add a round, or what there is of it."""
        self._loaded = loaded
        self.failure = samples.failure
        if samples.latency_ms:
            self._warm_ups.append(warm_up)
            self._rounds.append(samples)
            self._conditions.append(conditions)
            self.pictures += samples.pictures

    def to_run(self) -> Run:
        """Return all that was measured, and why it may be doubted."""
        order, loaded, rounds = self._order, self._loaded, self._rounds
        stages = rounds[0].stages_ms if rounds else ()
        measured = Measured(
            latency_ms=tuple(sample for samples in rounds for sample in samples.latency_ms),
            stages_ms={
                stage: tuple(time for samples in rounds for time in samples.stages_ms[stage]) for stage in stages
            },
            rounds=tuple(len(samples.latency_ms) for samples in rounds),
        )
        provider = loaded.provider if loaded else order.placement.provider
        doubts = (
            *sample_doubts(measured, self._warm_ups, on_gpu="CPU" not in provider),
            *condition_doubts(self._conditions),
            *standing_doubts(),
        )
        return Run(
            setup=Setup(
                scenario=order.scenario,
                batch_size=loaded.batch_size if loaded else order.batch_size or 1,
                threads=order.placement.threads,
                provider=provider,
                engine=loaded.engine if loaded else NEVER_LOADED,
            ),
            warmup_queries=sum(warm_up.queries for warm_up in self._warm_ups),
            steady=bool(rounds) and all(warm_up.steady for warm_up in self._warm_ups),
            measured=measured,
            seconds=sum(samples.seconds for samples in rounds),
            pictures=self.pictures,
            peak_rss_bytes=max((samples.peak_rss_bytes for samples in rounds), default=0),
            doubts=doubts if rounds else (),
            failure=self.failure,
        )
