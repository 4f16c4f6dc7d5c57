"""Who is told how a training goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress"]


class Progress:
    """Hear how a training goes, and say nothing; the command line's own kind draws a bar."""

    def note(self, text: str) -> None:
        """Hear a remark of one or more lines."""

    def pictures(self, what: str, total: int) -> Callable[[int], object]:  # noqa: ARG002
        """Hear that so many pictures are gone through now; return what is called with how many more are done."""
        return lambda _: None

    def epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Hear that an epoch begins (counted from 1), and how many of its steps are done already."""

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        """Hear of a step: averages since the epoch began; accuracy in percent, if there is one."""

    def record(self, record: dict[str, Any]) -> None:
        """Hear an epoch's figures, as they stand in ``metrics.jsonl``."""
