"""What becomes of a measurement on the command line: the pages about it, and what an interruption leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from .bars import share_bar
from .param_types import NumberRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document

__all__ = ["SECONDS", "check_targets", "early_exit", "measure", "page_options", "tell_end", "write_pages"]

_CTRL_C = 130  # the exit status that shells give a process that SIGINT ended: 128 + 2

_Command = TypeVar("_Command", bound="Callable[..., Any]")


SECONDS = NumberRange(min=0, min_open=True, max=86400)


class _Measurement(Protocol):
    def run(self, progress: Callable[[str, float], object]) -> None: ...


def page_options(command: _Command) -> _Command:
    """Add the options ``html_file``, ``charts`` and ``force``."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite files."),
        click.option("--charts", type=click.Path(path_type=Path), metavar="DIR", help="Write charts (PNG) there."),
        click.option(
            "--report", "html_file", type=click.Path(path_type=Path), metavar="FILE", help="Write a page (HTML)."
        ),
    ):
        command = option(command)
    return command


def check_targets(named: Sequence[Path | None], charts: Path | None, *, force: bool) -> None:
    """Refuse now what could not be written after the measurement.

    Raises:
        OutputError: a file exists already (without ``force``), or cannot be written.
        UsageError: two results would go to one file.
    """
    from edgecls.benchmark.charts import check_folder
    from edgecls_runtime.output import check_writable

    files = [file for file in named if file is not None]
    places = [file.resolve() for file in (*files, *([] if charts is None else [charts]))]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise click.UsageError(f"{twice} is named for two results: give each a file of its own.")
    for file in files:
        check_writable(file, force=force)
    if charts is not None:
        check_folder(charts, force=force)


def measure(measurement: _Measurement) -> int | None:
    """Measure; return the exit status of what interrupted it, Ctrl-C or SIGTERM."""
    try:
        with share_bar("measuring") as progress:
            measurement.run(progress)
    except KeyboardInterrupt:
        return _CTRL_C
    except SystemExit as end:  # SIGTERM, see main()
        return int(end.code or 0)
    return None


def early_exit(interruption: int | None, *, complete: bool) -> int | None:
    """Return the exit status of a measurement that ended early; None if it did not."""
    return (None if complete else 1) if interruption is None else interruption


def tell_end(interruption: int | None, *, complete: bool) -> None:
    """Say that a measurement ended early, if it did."""
    if interruption is not None:
        click.echo("interrupted: what was measured until then is kept", err=True)
    elif not complete:
        click.echo("error: not everything could be measured", err=True)


def write_pages(
    documents: Sequence[Document],
    html_file: Path | None,
    charts: Path | None,
    *,
    comparison: Comparison | None = None,
    force: bool,
) -> None:
    """Write a page and charts, and say so.

    Raises:
        OutputError: a file cannot be written.
    """
    if html_file is not None:
        from edgecls.benchmark import html_report

        html_report.write(documents, html_file, comparison=comparison, force=force)
        click.echo(f"{html_file}: written", err=True)
    if charts is not None:
        from edgecls.benchmark.charts import write_pngs

        written = write_pngs(documents, charts, comparison=comparison, force=force)
        click.echo(f"{charts}: {len(written)} charts", err=True)
