"""``edgecls bench``: never imports torch."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .bars import share_bar
from .bench_report import report
from .default_command import DefaultCommand
from .options import PROVIDERS, CommaList, engine_options, session_options, session_settings

if TYPE_CHECKING:
    from edgecls.benchmark.document import Document
    from edgecls.benchmark.measurement import Effort, Measurement
    from edgecls_runtime.backends.settings import InferencePrecision

__all__ = ["bench"]

_CTRL_C = 130  # the exit status that shells give a process that SIGINT ended: 128 + 2

_SCENARIOS = ("singlestream", "multistream", "offline")
_OF_RESULTS = frozenset({"model", "json_file", "html_file", "charts", "force"})
"""Parameters that say nothing about how it is measured."""


@click.group(cls=DefaultCommand, no_args_is_help=True)
@click.argument("model")
@click.option(
    "--provider",
    "providers",
    type=CommaList(click.Choice(PROVIDERS)),
    help=f"Where to run, strictly: {', '.join(PROVIDERS)}.  [default: cpu; tensorrt for an engine]",
)
@click.option(
    "--threads",
    type=CommaList(click.IntRange(min=1)),
    help="CPU threads of one run, say 1,2.  [default: one a usable physical core]",
)
@click.option(
    "--scenario",
    "scenarios",
    type=CommaList(click.Choice(_SCENARIOS)),
    help=f"{', '.join(_SCENARIOS)}.  [default: singlestream; multistream for batches of several]",
)
@click.option(
    "--batch", "batch_sizes", type=CommaList(click.IntRange(min=1)), help="Pictures a run, say 1,8.  [default: 1]"
)
@session_options
@click.option("--images", type=click.Path(path_type=Path), metavar="DIR", help="Pictures.  [default: drawn ones]")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True, max=86400),
    metavar="SECONDS",
    help="Of queries that count, for each setup.  [default: 10]",
)
@click.option(
    "--iterations",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="Queries that count, for each setup.  [default: as many as there is time for]",
)
@click.option("--quick", is_flag=True, help="3 seconds of queries, 8 rounds, shorter warm-ups, 3 cold starts.")
@click.option(
    "--cold-starts",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Processes to start, from nothing to the first answer.  [default: 5]",
)
@engine_options
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all samples there.")
@click.option("--report", "html_file", type=click.Path(path_type=Path), metavar="FILE", help="Write a page (HTML).")
@click.option("--charts", type=click.Path(path_type=Path), metavar="DIR", help="Write charts (PNG) there.")
@click.option("--force", is_flag=True, help="Overwrite files.")
@click.pass_context
def bench(
    ctx: click.Context,
    model: str,
    providers: tuple[str, ...] | None,
    threads: tuple[int, ...] | None,
    scenarios: tuple[Any, ...] | None,
    batch_sizes: tuple[int, ...] | None,
    spinning: bool | None,
    inference_precision: InferencePrecision | None,
    images: Path | None,
    duration: float | None,
    iterations: int | None,
    quick: bool,
    cold_starts: int | None,
    trust: bool,
    engine_cache: str | None,
    json_file: Path | None,
    html_file: Path | None,
    charts: Path | None,
    force: bool,
) -> None:
    """Measure how quickly this machine runs a model, and say how far the figures can be trusted.

    singlestream answers picture after picture, multistream several in one run (8 if --batch does not say), offline as
    many at a time as there are CPUs. All setups take turns in 10 rounds, each in a process of its own that warms up
    until the latency has settled. Percentiles are shown where there are enough queries, and with a bound that holds
    with 99 % confidence. Of --duration and --iterations what is reached first ends it; Ctrl-C keeps what there is.

    The exit status is 1 if a setup failed; the others are measured all the same.
    """
    from edgecls.benchmark.charts import check_folder
    from edgecls.benchmark.files import write
    from edgecls.benchmark.measurement import Measurement, describe_model
    from edgecls.benchmark.picture_sets import open_pictures
    from edgecls.benchmark.setups import orders_for
    from edgecls_runtime.output import check_writable

    if duration is not None and math.isnan(duration):  # which no range refuses
        raise click.BadParameter("nan is no number of seconds", param_hint="--duration")
    if scenarios == ("singlestream",) and batch_sizes not in (None, (1,)):
        raise click.UsageError("--scenario singlestream answers picture after picture: leave out --batch.")
    for file in filter(None, (json_file, html_file)):
        check_writable(file, force=force)
    if charts is not None:
        check_folder(charts, force=force)
    description = describe_model(model)
    with open_pictures(images) as pictures:
        if pictures.left_out:
            click.echo(f"note: {len(pictures.paths)} pictures are used, {pictures.left_out:,} are not", err=True)
        orders = orders_for(
            model,
            pictures.paths,
            providers=providers or (),
            threads=threads or (),
            scenarios=scenarios or (),
            batch_sizes=batch_sizes or (),
            settings=session_settings(spinning, inference_precision),
            trust=trust,
            engine_cache=engine_cache,
        )
        measurement = Measurement(orders, _effort(duration, iterations, quick, cold_starts))
        interruption = _measure(measurement)
        document = measurement.to_document(
            description,
            pictures.description,
            _options(ctx),
            failure=None if interruption is None else "interrupted",
        )
    for assumption in measurement.assumptions:
        click.echo(f"note: {model}: {assumption}", err=True)
    if not document.runs:
        click.echo("interrupted: nothing was measured", err=True)
        sys.exit(interruption)
    click.echo(document)
    if json_file is not None:
        write(document, json_file, force=force)
        click.echo(f"{json_file}: written", err=True)
    _write_pages((document,), html_file, charts, force=force)
    if interruption is not None:
        click.echo("interrupted: what was measured until then is kept", err=True)
        sys.exit(interruption)
    if not document.complete:
        click.echo("error: not everything could be measured", err=True)
        ctx.exit(1)


bench.add_command(report)


def _effort(duration: float | None, iterations: int | None, quick: bool, cold_starts: int | None) -> Effort:
    from edgecls.benchmark.measurement import QUICK, Effort

    effort = QUICK if quick else Effort()
    if duration is not None or iterations is not None:
        effort = dataclasses.replace(effort, duration_s=duration, iterations=iterations)
    return effort if cold_starts is None else dataclasses.replace(effort, cold_starts=cold_starts)


def _measure(measurement: Measurement) -> int | None:
    """Measure; return the exit status of what interrupted it, Ctrl-C or SIGTERM."""
    try:
        with share_bar("measuring") as progress:
            measurement.run(progress)
    except KeyboardInterrupt:
        return _CTRL_C
    except SystemExit as end:  # SIGTERM, see main()
        return int(end.code or 0)
    return None


def _options(ctx: click.Context) -> dict[str, str]:
    """Return the options that were given, by their names without dashes, as one would type them again."""
    given = {}
    for parameter in ctx.command.params:
        name, value = str(parameter.name), ctx.params[parameter.name]
        if name in _OF_RESULTS or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        option = (parameter.secondary_opts if value is False else parameter.opts)[0].removeprefix("--")
        given[option] = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if isinstance(value, bool):
            given[option] = "true"
    return given


def _write_pages(documents: tuple[Document, ...], html_file: Path | None, charts: Path | None, *, force: bool) -> None:
    if html_file is not None:
        from edgecls.benchmark import html_report

        html_report.write(documents, html_file, force=force)
        click.echo(f"{html_file}: written", err=True)
    if charts is not None:
        from edgecls.benchmark.charts import write_pngs

        click.echo(f"{charts}: {len(write_pngs(documents, charts, force=force))} charts", err=True)
