"""TensorRT's log: to `logging`, and its errors kept to be quoted in ours."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TensorRtLog", "log_of"]

_log = logging.getLogger(__name__)

_ANOTHER_LOGGER = "differs from one already registered"
"""What TensorRT says to whoever shares the process with another user of it: nothing to do about that here."""


class TensorRtLog:
    """The one log of a package in this process.

    Attributes:
        logger: what the package's builders and runtimes are given.
        raised: what a signal raised while TensorRT wrote its log: through TensorRT itself no exception passes.
    """

    def __init__(self, trt: Any) -> None:
        severity = trt.ILogger.Severity
        self._name: str = trt.__name__
        self._levels = {  # VERBOSE is left out: thousands of lines
            severity.INTERNAL_ERROR: logging.ERROR,
            severity.ERROR: logging.ERROR,
            severity.WARNING: logging.WARNING,
            severity.INFO: logging.DEBUG,  # some forty lines a build
        }
        self._errors: deque[tuple[int, str]] = deque(maxlen=100)
        self._collected: list[str] | None = None
        self._also = ""
        self._one_at_a_time = threading.Lock()
        self.raised: BaseException | None = None
        write = self._write

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, kind: Any, text: str) -> None:
                write(kind, text)

        self.logger = Logger()

    def take(self) -> str:
        """Return the first error of this thread since it last asked: the cause, where the rest says who noticed it."""
        here = threading.get_ident()
        errors = list(self._errors)
        own = [text for thread, text in errors if thread == here]
        self._errors.clear()
        self._errors.extend(item for item in errors if item[0] != here)
        return own[0] if own else (errors[-1][1] if errors else "TensorRT gave no reason")

    @contextlib.contextmanager
    def collect(self, also: str) -> Iterator[list[str]]:
        """Collect the errors of all threads, a line each, and warnings that say ``also``; one caller at a time."""
        with self._one_at_a_time:
            self.raised, self._also, self._collected = None, also, []
            try:
                yield self._collected
            finally:
                self._collected = None

    def _write(self, kind: Any, text: str) -> None:
        try:
            level = self._levels.get(kind)
            if level is None:
                return
            line = " ".join(text.split())
            # What reaches the caller in an exception, which quotes it, is not said twice.
            if self._collected is not None and (level == logging.ERROR or self._also in line):
                self._collected.append(line)
                level = logging.DEBUG
            elif level == logging.ERROR:
                self._errors.append((threading.get_ident(), line))
                level = logging.DEBUG
            elif _ANOTHER_LOGGER in line:
                level = logging.DEBUG
            _log.log(level, "%s: %s", self._name, text)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C may come here
            self.raised = error


@functools.cache
def log_of(trt: Any) -> TensorRtLog:
    """Return the log of a package, ``tensorrt`` or ``tensorrt_rtx``.

    TensorRT keeps a pointer to the first logger that it is given and ignores every later one, so there is one a
    process, and it lives as long.
    """
    return TensorRtLog(trt)
