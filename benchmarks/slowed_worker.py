"""A worker of `edgecls bench` whose every query takes longer by a share of its own time: slowed_worker.py 0.1

benchmarks/gate.py runs it, to see whether the slow-down is found.
"""

from __future__ import annotations

import sys
import time

from edgecls.benchmark import worker_process
from edgecls.benchmark.queries import StagedQueries


def slow_down(share: float) -> None:
    answer = StagedQueries.answer

    def slowed(self: StagedQueries) -> tuple[int, ...]:
        *stages, last = answer(self)
        began = time.perf_counter_ns()
        end = began + share * (sum(stages) + last)
        while (now := time.perf_counter_ns()) < end:
            pass
        return (*stages, last + now - began)

    setattr(StagedQueries, "answer", slowed)  # noqa: B010 - mypy would have no assignment


if __name__ == "__main__":
    slow_down(float(sys.argv[1]))
    worker_process.main()
