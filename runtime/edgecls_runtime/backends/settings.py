"""How an engine runs a model, beyond where and with how many threads."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Literal

from edgecls_runtime.errors import ProviderError

__all__ = ["InferencePrecision", "Placement", "SessionSettings"]

InferencePrecision = Literal["f32", "bf16", "f16"]

MAX_THREADS = 1024
"""Of one run: more than any machine has CPUs for it."""

# What each provider has a choice in. All else is refused, never ignored.
_OFFERED = {"cpu": ("spinning", "cpus"), "openvino": ("inference_precision",)}


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How an engine runs a model; None leaves a setting to the default that stands below.

    Attributes:
        spinning: whether the engine's threads wait for work in a loop instead of sleeping. By default while a run
            lasts, from node to node, and not between runs. True: for a while after each run too, which answers a
            picture now and then sooner, but burns the cores and takes them from whatever else runs. False: never,
            which takes less power and more time. ``cpu`` alone.
        cpus: numbers of the CPUs that the engine's own threads are bound to, one each. They are one fewer than the
            threads of a run, because the caller's thread computes along and stays where the system puts it (bind it
            with ``os.sched_setaffinity`` or ``taskset``). Unbound by default. ``cpu`` alone.
        inference_precision: that the engine computes in. By default float32 where the file holds float32 or float16;
            ``bf16`` and ``f16`` are quicker on CPUs that have them, and round: `edgecls_runtime.tolerance`.
            ``openvino`` alone.
    """

    spinning: bool | None = None
    cpus: tuple[int, ...] | None = None
    inference_precision: InferencePrecision | None = None

    def __post_init__(self) -> None:
        if self.cpus is not None and (min(self.cpus, default=-1) < 0 or len(set(self.cpus)) != len(self.cpus)):
            raise ValueError(f"cpus is {self.cpus}, must name different CPUs by their numbers")

    def check(self, provider: str) -> None:
        """Refuse what a provider has no choice in, and CPUs that this process may not use.

        Raises:
            ProviderError: says which.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name not in _OFFERED.get(provider, ()):
                offering = next(name for name, offered in _OFFERED.items() if field.name in offered)
                raise ProviderError(
                    f"provider {provider}: has no setting {field.name} ({value} was asked for)",
                    f"Leave it out, or choose provider {offering}.",
                )
        if self.cpus is not None and hasattr(os, "sched_getaffinity"):
            forbidden = set(self.cpus) - os.sched_getaffinity(0)
            if forbidden:
                raise ProviderError(
                    f"cpus: this process may not use CPU {min(forbidden)}",
                    f"Choose among {', '.join(map(str, sorted(os.sched_getaffinity(0))))}.",
                )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        provider: one of `edgecls_runtime.backends.PROVIDERS`.
        threads: of one run; None for one a physical core that this process may use.
        settings: what else there is to choose.
    """

    provider: str = "cpu"
    threads: int | None = None
    settings: SessionSettings = SessionSettings()

    def __post_init__(self) -> None:
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= MAX_THREADS):
            raise ValueError(f"threads is {self.threads!r}, must be from 1 to {MAX_THREADS}")

    def __str__(self) -> str:
        parts = [self.provider]
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.settings.spinning is not None:
            parts.append("spinning" if self.settings.spinning else "no spinning")
        if self.settings.cpus is not None:
            parts.append(f"CPUs {','.join(map(str, self.settings.cpus))}")
        if self.settings.inference_precision is not None:
            parts.append(f"in {self.settings.inference_precision}")
        return ", ".join(parts)
