"""The charts of benchmark documents: what to draw of them; `edgecls.drawing` knows how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls.benchmark.overview import overview_figures
from edgecls.benchmark.pairing import setup_key
from edgecls.benchmark.shown import compared_names, distinct, document_labels, setup_parts, show, some_of
from edgecls.drawing.distributions import Curve, histogram, percentile_curves, trace
from edgecls.drawing.tables import Interval, intervals
from edgecls_export.file_sets import check_new_folder, whole_files
from edgecls_runtime.errors import OutputError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document
    from edgecls.benchmark.shown import Shown
    from edgecls.drawing.figure import Figure

__all__ = ["MOST_RUNS", "check_folder", "comparison_figures", "run_figures", "write_pngs"]

MOST_RUNS = 24
"""So many runs at most are drawn by themselves: a report is read by people."""

_MOST_INTERVALS = 12
_MOST_PAIRS = 6
_UNIT = "ms"
_MARKED = ("p50", "p90", "p99")


def run_figures(shown: Shown, name: str) -> list[Figure]:
    """Draw one run by itself: how its latencies are distributed, and how they went in time.

    Args:
        shown: the run.
        name: ends the names of the figures.
    """
    if not shown.samples:
        return []
    what = "stretches" if shown.run.setup.scenario == "offline" else "queries"
    marks = [mark for mark in shown.marks if mark.name in _MARKED]
    rounds = shown.run.measured.rounds
    return [
        histogram(f"histogram-{name}", "How long it takes", shown.samples, marks, unit=_UNIT, what=what),
        trace(f"trace-{name}", "As time went by", shown.samples, rounds, unit=_UNIT, what=what),
    ]


def comparison_figures(comparison: Comparison, shown: Sequence[Shown]) -> list[Figure]:
    """Draw how a contender stands against its baseline: ratios with intervals, and of each setup both distributions.

    Args:
        comparison: of the two.
        shown: runs of the baseline's document and of the contender's.
    """
    labels = distinct([setup_parts(row.setup) for row in comparison.rows])
    if len(labels) == 1:
        labels = [""]
    rows = [
        Interval(label, row.ratio, row.low, row.high, row.verdict)
        for label, row in zip(labels, comparison.rows, strict=True)
        if row.ratio is not None and row.low is not None and row.high is not None
    ]
    if not rows:
        return []
    statistic = "median of ratios" if comparison.in_turn else "ratio of medians"
    shown_rows = some_of(len(rows), _MOST_INTERVALS, "setups")
    figures = [
        intervals(
            "change",
            "Contender against baseline",
            rows[:_MOST_INTERVALS],
            allowed=1 + comparison.max_regression,
            caption=f"{statistic}, with its {100 * comparison.confidence:g} % interval{shown_rows}",
        )
    ]
    for number, (label, row) in enumerate(zip(labels, comparison.rows, strict=True), start=1):
        pair = [item for item in shown if setup_key(item.run.setup) == setup_key(row.setup) and item.samples]
        if len(pair) == 2 and number <= _MOST_PAIRS:
            curves = [Curve(item.of, item.samples, item.marks) for item in pair]
            title = f"Both distributions{f': {label}' if label else ''}"
            figures.append(percentile_curves(f"both-{number}", title, curves, unit=_UNIT))
    return figures


def check_folder(folder: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse what `write_pngs` would refuse, before an hour of measuring.

    Raises:
        OutputError: the folder cannot be made, or holds pictures already (without ``force``).
    """
    folder = Path(folder)
    if not folder.is_dir():
        check_new_folder(folder, force=force)
    elif not force and any(folder.glob("*.png")):
        raise OutputError(f"{folder}: holds pictures already", "Choose another folder, or overwrite them with --force.")


def write_pngs(
    documents: Sequence[Document],
    folder: str | os.PathLike[str],
    *,
    comparison: Comparison | None = None,
    accuracies: Mapping[str, float] | None = None,
    force: bool = False,
) -> list[Path]:
    """Write every chart as a PNG file into a folder, which is made if it is not there.

    Args:
        documents: what was measured.
        folder: for the files.
        comparison: of the second document with the first.
        accuracies: acc@1 in percent by the name of the model's file.
        force: overwrite files.

    Returns:
        The files; all of them appear, or none.

    Raises:
        OutputError: the folder holds pictures already (without ``force``), or cannot be written to.
    """
    from edgecls.drawing.png import write_png

    folder = Path(folder)
    check_folder(folder, force=force)
    names = compared_names(comparison) or document_labels(documents)
    shown = show(documents, names)
    figures = comparison_figures(comparison, shown) if comparison is not None else []
    figures += overview_figures(shown, documents, names, accuracies)
    for number, item in enumerate(shown[:MOST_RUNS], start=1):
        # A file stands alone, so it must say itself of which run it is.
        alone = run_figures(item, str(number))
        figures += [replace(figure, caption=f"{item.label}: {figure.caption}") for figure in alone]
    if not figures:
        return []
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror or error}", "Choose another folder.") from error
    paths = [folder / f"{figure.name}.png" for figure in figures]
    with whole_files(paths, force=force) as temporaries:
        for figure, temporary in zip(figures, temporaries, strict=True):
            write_png(figure, temporary)
    return paths
