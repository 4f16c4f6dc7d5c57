"""``edgecls bench report``: needs no torch and no plotting package."""

from __future__ import annotations

from pathlib import Path

import click

from .bench_results import check_targets

__all__ = ["report"]


@click.command(short_help="A page and charts about files of bench --json.")
@click.argument("documents", nargs=-1, required=True, metavar="FILE.json...")
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page about all.")
@click.option("--charts", type=click.Path(path_type=Path), metavar="DIR", help="Write every chart there as a PNG file.")
@click.option(
    "--accuracy",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Of edgecls compare or evaluate, --format json: for the chart of accuracy and latency.",
)
@click.option("--force", is_flag=True, help="Overwrite files.")
def report(
    documents: tuple[str, ...], output: Path | None, charts: Path | None, accuracy: tuple[Path, ...], force: bool
) -> None:
    """Show what edgecls bench --json measured, one file or several beside one another.

    The page is a single file without scripts, which a phone shows too, and which fetches nothing.
    """
    from edgecls.benchmark import html_report
    from edgecls.benchmark.accuracy import read_accuracies
    from edgecls.benchmark.charts import write_pngs
    from edgecls.benchmark.files import read

    if output is None and charts is None:
        raise click.UsageError("nothing to write: give --output FILE.html, --charts DIR, or both.")
    check_targets([output], charts, force=force)
    found = [read(path) for path in documents]
    accuracies = read_accuracies(accuracy)
    measured = {document.model.file for document in found}
    for name in sorted(set(accuracies) - measured):
        click.echo(f"note: {name} has an accuracy, and was not measured", err=True)
    if charts is not None:
        written = write_pngs(found, charts, accuracies=accuracies, force=force)
        click.echo(f"{charts}: {len(written)} charts", err=True)
    if output is not None:
        html_report.write(found, output, accuracies=accuracies, force=force)
        click.echo(f"{output}: {output.stat().st_size / 1e3:,.0f} kB", err=True)
