"""A benchmark as one page that a phone can show: no script, no other file, nothing fetched."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from edgecls.benchmark.charts import MOST_RUNS, comparison_figures, run_figures
from edgecls.benchmark.html_parts import card, figures, folded, page, section
from edgecls.benchmark.html_tables import (
    about,
    change_table,
    commands,
    footnote,
    latency_table,
    memory,
    stage_table,
    when,
)
from edgecls.benchmark.overview import overview_figures
from edgecls.benchmark.shown import compared_names, document_labels, show
from edgecls.drawing.axes import number
from edgecls.drawing.svg import escape
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document
    from edgecls.benchmark.shown import Shown

__all__ = ["to_html", "write"]

_VERDICTS = {"pass": "good", "regression": "bad", "inconclusive": "unsure"}


def write(
    documents: Sequence[Document],
    path: str | os.PathLike[str],
    *,
    comparison: Comparison | None = None,
    accuracies: Mapping[str, float] | None = None,
    force: bool = False,
) -> None:
    """Write the page of `to_html`, whole or not at all.

    Raises:
        OutputError: it exists already (without ``force``), or cannot be written.
    """
    text = to_html(documents, comparison=comparison, accuracies=accuracies)
    with whole_file(path, force=force) as temporary:
        temporary.write_text(text, "utf-8")


def to_html(
    documents: Sequence[Document],
    *,
    comparison: Comparison | None = None,
    accuracies: Mapping[str, float] | None = None,
) -> str:
    """Return a page about one benchmark, or several beside one another: what was found first, how it was found last.

    Args:
        documents: at least one.
        comparison: of the second document with the first.
        accuracies: acc@1 in percent by the name of the model's file (`edgecls.benchmark.accuracy`).
    """
    names = compared_names(comparison) or document_labels(documents)
    shown = show(documents, names)
    title = names[0] if len(documents) == 1 else f"{len(documents)} benchmarks"
    if comparison is not None:
        title = f"{names[1]} against {names[0]}"
    overview = overview_figures(shown, documents, names, accuracies)
    if comparison is not None:  # each setup has its own already, with both distributions
        overview = [figure for figure in overview if figure.name != "percentiles"]
    body = [
        _header(documents, title),
        *([_verdict(comparison)] if comparison is not None else []),
        *_warnings(documents, names, shown, comparison),
        _key_figures(shown) if len(documents) == 1 else "",
    ]
    if comparison is not None:
        body.append(
            section("Against the baseline", change_table(comparison), figures(comparison_figures(comparison, shown)))
        )
    body += [
        section("Latency", latency_table(shown), footnote(shown)),
        section("Charts", figures(overview)),
        section("Run by run", *_runs(shown)),
        section("Measured on", about(documents, names)),
        section("How to measure it again", *commands(documents, comparison)),
    ]
    return page(f"edgecls bench: {title}", filter(None, body))


def _header(documents: Sequence[Document], title: str) -> str:
    """Say of what and where, in two lines."""
    first = documents[0]
    if len(documents) == 1:
        model = first.model
        what = [model.arch, model.precision, f"{model.bytes / 1e6:,.1f} MB", first.machine.cpu, when(first.created)]
    else:
        cpus = dict.fromkeys(document.machine.cpu for document in documents)
        latest = when(max(document.created for document in documents))
        what = [*dict.fromkeys(document.model.file for document in documents), *cpus, latest]
    return (
        f'<header><p class="small">edgecls bench</p><h1>{escape(title)}</h1>'
        f'<p class="small">{escape(" · ".join(filter(None, what)))}</p></header>'
    )


def _verdict(comparison: Comparison) -> str:
    sides = f"{comparison.contender.name} against {comparison.baseline.name}"
    allowed = f"up to {100 * comparison.max_regression:g} % slower is allowed; exit status {comparison.exit_status}"
    remarks = [f"{row.setup}: {row.remark}" for row in comparison.rows]
    lines = [f"{sides}: {allowed}", *([comparison.advice] if comparison.advice else [])]
    return card(_VERDICTS[comparison.verdict], comparison.verdict, lines, remarks)


def _warnings(
    documents: Sequence[Document], names: Sequence[str], shown: Sequence[Shown], comparison: Comparison | None
) -> list[str]:
    """Say what failed and what is in doubt, by name where there is more than one."""
    cards = []
    failures = []
    for document, name in zip(documents, names, strict=True):
        if document.failure is not None:
            failures.append(f"{name}: {document.failure}" if len(documents) > 1 else document.failure)
        elif not document.complete and not any(run.failure for run in document.runs):
            failures.append(f"{name}: not all that was asked for was measured.")
    failures += [f"{item.label}: {item.run.failure}" for item in shown if item.run.failure is not None]
    if failures:
        cards.append(card("bad", "Not complete", [], failures))
    # A comparison's warnings hold the doubts of both documents.
    doubts = _doubts(shown) if comparison is None else comparison.warnings
    if doubts:
        cards.append(card("unsure", "Doubts", [], doubts))
    return cards


def _doubts(shown: Sequence[Shown]) -> list[str]:
    """Return each doubt once, with the runs that it is about if it is not about all."""
    found: dict[str, list[str]] = {}
    for item in shown:
        for doubt in item.run.doubts:
            found.setdefault(doubt, []).append(item.label)
    everywhere = len(shown)
    return [f"{doubt} ({'; '.join(of)})" if len(of) < everywhere else doubt for doubt, of in found.items()]


def _key_figures(shown: Sequence[Shown]) -> str:
    """Show the first run's numbers, and the cold start's, large."""
    item = next((item for item in shown if item.samples), None)
    if item is None or item.summary is None:
        return ""
    found = [(f"{mark.name} latency", f"{number(mark.value)} ms") for mark in item.marks if mark.name in ("p50", "p99")]
    if not found:
        found = [("mean latency", f"{number(item.summary.mean)} ms")]
    found += [("images a second", number(item.run.images_per_second))]
    starts = [start.total_ms for start in item.document.cold_starts]
    if starts:
        found.append(("cold start, median", f"{number(statistics.median(starts))} ms"))
    found.append(("peak memory", memory(item.run)))
    boxes = "".join(
        f'<div><span class="small">{escape(name)}</span><b>{escape(value)}</b></div>' for name, value in found
    )
    return f'<p class="small">{escape(str(item.run.setup))}</p><div class="cards">{boxes}</div>'


def _runs(shown: Sequence[Shown]) -> list[str]:
    """Return each run's own charts and stages, folded; beyond some tens of runs a page would be too large."""
    parts = []
    for position, item in enumerate(shown[:MOST_RUNS], start=1):
        if item.samples:
            drawn = figures(run_figures(item, str(position)))
            parts.append(folded(item.label, drawn, stage_table(item), is_open=position == 1))
    if len(shown) > MOST_RUNS:
        parts.append(f'<p class="small">{len(shown) - MOST_RUNS} more runs stand in the table alone.</p>')
    return parts
