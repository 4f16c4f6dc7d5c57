"""How much memory this process has needed."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_rss_bytes"]

_STATUS = Path("/proc/self/status")


def peak_rss_bytes(status: Path = _STATUS) -> int:
    """Return the largest resident set of this process so far, in bytes; 0 where the system does not tell.

    Linux's ``ru_maxrss`` would not do: a process begins with that of the one that started it.

    Args:
        status: of the process, as Linux has it.
    """
    try:
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
