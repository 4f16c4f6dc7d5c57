"""What the machine did while something was measured: other programs' load, throttling, frequency; Linux alone tells."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgecls_runtime.cpus import cgroup_folders, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Conditions", "Snapshot", "between", "take_snapshot"]

_ROOT = Path("/")

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The machine's counters at a moment; None where it has no such.

    Attributes:
        monotonic_s: the moment.
        busy_s: time that all CPUs have computed since they started.
        stolen_s: time that a hypervisor kept from them.
        thermal_events: how often a CPU was slowed down because it was hot.
        frequency_mhz: of the CPU that runs fastest.
        limited_s: time that threads stood still because their cgroup's share was used up.
    """

    monotonic_s: float
    busy_s: float | None
    stolen_s: float | None
    thermal_events: int | None
    frequency_mhz: float | None
    limited_s: float | None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What happened between two snapshots; None where the machine does not tell.

    Attributes:
        seconds: between them.
        others_s: CPU time of other programs.
        stolen_s: CPU time that a hypervisor kept.
        thermal_events: how often a CPU was slowed down because it was hot.
        frequency_mhz: of the fastest CPU at the end.
        limited_s: time that threads stood still for their cgroup's limit.
    """

    seconds: float
    others_s: float | None
    stolen_s: float | None
    thermal_events: int | None
    frequency_mhz: float | None
    limited_s: float | None


def take_snapshot(root: Path = _ROOT) -> Snapshot:
    """Read the counters.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    busy, stolen = _cpu_times(root)
    cpus = root / "sys/devices/system/cpu"
    thermal = _integers(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    frequencies = _integers(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return Snapshot(
        monotonic_s=time.monotonic(),
        busy_s=busy,
        stolen_s=stolen,
        thermal_events=sum(thermal) if thermal else None,
        frequency_mhz=max(frequencies) / 1e3 if frequencies else None,
        limited_s=_limited_s(root),
    )


def between(before: Snapshot, after: Snapshot, *, own_cpu_s: float) -> Conditions:
    """Return what happened between two snapshots.

    Args:
        before: the first.
        after: the second.
        own_cpu_s: CPU time of what was measured, which is not another program's.
    """
    others = _difference(before.busy_s, after.busy_s)
    return Conditions(
        seconds=after.monotonic_s - before.monotonic_s,
        others_s=None if others is None else max(0.0, others - own_cpu_s),
        stolen_s=_difference(before.stolen_s, after.stolen_s),
        thermal_events=_difference(before.thermal_events, after.thermal_events),
        frequency_mhz=after.frequency_mhz,
        limited_s=_difference(before.limited_s, after.limited_s),
    )


def _cpu_times(root: Path) -> tuple[float | None, float | None]:
    """Return busy and stolen seconds of all CPUs: https://docs.kernel.org/filesystems/proc.html, ``/proc/stat``."""
    for line in read_text(root / "proc/stat").splitlines():
        name, *fields = line.split()
        if name == "cpu" and len(fields) >= 8:
            tick = os.sysconf("SC_CLK_TCK")
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) / tick for field in fields[:8])
            return user + nice + system + irq + softirq, steal
    return None, None


def _limited_s(root: Path) -> float | None:
    """Return the seconds that ``cpu.stat`` of the cgroups counts: microseconds in version 2, nanoseconds in 1."""
    found = []
    for unified, folder in cgroup_folders(root):
        for line in read_text(folder, "cpu.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == ("throttled_usec" if unified else "throttled_time"):
                found.append(int(value) / (1e6 if unified else 1e9))
    return sum(found) if found else None


def _difference(before: _Number | None, after: _Number | None) -> _Number | None:
    return None if before is None or after is None else after - before


def _integers(paths: Iterable[Path]) -> list[int]:
    return [int(text) for text in map(read_text, paths) if text.isdecimal()]
