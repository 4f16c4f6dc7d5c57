"""TensorRT's log: to `logging`, and its errors kept to be quoted in ours."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TensorRtLog", "log_of"]

_log = logging.getLogger(__name__)

_ANOTHER_LOGGER = "differs from one already registered"
"""What TensorRT says to whoever shares the process with another user of it: nothing to do about that here."""


class TensorRtLog:
    """The one log of a package in this process.

    Attributes:
        logger: what the package's builders and runtimes are given.
        watch: who builds an engine is shown each line and its level (None: one of thousands), and says whether to keep
            it from the log.
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
        self._raised: BaseException | None = None
        self.watch: Callable[[int | None, str], bool] | None = None
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

    def heed(self) -> None:
        """Raise what a signal raised while TensorRT wrote its log: through TensorRT itself no exception passes."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _write(self, kind: Any, text: str) -> None:
        try:
            level = self._levels.get(kind)
            if level is None and self.watch is None:
                return
            line = " ".join(text.split())
            if self.watch is not None and self.watch(level, line):
                level = logging.DEBUG
            elif level == logging.ERROR:  # reaches the caller in an exception, which quotes it: is not said twice
                self._errors.append((threading.get_ident(), line))
                level = logging.DEBUG
            elif _ANOTHER_LOGGER in line:
                level = logging.DEBUG
            if level is not None:
                _log.log(level, "%s: %s", self._name, text)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C may come here
            self._raised = error


@functools.cache
def log_of(trt: Any) -> TensorRtLog:
    """Return the log of a package, ``tensorrt`` or ``tensorrt_rtx``.

    TensorRT keeps a pointer to the first logger that it is given and ignores every later one, so there is one a
    process, and it lives as long.
    """
    return TensorRtLog(trt)
