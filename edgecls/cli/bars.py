"""A progress bar, where somebody watches."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["new_bar", "picture_bar", "share_bar"]


def new_bar(label: str, total: int) -> Any:
    """Return a bar of ``click.progressbar`` on standard error, hidden if that is no terminal."""
    return click.progressbar(
        length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True, item_show_func=str
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
    with click.progressbar(
        length=steps, label=label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_eta=False, item_show_func=str
    ) as bar:
        yield lambda phase, share: bar.update(max(0, round(share * steps) - bar.pos), phase)
