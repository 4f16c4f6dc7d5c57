"""How many CPUs this process may keep busy: a container's share, not the host's cores."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StrPath", "cgroup_folders", "cpu_quota", "default_threads", "read_text", "usable_cores", "usable_cpus"]

StrPath: TypeAlias = "str | os.PathLike[str]"


def usable_cpus(root: StrPath = "/") -> int:
    """Return the number of CPUs that this process may use, at least 1.

    The least of the CPUs in its affinity mask (``taskset``, cpusets) and its cgroup's quota (``docker --cpus``). A
    quota of 2.5 CPUs counts as 2: a third thread would use it up before each period's end, and all of them would
    stand still until the next, tens of milliseconds later.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    return _within_quota(len(_affinity()), root)


def usable_cores(root: StrPath = "/") -> int:
    """Return likewise the number of physical cores: of the logical CPUs of one core only one counts."""
    return _within_quota(_cores(_affinity(), root), root)


def default_threads(root: StrPath = "/") -> int | None:
    """Return how many threads a run should have; None where the engine's own default, one a core, is right.

    Engines count the machine's cores, whatever share of them this process has.
    """
    usable = usable_cores(root)
    return usable if usable < _cores(set(range(os.cpu_count() or 1)), root) else None


def cpu_quota(root: StrPath = "/") -> float | None:
    """Return how many CPUs' time the cgroups of this process grant it, version 1 or 2; None if they set no limit.

    A limit may stand in any cgroup on the way up, and the smallest counts. Formats:
    https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``) and
    https://docs.kernel.org/scheduler/sched-bwc.html (``cpu.cfs_quota_us``).
    """
    quotas = [(_quota_v2 if unified else _quota_v1)(folder) for unified, folder in cgroup_folders(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def cgroup_folders(root: StrPath = "/") -> Iterator[tuple[bool, str]]:
    """Yield the folders of the cgroups that may limit this process's CPUs, each with its parents' on the way up.

    Yields:
        Whether it is of version 2, and the folder.
    """
    for line in read_text(root, "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            kind = "cgroup2"
        elif "cpu" in controllers.split(","):
            kind = "cgroup"
        else:
            continue
        for mounted_root, mount_point in _mounts(root, kind):
            place = _relative(path, mounted_root)
            while True:
                yield kind == "cgroup2", os.path.join(root, mount_point.lstrip("/"), place)
                if not place:
                    break
                place = os.path.dirname(place)


def read_text(*path: StrPath) -> str:
    """Return the text of a file of the kernel's; empty where it is not there, as on other systems than Linux."""
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0 \n")
    except OSError:
        return ""


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cores(cpus: set[int], root: StrPath) -> int:
    file = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({read_text(root, file.format(cpu)) or str(cpu) for cpu in cpus})


def _within_quota(count: int, root: StrPath) -> int:
    quota = cpu_quota(root)
    return max(1, count if quota is None else min(count, int(quota)))


def _mounts(root: StrPath, kind: str) -> list[tuple[str, str]]:
    """Return (path inside the hierarchy, mount point) of the mounted hierarchies that can limit CPUs."""
    found = []
    for line in read_text(root, "proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        place, described = fields.split(), rest.split()
        if len(place) < 5 or len(described) < 3 or described[0] != kind:
            continue
        if kind == "cgroup2" or "cpu" in described[2].split(","):
            found.append((place[3], place[4]))
    return found


def _relative(path: str, mounted_root: str) -> str:
    """Return a cgroup's path below what is mounted; the mount itself where it lies elsewhere, as containers see it."""
    prefix = mounted_root.rstrip("/")
    if path == mounted_root or not path.startswith(prefix + "/") or "/.." in path:
        return ""
    return path[len(prefix) :].strip("/")


def _quota_v2(folder: str) -> float | None:
    fields = read_text(folder, "cpu.max").split()
    with contextlib.suppress(ValueError):
        if len(fields) == 2 and fields[0] != "max" and int(fields[1]) > 0:
            return int(fields[0]) / int(fields[1])
    return None


def _quota_v1(folder: str) -> float | None:
    with contextlib.suppress(ValueError):
        quota, period = int(read_text(folder, "cpu.cfs_quota_us")), int(read_text(folder, "cpu.cfs_period_us"))
        if quota > 0 and period > 0:  # -1 is no limit
            return quota / period
    return None
