from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecls.benchmark.conditions import Snapshot, between, take_snapshot

TICK = os.sysconf("SC_CLK_TCK")


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_counters_are_read(tmp_path: Path) -> None:
    seconds = [7, 1, 3, 900, 50, 2, 4, 6, 0, 0]  # user nice system idle iowait irq softirq steal guest guest_nice
    put(tmp_path, "proc/stat", "cpu  " + " ".join(str(value * TICK) for value in seconds) + "\ncpu0 1 2\nintr 5\n")
    cpus = "sys/devices/system/cpu"
    for cpu, (core, package) in enumerate([(2, 10), (3, 10)]):
        put(tmp_path, f"{cpus}/cpu{cpu}/thermal_throttle/core_throttle_count", f"{core}\n")
        put(tmp_path, f"{cpus}/cpu{cpu}/thermal_throttle/package_throttle_count", f"{package}\n")
        put(tmp_path, f"{cpus}/cpu{cpu}/cpufreq/scaling_cur_freq", f"{1_200_000 + 900_000 * cpu}\n")
    put(tmp_path, "proc/self/cgroup", "0::/job\n")
    put(tmp_path, "proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    put(tmp_path, "sys/fs/cgroup/job/cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000\n")
    found = take_snapshot(tmp_path)
    assert (found.busy_s, found.stolen_s) == (17, 6)  # neither idle nor waiting for a disk
    assert (found.thermal_events, found.frequency_mhz) == (25, 2100)
    assert found.limited_s == 1.5


def test_cgroups_of_version_1_count_nanoseconds(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "4:cpu,cpuacct:/job\n")
    put(tmp_path, "proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n")
    put(tmp_path, "sys/fs/cgroup/cpu/job/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 250000000\n")
    assert take_snapshot(tmp_path).limited_s == 0.25


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    nothing = take_snapshot(tmp_path)
    assert (nothing.busy_s, nothing.stolen_s, nothing.thermal_events) == (None, None, None)
    assert (nothing.frequency_mhz, nothing.limited_s) == (None, None)
    found = between(nothing, nothing, own_cpu_s=1)
    assert (found.seconds, found.others_s, found.thermal_events) == (0, None, None)
    assert take_snapshot().monotonic_s > nothing.monotonic_s


def test_what_happened_between_two_moments() -> None:
    before = Snapshot(monotonic_s=100, busy_s=50, stolen_s=3, thermal_events=7, frequency_mhz=3000, limited_s=None)
    after = Snapshot(monotonic_s=110, busy_s=65, stolen_s=3.5, thermal_events=9, frequency_mhz=2000, limited_s=1)
    found = between(before, after, own_cpu_s=11)
    assert (found.seconds, found.others_s, found.stolen_s) == (10, 4, 0.5)
    assert (found.thermal_events, found.frequency_mhz, found.limited_s) == (2, 2000, None)
    assert between(before, after, own_cpu_s=15.02).others_s == pytest.approx(0)  # the kernel counts in ticks
