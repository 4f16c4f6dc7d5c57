"""``edgecls bench``: never imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["bench"]


class _MeasureByDefault(click.Group):
    """A group that is a command itself: ``bench MODEL`` measures, and ``bench compare`` is another command.

    A file of a command's name is measured as ``./compare``.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Let the first word choose."""
        if args and args[0] in self.commands:
            name = f"{info_name} {args[0]}"
            return self.commands[args[0]].make_context(name, args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take all words for the measurement."""
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Measure."""
        return click.Command.invoke(self, ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Leave out what the group would say of commands."""
        return click.Command.collect_usage_pieces(self, ctx)


@click.group(cls=_MeasureByDefault, no_args_is_help=True)
@click.argument("model", required=False)
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all samples to it.")
@click.option("--force", is_flag=True, help="Overwrite the files that are written.")
def bench(model: str | None, json_file: Path | None, force: bool) -> None:
    """Measure how quickly this machine runs a model, so that continuous integration can trust it."""
