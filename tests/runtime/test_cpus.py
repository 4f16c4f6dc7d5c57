from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecls_runtime import cpus


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may use eight CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def linux(root: Path, cgroup: str, mounts: str, **files: str) -> Path:
    write(root, proc__self__cgroup=cgroup, proc__self__mountinfo=mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("limit", "usable"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)],
)
def test_the_quota_of_a_cgroup_v2(tmp_path: Path, limit: str, usable: int) -> None:
    root = linux(tmp_path, "0::/\n", V2_MOUNT, cpu_max=limit)
    assert cpus.usable_cpus(root) == usable


@pytest.mark.usefixtures("eight")
def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {"a__cpu_max": "300000 100000", "a__b__cpu_max": "max 100000", "cpu_max": "max 100000"}
    root = linux(tmp_path, "0::/a/b\n", V2_MOUNT, **files)
    assert cpus.cpu_quota(root) == 3
    (root / "sys/fs/cgroup/a/b/cpu.max").write_text("100000 50000\n")
    assert cpus.cpu_quota(root) == 2
    (root / "proc/self/cgroup").write_text("0::/other\n")
    assert cpus.cpu_quota(root) is None


@pytest.mark.usefixtures("eight")
def test_the_quota_of_a_cgroup_v1(tmp_path: Path) -> None:
    groups = "4:memory:/x\n3:cpu,cpuacct:/docker/77\n0::/docker/77\n"
    inside = V1_MOUNT.replace("0:29 / ", "0:29 /docker/77 ")  # a container sees its own group mounted as the root
    files = {"cpu,cpuacct__cpu_cfs_quota_us": "400000", "cpu,cpuacct__cpu_cfs_period_us": "100000"}
    root = linux(tmp_path, groups, inside, **files)
    assert cpus.usable_cpus(root) == 4
    (root / "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
    assert cpus.cpu_quota(root) is None


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("limit", ["", "two 100000", "200000", "200000 0"])
def test_a_limit_that_cannot_be_read_is_none(tmp_path: Path, limit: str) -> None:
    assert cpus.cpu_quota(linux(tmp_path, "0::/\n", V2_MOUNT, cpu_max=limit)) is None


@pytest.mark.usefixtures("eight")
def test_engines_are_told_a_number_only_where_their_own_would_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four cores of two threads each."""
    for cpu in range(8):
        siblings = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings.parent.mkdir(parents=True)
        siblings.write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    linux(tmp_path, "0::/\n", V2_MOUNT, cpu_max="max 100000")
    assert cpus.usable_cores(tmp_path) == 4
    assert cpus.default_threads(tmp_path) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert cpus.default_threads(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("300000 100000")
    assert cpus.default_threads(tmp_path) == 3


def test_without_linux_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cpus.usable_cpus(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cpus.usable_cpus(tmp_path) == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus.usable_cpus(tmp_path) == 1
    assert cpus.default_threads(tmp_path) is None
