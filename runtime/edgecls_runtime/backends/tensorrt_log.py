"""TensorRT's log: to `logging`, and its errors kept to be quoted in ours."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from typing import Any

__all__ = ["TensorRtLog", "log_of"]

_log = logging.getLogger(__name__)

_ANOTHER_LOGGER = "differs from one already registered"
"""What TensorRT says to whoever shares the process with another user of it: nothing to do about that here."""


class TensorRtLog:
    """The one log of a package in this process.

    Attributes:
        logger: what the package's builders and runtimes are given.
    """

    def __init__(self, trt: Any) -> None:
        severity = trt.ILogger.Severity
        errors: deque[tuple[int, str]] = deque(maxlen=100)

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, kind: Any, text: str) -> None:
                if kind in (severity.ERROR, severity.INTERNAL_ERROR):
                    errors.append((threading.get_ident(), " ".join(text.split())))
                # An error reaches the caller in an exception, which quotes it.
                is_warning = kind == severity.WARNING and _ANOTHER_LOGGER not in text
                level = logging.WARNING if is_warning else logging.DEBUG
                _log.log(level, "%s: %s", trt.__name__, text)

        self.logger = Logger()
        self._errors = errors

    def take(self) -> str:
        """Return the first error of this thread since it last asked: the cause, where the rest says who noticed it."""
        here = threading.get_ident()
        errors = list(self._errors)
        own = [text for thread, text in errors if thread == here]
        self._errors.clear()
        self._errors.extend(item for item in errors if item[0] != here)
        return own[0] if own else (errors[-1][1] if errors else "TensorRT gave no reason")


@functools.cache
def log_of(trt: Any) -> TensorRtLog:
    """Return the log of a package, ``tensorrt`` or ``tensorrt_rtx``.

    TensorRT keeps a pointer to the first logger that it is given and ignores every later one, so there is one a
    process, and it lives as long.
    """
    return TensorRtLog(trt)
