"""A progress bar, where somebody watches."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Steps", "new_bar", "picture_bar", "share_bar"]


def new_bar(label: str, total: int, *, counted: bool = True) -> Any:
    """Return a bar of ``click.progressbar`` on standard error, hidden if that is no terminal.

    ``counted``: whether its steps are things to count, and as quick as each other.
    """
    return click.progressbar(
        length=total,
        label=label,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        show_pos=counted,
        show_eta=counted,
        item_show_func=lambda text: text or "",
    )


@contextlib.contextmanager
def picture_bar(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar; yield what is called with the number of pictures done since the last call."""
    with new_bar(label, total) as bar:
        yield lambda count: bar.update(count, "")


@contextlib.contextmanager
def share_bar(label: str) -> Iterator[Callable[[str, float], object]]:
    """Show a bar; yield what is called with the name of a phase and the share of the whole that is done."""
    steps = 1000
    with new_bar(label, steps, counted=False) as bar:
        yield lambda phase, share: bar.update(max(0, round(share * steps) - bar.pos), phase)


class Steps:
    """Show the steps of something long: a line for each, and a bar under those that count pictures."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, step: str) -> None:
        """Name a step."""
        self._close()
        click.echo(f"{step} ...", err=True)

    def count(self, done: int, total: int) -> None:
        """Say how many pictures of the step are done; fewer than before begin another round."""
        if self._bar is not None and done <= self._bar.pos:
            self._close()
        if self._bar is None:
            self._bar = new_bar("  pictures", total)
            self._bar.__enter__()
        self._bar.update(done - self._bar.pos, "")
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
