"""A benchmark as one page that a phone can show: no script, no other file, nothing fetched."""

from __future__ import annotations

import shlex
import statistics
from typing import TYPE_CHECKING

from edgecls.benchmark.charts import MOST_RUNS, comparison_figures, run_figures
from edgecls.benchmark.document import STAGES
from edgecls.benchmark.html_parts import card, facts, figures, folded, page, section, table
from edgecls.benchmark.overview import overview_figures
from edgecls.benchmark.quantiles import CONFIDENCE, SHARES, minimum_samples, summarize
from edgecls.benchmark.shown import distinct, document_labels, setup_parts, show
from edgecls.drawing.axes import number
from edgecls.drawing.svg import escape
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgecls.benchmark.comparison import Comparison
    from edgecls.benchmark.document import Document, Fingerprint
    from edgecls.benchmark.html_parts import Text
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
    names = document_labels(documents)
    shown = show(documents)
    title = names[0] if len(documents) == 1 else f"{len(documents)} benchmarks"
    body = [
        _header(documents, title),
        *([_verdict(comparison)] if comparison is not None else []),
        *_warnings(documents, names, shown),
        _key_figures(shown) if len(documents) == 1 else "",
    ]
    if comparison is not None:
        body.append(
            section("Against the baseline", _changes(comparison), figures(comparison_figures(comparison, shown)))
        )
    body += [
        section("Latency", _latencies(shown), _footnote(shown)),
        section("Charts", figures(overview_figures(shown, documents, accuracies))),
        section("Run by run", *_runs(shown)),
        section("Measured on", _about(documents, names)),
        section("How to measure it again", *_commands(documents)),
    ]
    return page(f"edgecls bench: {title}", filter(None, body))


def _header(documents: Sequence[Document], title: str) -> str:
    """Say of what and where, in two lines."""
    first = documents[0]
    if len(documents) == 1:
        model = first.model
        what = [model.arch, model.precision, f"{model.bytes / 1e6:,.1f} MB", first.machine.cpu, first.created]
    else:
        cpus = dict.fromkeys(document.machine.cpu for document in documents)
        what = [*dict.fromkeys(document.model.file for document in documents), *cpus, max(d.created for d in documents)]
    return (
        f'<header><p class="small">edgecls bench</p><h1>{escape(title)}</h1>'
        f'<p class="small">{escape(" · ".join(filter(None, what)))}</p></header>'
    )


def _verdict(comparison: Comparison) -> str:
    rows = [f"{row.verdict}: {row.remark}" for row in comparison.rows]
    sides = f"{comparison.contender.name} against {comparison.baseline.name}"
    allowed = f"allowed: {100 * comparison.max_regression:+.3g} %, exit status {comparison.exit_status}"
    points = [*comparison.warnings, *rows]
    return card(_VERDICTS[comparison.verdict], comparison.verdict, [f"{sides}; {allowed}"], points)


def _warnings(documents: Sequence[Document], names: Sequence[str], shown: Sequence[Shown]) -> list[str]:
    """Say what failed and what is in doubt, by name where there is more than one."""
    cards = []
    failures = []
    for document, name in zip(documents, names, strict=True):
        if document.failure is not None:
            failures.append(f"{name}: {document.failure}" if len(documents) > 1 else document.failure)
        elif not document.complete:
            failures.append(f"{name}: not all that was asked for was measured.")
    failures += [f"{item.label}: {item.run.failure}" for item in shown if item.run.failure is not None]
    if failures:
        cards.append(card("bad", "Not complete", [], failures))
    doubts: dict[str, list[str]] = {}
    for item in shown:
        for doubt in item.run.doubts:
            doubts.setdefault(doubt, []).append(item.label)
    if doubts:
        said = [f"{doubt} ({'; '.join(labels)})" if len(shown) > 1 else doubt for doubt, labels in doubts.items()]
        cards.append(card("unsure", "Doubts", [], said))
    return cards


def _key_figures(shown: Sequence[Shown]) -> str:
    """Show the first run's numbers, and the cold start's, large."""
    item = next((item for item in shown if item.samples), None)
    if item is None or item.summary is None:
        return ""
    found = [(f"{mark.name} latency", f"{number(mark.value)} ms") for mark in item.marks if mark.name in ("p50", "p99")]
    if not found:
        found = [("mean latency", f"{number(item.summary.mean)} ms")]
    found += [("pictures a second", number(item.run.images_per_second))]
    starts = [start.total_ms for start in item.document.cold_starts]
    if starts:
        found.append(("cold start, median", f"{number(statistics.median(starts))} ms"))
    found.append(("peak memory", f"{number(item.run.peak_rss_bytes / 1e6)} MB"))
    boxes = "".join(
        f'<div><span class="small">{escape(name)}</span><b>{escape(value)}</b></div>' for name, value in found
    )
    return f'<p class="small">{escape(str(item.run.setup))}</p><div class="cards">{boxes}</div>'


def _latencies(shown: Sequence[Shown]) -> str:
    """Return a table with a row for each run; what a sample does not support is a dash, and the bound is below."""
    head = ["run", *SHARES, "mean", "stdev", "min", "max", "pictures/s", "queries", "peak memory"]
    rows: list[list[Text]] = []
    for item in shown:
        run = item.run
        queries = (f"{len(item.samples):,}", f"{len(run.measured.rounds)} rounds")
        ends: list[Text] = [number(run.images_per_second), queries, f"{number(run.peak_rss_bytes / 1e6)} MB"]
        about = f"{run.setup.engine}; {run.warmup_queries:,} to warm up{', not settled' if not run.steady else ''}"
        summary = item.summary
        if summary is None:
            rows.append([(item.label, about), *["-"] * (len(SHARES) + 4), *ends])
            continue
        marks = {mark.name: (number(mark.value), f"≤ {number(mark.at_most)}") for mark in item.marks}
        rows.append(
            [
                (item.label, about),
                *[marks.get(name, "-") for name in SHARES],
                number(summary.mean),
                (number(summary.stdev), f"{summary.variation:.1%} of mean"),
                number(summary.min),
                number(summary.max),
                *ends,
            ]
        )
    return table(head, rows) if rows else ""


def _footnote(shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    needed = ", ".join(f"{name} from {minimum_samples(share)}" for name, share in SHARES.items())
    said = (
        "Milliseconds of a query, from file to top-k. ≤: what the true percentile does not exceed, "
        f"with {CONFIDENCE:.0%} confidence. A dash: too few queries to say ({needed})."
    )
    if any(item.run.setup.scenario == "offline" for item in shown):
        said += " Offline: of a stretch of the stream, all pictures of which are there at once."
    return f'<p class="small">{escape(said)}</p>'


def _changes(comparison: Comparison) -> str:
    labels = distinct([setup_parts(row.setup) for row in comparison.rows])
    rows: list[list[Text]] = [
        [
            label,
            row.verdict,
            (f"{number(row.baseline_ms)} ms", f"{row.baseline_queries:,} queries"),
            (f"{number(row.contender_ms)} ms", f"{row.contender_queries:,} queries"),
            (f"{100 * (row.ratio - 1):+.1f} %", f"{100 * (row.low - 1):+.1f} to {100 * (row.high - 1):+.1f} %"),
        ]
        for label, row in zip(labels, comparison.rows, strict=True)
    ]
    method = f'<p class="small">{escape(comparison.method)}</p>'
    return table(["setup", "verdict", "baseline, median", "contender, median", "slower by"], rows) + method


def _runs(shown: Sequence[Shown]) -> list[str]:
    """Return each run's own charts and stages, folded; beyond some tens of runs a page would be too large."""
    parts = []
    for position, item in enumerate(shown[:MOST_RUNS], start=1):
        if item.samples:
            drawn = figures(run_figures(item, str(position)))
            parts.append(folded(item.label, drawn, _stages(item), is_open=position == 1))
    if len(shown) > MOST_RUNS:
        parts.append(f'<p class="small">{len(shown) - MOST_RUNS} more runs stand in the table alone.</p>')
    return parts


def _stages(item: Shown) -> str:
    stages = item.run.measured.stages_ms
    rows: list[list[Text]] = []
    for name in STAGES:
        if name in stages:
            summary = summarize(stages[name])
            share = sum(stages[name]) / (sum(item.samples) or 1.0)
            found = (summary.p50, summary.p99)
            marks: list[Text] = ["-" if of is None else (number(of.value), f"≤ {number(of.at_most)}") for of in found]
            rows.append([name, number(summary.mean), f"{share:.1%}", *marks, number(summary.max)])
    return table(["stage, ms a query", "mean", "share", "p50", "p99", "max"], rows) if rows else ""


def _about(documents: Sequence[Document], names: Sequence[str]) -> str:
    """Return machines, models, pictures and versions; what several documents share stands there once."""
    boxes: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for document, name in zip(documents, names, strict=True):
        model, pictures = document.model, document.pictures
        parts = {
            "Machine": _machine(document.machine),
            "Model": [
                ("file", model.file),
                ("architecture", model.arch or "not said"),
                ("precision", model.precision or "not said"),
                ("size", f"{model.bytes:,} bytes"),
                ("SHA-256", model.sha256),
            ],
            "Pictures": [
                ("source", "drawn by edgecls" if pictures.source == "drawn" else "a folder"),
                ("count", f"{pictures.count:,}"),
                ("size", f"{pictures.bytes / 1e6:,.1f} MB"),
                ("SHA-256", pictures.sha256),
            ],
            "Software": [("edgecls", document.edgecls), *document.versions.items(), ("measured", document.created)],
        }
        for title, pairs in parts.items():
            boxes.setdefault((title, tuple(pairs)), []).append(name)
    listed = [
        facts(title if len(owners) == len(documents) else f"{title}: {', '.join(owners)}", pairs)
        for (title, pairs), owners in boxes.items()
    ]
    return f'<div class="columns">\n{chr(10).join(listed)}\n</div>'


def _machine(machine: Fingerprint) -> list[tuple[str, str]]:
    quota = "" if machine.cpu_quota is None else f", {machine.cpu_quota:g} CPUs' time by the container"
    pairs = [
        ("CPU", f"{machine.cpu}, {machine.architecture}"),
        ("cores", f"{machine.logical_cores} logical, {machine.usable_cpus} usable{quota}"),
        ("flags", " ".join(machine.cpu_flags) or "none of note"),
        ("governor", machine.governor or "not told"),
        ("memory", "not told" if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:,.1f} GiB"),
        ("system", f"{machine.os}, Python {machine.python}"),
        ("power", machine.power_mode or "not told"),
    ]
    if machine.gpus:
        pairs.append(("GPU", f"{', '.join(machine.gpus)}, driver {machine.gpu_driver or 'not told'}"))
    return pairs


def _commands(documents: Sequence[Document]) -> list[str]:
    commands = []
    for document in documents:
        words = ["edgecls", "bench", document.model.file]
        for name, value in document.options.items():
            words += [f"--{name}"] if value == "true" else [f"--{name}", value]
        commands.append(shlex.join(words))
    return [f"<pre>{escape(command)}</pre>" for command in dict.fromkeys(commands)]
