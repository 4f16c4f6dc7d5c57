"""How long it takes from nothing to the first answer, in a fresh process each time; files are in the system's cache."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from edgecls.benchmark import cold_start_process
from edgecls.benchmark.document import ColdStart
from edgecls_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from edgecls.benchmark.worker import Order

__all__ = ["start_cold"]


def start_cold(order: Order) -> ColdStart:
    """Start a process, let it answer the first picture of an order, and say what took how long.

    The moments come from two processes and one clock: ``time.perf_counter_ns`` is the system's own, the same for all.

    Raises:
        BenchmarkError: the process did not answer.
    """
    details = {
        "model": order.model,
        "picture": order.pictures[0],
        "provider": order.placement.provider,
        "threads": order.placement.threads,
        "settings": dataclasses.asdict(order.placement.settings),
        "trust": order.trust,
        "engine_cache": order.engine_cache,
    }
    # The file and not the module: nothing of ours is imported before its first line.
    command = [sys.executable, "-P", cold_start_process.__file__, json.dumps(details)]
    started = time.perf_counter_ns()
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)  # noqa: S603
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise BenchmarkError(f"{order.model}: the process of a cold start failed: {said}", "Try: edgecls verify MODEL")
    answer = json.loads(done.stdout.splitlines()[-1])  # an engine's libraries may have said something before
    moments = [started, *answer["moments_ns"]]
    process_ms, import_ms, load_ms, first_ms = ((end - begin) / 1e6 for begin, end in pairwise(moments))
    return ColdStart(
        process_ms=process_ms,
        import_ms=import_ms,
        load_ms=load_ms,
        first_ms=first_ms,
        total_ms=(moments[-1] - started) / 1e6,
        peak_rss_bytes=answer["peak_rss_bytes"],
    )
