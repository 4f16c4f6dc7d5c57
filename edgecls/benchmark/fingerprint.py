"""The machine as a measurement depends on it, read from ``/proc`` and ``/sys``; other systems say less."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from edgecls.benchmark.document import Fingerprint
from edgecls_runtime.cpus import cpu_quota, read_text
from edgecls_runtime.machine import this_machine

__all__ = ["on_battery", "power_profile", "this_fingerprint"]

_ROOT = Path("/")
_MEMORY_STEP = 128 * 2**20


def this_fingerprint(root: Path = _ROOT) -> Fingerprint:
    """Describe this machine.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    machine = this_machine(root)
    return Fingerprint(
        cpu=machine.cpu,
        architecture=machine.architecture,
        cpu_flags=machine.cpu_flags,
        logical_cores=os.cpu_count() or 1,
        usable_cpus=machine.usable_cpus,
        cpu_quota=cpu_quota(root),
        governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        memory_bytes=_memory_bytes(root),
        os=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        gpus=machine.gpus,
        gpu_driver=_gpu_driver(root),
        power_mode=_power_mode(root),
    )


def power_profile(root: Path = _ROOT) -> str | None:
    """Return what firmware or board are set to: ``balanced``, ``low-power``, a Jetson's ``MAXN``; None if unknown.

    Formats: https://docs.kernel.org/userspace-api/sysfs-platform_profile.html, and the files of NVIDIA's ``nvpmodel``.
    """
    profile = read_text(root / "sys/firmware/acpi/platform_profile")
    if profile:
        return profile
    mode = re.search(r"pmode:0*(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if mode is None:
        return None
    for number, name in re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+?)\s*>", read_text(root / "etc/nvpmodel.conf")):
        if int(number) == int(mode[1]):
            return f"nvpmodel {name}"
    return f"nvpmodel {mode[1]}"


def on_battery(root: Path = _ROOT) -> bool | None:
    """Return whether a battery feeds the machine; None if it has none.

    Format: https://docs.kernel.org/power/power_supply_class.html.
    """
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    systems = [place for place in supplies if read_text(place / "scope") != "Device"]  # not a mouse's battery
    batteries = [read_text(place / "status") for place in systems if read_text(place / "type") == "Battery"]
    if not batteries:
        return None
    return "Discharging" in batteries


def _power_mode(root: Path) -> str | None:
    battery = on_battery(root)
    source = None if battery is None else "on battery" if battery else "on mains"
    return ", ".join(part for part in (power_profile(root), source) if part) or None


def _memory_bytes(root: Path) -> int | None:
    """Return the memory's size in steps of 128 MiB: how much of it the kernel keeps differs from boot to boot."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    if found:
        size = int(found[1]) * 1024
    else:
        try:
            size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None
    return round(size / _MEMORY_STEP) * _MEMORY_STEP


def _gpu_driver(root: Path) -> str | None:
    found = re.search(r"NVRM version:.*?\s(\d+\.\d[\d.]*)\s", read_text(root / "proc/driver/nvidia/version"))
    return found[1] if found else None
