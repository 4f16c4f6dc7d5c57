"""``edgecls bench --ab``: never imports torch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from .bench_compare import verdict_files, verdict_options, write_verdict
from .bench_results import SECONDS, check_targets, early_exit, measure, page_options, tell_end, write_pages
from .bench_setups import asked_setups, given_options, setup_options
from .sections import SectionedCommand, headed, section

__all__ = ["ab"]

_OF_RESULTS = frozenset(
    {
        *("baseline", "contender", "json_files", "html_file", "charts", "force"),
        *("max_regression", "markdown", "junit", "verdict_json"),
    }
)
"""Parameters that say nothing about how it is measured."""

_length, _results = section("How long"), section("Results")


@click.command(cls=SectionedCommand, short_help="Is model B slower than model A? In turn, as a noisy machine needs it.")
@click.argument("baseline", metavar="MODEL_A")
@click.argument("contender", metavar="MODEL_B")
@headed("Setups", setup_options)
@_length(
    "--duration",
    type=SECONDS,
    metavar="SECONDS",
    help="For each setup at most, starts of processes included.  [default: 60]",
)
@_length("--quick", is_flag=True, help="15 seconds at most, shorter warm-ups.")
@headed("Verdict", verdict_options)
@_results(
    "--json",
    "json_files",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="A.json B.json",
    help="Write all samples of both there.",
)
@headed("Results", page_options)
@click.pass_context
def ab(
    ctx: click.Context,
    /,
    baseline: str,
    contender: str,
    images: Path | None,
    duration: float | None,
    quick: bool,
    max_regression: float,
    markdown: Path | None,
    junit: Path | None,
    verdict_json: Path | None,
    json_files: tuple[Path, Path] | None,
    html_file: Path | None,
    charts: Path | None,
    force: bool,
    **setups: Any,
) -> None:
    """Say whether model B is slower than model A, both measured in turn: the way that a noisy machine needs.

    Each round starts a process for either model; they take turns in blocks of some 50 ms on the same pictures, and
    one works while the other sleeps. Rounds are added until the interval on the ratio decides, or the time is over.
    Ctrl-C keeps what there is.

    Exit status: 0 pass, 1 regression (or an error), 3 inconclusive.
    """
    from edgecls.benchmark.ab import QUICK, Effort, PairMeasurement
    from edgecls.benchmark.files import write
    from edgecls.benchmark.measurement import describe_model
    from edgecls.benchmark.picture_sets import open_pictures
    from edgecls.benchmark.setups import orders_for

    asked = asked_setups(**setups)
    if setups["spinning"]:
        raise click.UsageError("--spinning would take the CPUs from the other model's turn: leave it out.")
    targets = verdict_files(markdown, junit, verdict_json)
    check_targets([*(json_files or ()), html_file, *targets.values()], charts, force=force)
    models = describe_model(baseline), describe_model(contender)
    effort = QUICK if quick else Effort()
    if duration is not None:
        effort = dataclasses.replace(effort, limit_s=duration)
    with open_pictures(images) as pictures:
        if pictures.left_out:
            click.echo(f"note: {len(pictures.paths)} pictures are used, {pictures.left_out:,} are not", err=True)
        orders = [orders_for(model, pictures.paths, **asked) for model in (baseline, contender)]
        measurement = PairMeasurement(
            list(zip(*orders, strict=True)),
            models=models,
            names=(baseline, contender),
            pictures=pictures.description,
            options=given_options(ctx, besides=_OF_RESULTS),
            max_regression=max_regression,
            effort=effort,
        )
        interruption = measure(measurement)
    for model, assumptions in zip((baseline, contender), measurement.assumptions, strict=True):
        for assumption in assumptions:
            click.echo(f"note: {model}: {assumption}", err=True)
    pair = measurement.result(failure=None if interruption is None else "interrupted")
    documents = pair.baseline, pair.contender
    if not pair.comparison.rows:
        click.echo("interrupted: nothing was measured", err=True)
        sys.exit(interruption)
    complete = pair.comparison.complete
    comparison = dataclasses.replace(pair.comparison, early_exit=early_exit(interruption, complete=complete))
    try:
        for document, file in zip(documents, json_files or (), strict=False):
            write(document, file, force=force)
            click.echo(f"{file}: written", err=True)
        write_pages(documents, html_file, charts, comparison=comparison, force=force)
        write_verdict(comparison, targets, force=force)
    finally:  # after the files, for the standard output may be closed; and also if one cannot be written
        click.echo(comparison)
    tell_end(interruption, complete=complete)
    ctx.exit(comparison.exit_status)
