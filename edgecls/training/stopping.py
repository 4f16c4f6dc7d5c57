"""Stop when asked to, at a moment that suits."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["StopRequest"]


class StopRequest:
    """Note SIGINT and SIGTERM instead of obeying them; a second one, of either kind, has the effect it always had.

    Attributes:
        signal: that came; None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None: one that was not installed from Python, and cannot be put back from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
