"""A command whose help groups its options under headings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SectionedCommand", "headed", "section"]


Command = TypeVar("Command", bound="Callable[..., object]")


class _Option(click.Option):
    def __init__(self, *arguments: Any, heading: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.heading = heading


class SectionedCommand(click.Command):
    """Write the options under their headings, each heading where it occurs first, and at the end those without."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "heading", "Other"), []).append(record)
        sections["Other"] = sections.pop("Other")
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def section(heading: str) -> Callable[..., Callable[[Command], Command]]:
    """Return a ``click.option`` whose options stand under this heading."""

    def option(*names: str, **keywords: Any) -> Callable[[Command], Command]:
        return click.option(*names, cls=_Option, heading=heading, **keywords)

    return option


def headed(heading: str, add: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return what adds several options, as ``add`` does, but under this heading."""

    def decorate(command: Command) -> Command:
        before = len(getattr(command, "__click_params__", []))
        command = add(command)
        for parameter in command.__click_params__[before:]:  # type: ignore[attr-defined]  # where click keeps them
            parameter.heading = heading
        return command

    return decorate
