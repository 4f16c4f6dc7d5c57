"""``edgecls bench compare``, and what every command that ends in a verdict shares: never imports torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .bench_results import check_targets, page_options, write_pages
from .param_types import ParamType
from .sections import SectionedCommand, headed, section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgecls.benchmark.comparison import Comparison

__all__ = ["PERCENT", "compare", "verdict_files", "verdict_options", "write_verdict"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")


class _Share(ParamType[float]):
    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Take 5% or 0.05; a bare 5 could be either, and is refused."""
        text = str(value).strip()
        number, percent = (text[:-1], 100) if text.endswith("%") else (text, 1)
        try:
            share = float(number) / percent
        except ValueError:
            self.fail(f"{value!r} is no share, as 5% or 0.05", param, ctx)
        if not 0 <= share < 1:
            self.fail(f"{value!r} is not between 0% and 100%; say 5% or 0.05", param, ctx)
        return share


PERCENT = _Share()


def verdict_options(command: _Command) -> _Command:
    """Add the options of a verdict: ``max_regression``, ``markdown``, ``junit`` and ``verdict_json``."""
    for option in reversed(
        (
            click.option(
                "--max-regression",
                type=PERCENT,
                metavar=PERCENT.name,
                default="5%",
                show_default=True,
                help="How much slower is allowed.",
            ),
            click.option(
                "--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the verdict there."
            ),
            click.option(
                "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Likewise, as XML for a build server."
            ),
            click.option(
                "--verdict-json", type=click.Path(path_type=Path), metavar="FILE", help="Likewise, for programs."
            ),
        )
    ):
        command = option(command)
    return command


def verdict_files(markdown: Path | None, junit: Path | None, verdict_json: Path | None) -> dict[str, Path]:
    """Return where to write the verdict, by format."""
    named = {"markdown": markdown, "junit": junit, "json": verdict_json}
    return {name: path for name, path in named.items() if path is not None}


def write_verdict(comparison: Comparison, targets: Mapping[str, Path], *, force: bool) -> None:
    """Write the files that `verdict_files` returned, and say so.

    Raises:
        OutputError: a file cannot be written.
    """
    from edgecls.benchmark.verdict_files import write

    write(comparison, targets, force=force)
    for path in targets.values():
        click.echo(f"{path}: written", err=True)


@click.command(cls=SectionedCommand, short_help="Is a model slower than it was? From two files of bench --json.")
@click.argument("baseline", metavar="BASELINE.json")
@click.argument("contender", metavar="CONTENDER.json")
@section("Verdict")("--any-machine", is_flag=True, help="Compare what different machines measured, all the same.")
@headed("Verdict", verdict_options)
@headed("Results", page_options)
def compare(
    baseline: str,
    contender: str,
    any_machine: bool,
    max_regression: float,
    markdown: Path | None,
    junit: Path | None,
    verdict_json: Path | None,
    html_file: Path | None,
    charts: Path | None,
    force: bool,
) -> None:
    """Say whether a model became slower, from two files of bench --json.

    The verdict is pass, regression or inconclusive, by an interval on the ratio of the medians: only one that lies
    wholly within what is allowed passes, and only one that lies wholly beyond fails. On a machine that does other
    things besides, measure both in turn instead: edgecls bench --ab MODEL_A MODEL_B.

    Exit status: 0 pass, 1 regression (or an error), 3 inconclusive, 4 measured on different machines.
    """
    from edgecls.benchmark.comparison import compare as compare_documents
    from edgecls.benchmark.files import read

    targets = verdict_files(markdown, junit, verdict_json)
    check_targets([html_file, *targets.values()], charts, force=force)
    documents = read(baseline), read(contender)
    comparison = compare_documents(
        *documents, max_regression=max_regression, any_machine=any_machine, names=(baseline, contender)
    )
    write_pages(documents, html_file, charts, comparison=comparison, force=force)
    write_verdict(comparison, targets, force=force)
    click.echo(comparison)
    sys.exit(comparison.exit_status)
