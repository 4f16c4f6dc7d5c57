"""Why a measurement may not mean what it seems to, in words. The figures stay as they are: nothing is left out."""

from __future__ import annotations

import sys
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgecls.benchmark.fingerprint import on_battery, power_profile
from edgecls.benchmark.quantiles import minimum_samples, summarize
from edgecls_runtime.cpus import read_text, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls.benchmark.conditions import Conditions
    from edgecls.benchmark.document import Measured
    from edgecls.benchmark.sampling import WarmUp

__all__ = ["condition_doubts", "sample_doubts", "standing_doubts"]

_ROOT = Path("/")

_VARIATION_CPU = 0.10
"""Standard deviation as a share of the mean, from which pyperf calls a benchmark unstable (its ``check`` command)."""

_VARIATION_GPU = 0.025
"""Likewise of trtexec, which warns of GPU compute time above it."""

_DRIFT = 0.05
_FREQUENCY = 0.05
_OTHERS = 0.05
"""Shares from which a difference is as large as the regressions that people look for."""


def sample_doubts(measured: Measured, warm_ups: Sequence[WarmUp], *, on_gpu: bool) -> tuple[str, ...]:
    """Look at the samples of a setup.

    Args:
        measured: all of them.
        warm_ups: that came before each round.
        on_gpu: a GPU ran the model, whose times vary less.
    """
    found = []
    unsteady = sum(not warm_up.steady for warm_up in warm_ups)
    if unsteady:
        found.append(f"the latency had not settled after {unsteady} of {len(warm_ups)} warm-ups")
    count = len(measured.latency_ms)
    needed = minimum_samples(0.9)
    if count < needed:
        found.append(f"{count} queries are too few for p90, which needs {needed}")
    if count < 2:
        return tuple(found)
    same_work = measured.stages_ms.get("run", measured.latency_ms)
    variation = summarize(same_work).variation
    allowed, whose = (_VARIATION_GPU, "trtexec") if on_gpu else (_VARIATION_CPU, "pyperf")
    if variation >= allowed:
        what = "one run of the model" if "run" in measured.stages_ms else "one query"
        found.append(
            f"the time of {what} varies by {_percent(variation)} (stdev / mean); {whose} doubts from "
            f"{_percent(allowed)} on"
        )
    medians = [median(same_work[start:end]) for start, end in _rounds(measured.rounds)]
    slowest, quickest = max(medians), min(medians)
    if slowest > quickest * (1 + _DRIFT):
        apart = _percent(slowest / quickest - 1)
        found.append(f"the rounds' medians go from {quickest:,.4g} to {slowest:,.4g} ms, {apart} apart")
    return tuple(found)


def condition_doubts(conditions: Sequence[Conditions], root: Path = _ROOT) -> tuple[str, ...]:
    """Look at what the machine did during the rounds of a setup.

    Args:
        conditions: one for each round.
        root: of the file system that has ``proc`` and ``sys``.
    """
    found = []
    seconds = sum(item.seconds for item in conditions)
    cpus = usable_cpus(root)
    others = _total([item.others_s for item in conditions]) / seconds if seconds else 0
    if others >= max(0.1, _OTHERS * cpus):
        found.append(f"other programs kept {others:.1f} CPUs busy meanwhile; this process may use {cpus}")
    stolen = _total([item.stolen_s for item in conditions])
    if seconds and stolen / seconds >= 0.01 * cpus:
        found.append(f"the hypervisor gave {stolen:.2f} s of CPU time to other machines meanwhile")
    events = _total([item.thermal_events for item in conditions])
    if events:
        found.append(f"the CPU was slowed down {events:.0f} times because it was hot")
    limited = _total([item.limited_s for item in conditions])
    if limited > 0:
        found.append(f"threads stood still for {limited:.2f} s: the container's CPU time was used up")
    frequencies = [item.frequency_mhz for item in conditions if item.frequency_mhz]
    if frequencies and max(frequencies) > min(frequencies) * (1 + _FREQUENCY):
        found.append(f"the CPU's frequency went from {min(frequencies):,.0f} to {max(frequencies):,.0f} MHz")
    return tuple(found)


def standing_doubts(root: Path = _ROOT) -> tuple[str, ...]:
    """Look at how the machine is set up.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    found = []
    if on_battery(root):
        found.append("the machine runs on its battery, and may save power")
    profile = power_profile(root)
    if profile in ("low-power", "quiet", "cool"):  # of the kernel's profiles those that cost speed
        found.append(f"the machine's power profile is {profile}")
    governor = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    driver = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver")
    # With drivers that steer by themselves powersave follows the load; with all others it is the lowest frequency.
    if governor == "powersave" and driver not in ("intel_pstate", "amd-pstate-epp"):
        found.append("the governor powersave keeps the CPU at its lowest frequency")
    if sys.flags.dev_mode or hasattr(sys, "gettotalrefcount"):
        found.append("Python runs in its development mode, or was built for debugging")
    return tuple(found)


def _rounds(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return where each round begins and ends."""
    return list(pairwise([0, *accumulate(sizes)]))


def _total(values: Sequence[float | None]) -> float:
    return sum(value for value in values if value is not None)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
