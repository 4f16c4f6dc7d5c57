"""A group that is a command itself."""

from __future__ import annotations

from typing import Any

import click

from .sections import SectionedCommand

__all__ = ["DefaultCommand"]


class DefaultCommand(SectionedCommand, click.Group):
    """A command that has others beneath it: the first word chooses one of those, and anything else is for the command.

    So ``bench MODEL`` measures and ``bench compare A B`` compares. A file that is called as one of the others is given
    as ``./compare``.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Let the first word choose."""
        if args and args[0] in self.commands:
            name = f"{info_name} {args[0]}"
            return self.commands[args[0]].make_context(name, args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    # A group would take the first word for the name of one of its commands, and no option after it.

    allow_extra_args = False
    allow_interspersed_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take all words for the command itself."""
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command itself."""
        return click.Command.invoke(self, ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command itself, and what is beneath it."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Describe the command itself."""
        return click.Command.collect_usage_pieces(self, ctx)
