from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path

import pytest

from edgecls.benchmark.fingerprint import on_battery, power_profile, this_fingerprint


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_server_with_a_gpu(tmp_path: Path) -> None:
    put(
        tmp_path,
        proc__cpuinfo="model name : Xeon X\nflags : fpu avx2 avx512_vnni\n",
        proc__meminfo="MemTotal:       24642540 kB\nMemFree:  1 kB\n",
        sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="performance\n",
    )
    put(tmp_path / "proc/driver/nvidia/gpus/0", information="Model: \t NVIDIA L4\n")
    put(
        tmp_path / "proc/driver/nvidia",
        version="NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  (dvs-builder)\n",
    )
    put(tmp_path / "proc/self", cgroup="0::/\n", mountinfo="29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("150000 100000\n")
    found = this_fingerprint(tmp_path)
    assert (found.cpu, found.cpu_flags) == ("Xeon X", ("avx2", "avx512_vnni"))
    assert (found.cpu_quota, found.usable_cpus) == (1.5, 1)
    assert (found.governor, found.gpus, found.gpu_driver) == ("performance", ("NVIDIA L4",), "560.35.03")
    assert found.memory_bytes == 188 * 128 * 2**20  # 23.5 GiB
    assert (found.power_mode, found.logical_cores) == (None, os.cpu_count())
    assert found.os == f"{platform.system()} {platform.release()}"
    assert found.python == f"{platform.python_implementation()} {platform.python_version()}"


def test_the_closed_kernel_module_has_a_version_too(tmp_path: Path) -> None:
    put(
        tmp_path / "proc/driver/nvidia",
        version="NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC\n",
    )
    assert this_fingerprint(tmp_path).gpu_driver == "535.104.05"


def test_a_boot_that_keeps_a_little_more_memory_is_the_same_machine(tmp_path: Path) -> None:
    sizes = set()
    for kilobytes in (24_642_540, 24_642_540 - 3000, 24_642_540 + 9000):
        put(tmp_path, proc__meminfo=f"MemTotal: {kilobytes} kB\n")
        sizes.add(this_fingerprint(tmp_path).memory_bytes)
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("supplies", "battery"),
    [
        ({}, None),
        ({"AC": ("Mains", None, None)}, None),
        ({"AC": ("Mains", None, None), "BAT0": ("Battery", "Charging", None)}, False),
        ({"BAT0": ("Battery", "Full", None)}, False),
        ({"BAT0": ("Battery", "Discharging", "System")}, True),
        ({"mouse": ("Battery", "Discharging", "Device")}, None),
        ({"BAT0": ("Battery", "Not charging", None), "BAT1": ("Battery", "Discharging", None)}, True),
    ],
)
def test_the_battery(
    supplies: dict[str, tuple[str, str | None, str | None]], battery: bool | None, tmp_path: Path
) -> None:
    for name, values in supplies.items():
        for key, value in zip(("type", "status", "scope"), values, strict=True):
            if value is not None:
                put(tmp_path / "sys/class/power_supply" / name, **{key: f"{value}\n"})
    assert on_battery(tmp_path) is battery
    expected = {None: None, True: "on battery", False: "on mains"}[battery]
    assert this_fingerprint(tmp_path).power_mode == expected


def test_power_profiles(tmp_path: Path) -> None:
    assert power_profile(tmp_path) is None
    put(tmp_path / "var/lib/nvpmodel", status="pmode:0002 fmode:fanNull\n")
    assert power_profile(tmp_path) == "nvpmodel 2"
    put(tmp_path / "etc", **{"nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nX 1\n< POWER_MODEL ID=2 NAME=15W >\n"})
    assert power_profile(tmp_path) == "nvpmodel 15W"
    put(tmp_path / "sys/firmware/acpi", platform_profile="low-power\n")
    put(tmp_path / "sys/class/power_supply/BAT0", type="Battery", status="Discharging")
    assert this_fingerprint(tmp_path).power_mode == "low-power, on battery"


def test_a_machine_that_tells_nothing_and_this_one(tmp_path: Path) -> None:
    found = this_fingerprint(tmp_path)
    assert (found.governor, found.gpus, found.gpu_driver, found.cpu_quota) == (None, (), None, None)
    assert this_fingerprint() == this_fingerprint()
    assert all(value != "" for value in dataclasses.astuple(this_fingerprint()))
