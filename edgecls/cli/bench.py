"""``edgecls bench``: never imports torch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .bench_ab import ab
from .bench_compare import compare, verdict_files, verdict_options, write_verdict
from .bench_report import report
from .bench_results import SECONDS, check_targets, early_exit, measure, page_options, tell_end, write_pages
from .bench_setups import asked_setups, given_options, setup_options
from .default_command import DefaultCommand
from .sections import headed, section

if TYPE_CHECKING:
    from edgecls.benchmark.measurement import Effort

__all__ = ["bench"]

_OF_RESULTS = frozenset(
    {
        *("model", "json_file", "html_file", "charts", "force"),
        *("baseline", "any_machine", "max_regression", "markdown", "junit", "verdict_json"),
    }
)
"""Parameters that say nothing about how it is measured."""


_length, _verdict, _results = section("How long"), section("Verdict"), section("Results")


class _Bench(DefaultCommand):
    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Let ``--ab``, wherever it stands, choose the command ``ab``."""
        if "--ab" in args and args[0] not in self.commands:
            args = ["ab", *(arg for arg in args if arg != "--ab")]
        return super().make_context(info_name, args, parent=parent, **extra)


@click.group(cls=_Bench, no_args_is_help=True)
@click.argument("model")
@headed("Setups", setup_options)
@_length(
    "--duration",
    type=SECONDS,
    metavar="SECONDS",
    help="Of queries that count, for each setup.  [default: 10]",
)
@_length(
    "--iterations",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Queries that count, for each setup.  [default: as many as there is time for]",
)
@_length("--quick", is_flag=True, help="3 seconds of queries, 8 rounds, shorter warm-ups, 3 cold starts.")
@_length(
    "--cold-starts",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Processes to start, from nothing to the first answer.  [default: 5]",
)
@_verdict(
    "--baseline", type=click.Path(path_type=Path), metavar="FILE", help="Hold it against this file of bench --json."
)
@_verdict("--any-machine", is_flag=True, help="baseline: of another machine, all the same.")
@headed("Verdict", verdict_options)
@_results("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all samples there.")
@headed("Results", page_options)
@_verdict("--ab", is_flag=True, expose_value=False, help="Two models in turn: bench --ab MODEL_A MODEL_B.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    model: str,
    images: Path | None,
    duration: float | None,
    iterations: int | None,
    quick: bool,
    cold_starts: int | None,
    baseline: Path | None,
    any_machine: bool,
    max_regression: float,
    markdown: Path | None,
    junit: Path | None,
    verdict_json: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    charts: Path | None,
    force: bool,
    **setups: Any,
) -> None:
    """Measure how quickly this machine runs a model, and say how far the figures can be trusted.

    singlestream answers picture after picture, multistream several in one run (8 if --batch does not say), offline as
    many at a time as there are CPUs; engine is the run alone, as the engines' own benchmarks measure it. All setups
    take turns in 10 rounds, each in a process of its own that warms up until the latency has settled. Percentiles are
    shown where there are enough queries, and with a bound that holds with 99 % confidence. Of --duration and
    --iterations what is reached first ends it; Ctrl-C keeps what there is.

    The exit status is 1 if a setup failed; the others are measured all the same. With --baseline it is the verdict's:
    0 pass, 1 regression, 3 inconclusive, 4 another machine.
    """
    from edgecls.benchmark.comparison import check_comparable
    from edgecls.benchmark.comparison import compare as compare_documents
    from edgecls.benchmark.files import read, write
    from edgecls.benchmark.fingerprint import this_fingerprint
    from edgecls.benchmark.measurement import Measurement, describe_model
    from edgecls.benchmark.pairing import check_setups
    from edgecls.benchmark.picture_sets import open_pictures
    from edgecls.benchmark.setups import orders_for

    asked = asked_setups(**setups)
    if baseline is None:
        _refuse_without_baseline(ctx)
    targets = verdict_files(markdown, junit, verdict_json)
    check_targets([json_file, html_file, *targets.values()], charts, force=force)
    earlier = None if baseline is None else read(baseline)
    names = str(baseline), model
    description = describe_model(model)
    with open_pictures(images) as pictures:
        if pictures.left_out:
            click.echo(f"note: {len(pictures.paths)} pictures are used, {pictures.left_out:,} are not", err=True)
        orders = orders_for(model, pictures.paths, **asked)
        if earlier is not None:  # now, and not after the measurement
            here = dataclasses.replace(
                earlier, machine=this_fingerprint(), model=description, pictures=pictures.description
            )
            check_comparable(earlier, here, any_machine=any_machine, names=names)
            check_setups(earlier, orders, names)
        measurement = Measurement(orders, _effort(duration, iterations, quick, cold_starts))
        interruption = measure(measurement)
        document = measurement.to_document(
            description,
            pictures.description,
            given_options(ctx, besides=_OF_RESULTS),
            failure=None if interruption is None else "interrupted",
        )
    for assumption in measurement.assumptions:
        click.echo(f"note: {model}: {assumption}", err=True)
    if not document.runs:
        click.echo("interrupted: nothing was measured", err=True)
        sys.exit(interruption)
    documents = (document,) if earlier is None else (earlier, document)
    comparison, status = None, early_exit(interruption, complete=document.complete)
    try:
        if json_file is not None:
            write(document, json_file, force=force)
            click.echo(f"{json_file}: written", err=True)
        if earlier is not None:
            comparison = compare_documents(
                earlier, document, max_regression=max_regression, any_machine=any_machine, names=names
            )
            comparison = dataclasses.replace(comparison, early_exit=status)
            write_verdict(comparison, targets, force=force)
        write_pages(documents, html_file, charts, comparison=comparison, force=force)
    finally:  # after the files, for the standard output may be closed; and also if one cannot be written
        click.echo(document if comparison is None else f"{document}\n{comparison}")
    tell_end(interruption, complete=document.complete)
    ctx.exit((status or 0) if comparison is None else comparison.exit_status)


for command in (ab, compare, report):
    bench.add_command(command)


def _effort(duration: float | None, iterations: int | None, quick: bool, cold_starts: int | None) -> Effort:
    from edgecls.benchmark.measurement import QUICK, Effort

    effort = QUICK if quick else Effort()
    if duration is not None or iterations is not None:
        effort = dataclasses.replace(effort, duration_s=duration, iterations=iterations)
    return effort if cold_starts is None else dataclasses.replace(effort, cold_starts=cold_starts)


def _refuse_without_baseline(ctx: click.Context) -> None:
    for name in ("any_machine", "max_regression", "markdown", "junit", "verdict_json"):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is about a verdict: give --baseline FILE, or leave it out.")
