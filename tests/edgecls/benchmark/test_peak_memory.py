from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgecls.benchmark.peak_memory import peak_rss_bytes


def test_the_kernels_own_peak_comes_first(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t  100 kB\n")
    assert peak_rss_bytes(tmp_path / "status") == 123 * 1024


def test_without_it_the_system_call_answers(tmp_path: Path) -> None:
    assert peak_rss_bytes(tmp_path / "missing") > 5_000_000
    (tmp_path / "status").write_text("VmHWM:\n")
    assert peak_rss_bytes(tmp_path / "status") > 5_000_000


def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    ballast = bytearray(300_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from edgecls.benchmark.peak_memory import peak_rss_bytes; print(peak_rss_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(ballast) < peak_rss_bytes()
    assert int(child.stdout) < 100_000_000
