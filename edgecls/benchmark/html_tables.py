"""What a report says in tables: percentiles, changes, stages, and where it was measured."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from edgecls.benchmark.document import STAGES
from edgecls.benchmark.html_parts import facts, table
from edgecls.benchmark.quantiles import CONFIDENCE, SHARES, minimum_samples, summarize
from edgecls.benchmark.shown import distinct, setup_parts
from edgecls.drawing.axes import number
from edgecls.drawing.svg import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls.benchmark.comparison import Comparison, Row
    from edgecls.benchmark.document import Document, Fingerprint, Run
    from edgecls.benchmark.html_parts import Text
    from edgecls.benchmark.shown import Shown

__all__ = ["about", "change_table", "commands", "footnote", "latency_table", "memory", "stage_table", "when"]


def latency_table(shown: Sequence[Shown]) -> str:
    """Return a table with a row for each run; what a sample does not support is a dash, and the bound is below."""
    head = ["run", *SHARES, "mean", "stdev", "min", "max", "images/s", "queries", "peak memory"]
    rows: list[list[Text]] = []
    for item in shown:
        run = item.run
        queries = (f"{len(item.samples):,}", f"{len(run.measured.rounds)} rounds")
        ends: list[Text] = [number(run.images_per_second), queries, memory(run)]
        warmed_up = f"{run.warmup_queries:,} to warm up{'' if run.steady else ', not settled'}"
        name = (item.label, f"{run.setup.engine}; {warmed_up}")
        summary = item.summary
        if summary is None:
            rows.append([name, *["-"] * (len(SHARES) + 4), *ends])
            continue
        marks = {mark.name: (_ms(mark.value), f"≤ {_ms(mark.at_most)}") for mark in item.marks}
        rows.append(
            [
                name,
                *[marks.get(name, "-") for name in SHARES],
                _ms(summary.mean),
                (_ms(summary.stdev), f"{summary.variation:.1%} of mean"),
                _ms(summary.min),
                _ms(summary.max),
                *ends,
            ]
        )
    return table(head, rows) if rows else ""


def footnote(shown: Sequence[Shown]) -> str:
    """Return what the columns of `latency_table` mean."""
    if not shown:
        return ""
    needed = ", ".join(f"{name} from {minimum_samples(share)}" for name, share in SHARES.items())
    said = (
        "Milliseconds of a query, from file to top-k. ≤: what the true percentile does not exceed, "
        f"with {CONFIDENCE:.0%} confidence. A dash: too few queries to say ({needed})."
    )
    if any(item.run.setup.scenario == "offline" for item in shown):
        said += " Offline: of a stretch of the stream, all pictures of which are there at once."
    if any(item.run.setup.scenario == "engine" for item in shown):
        said += " Engine: of the run alone, one right after the other."
    return f'<p class="small">{escape(said)}</p>'


def change_table(comparison: Comparison) -> str:
    """Return a table with a row for each setup that was compared, and how the interval came about."""
    labels = distinct([setup_parts(row.setup) for row in comparison.rows])
    rows: list[list[Text]] = [
        [
            label,
            row.verdict,
            ("-" if row.baseline_ms is None else f"{_ms(row.baseline_ms)} ms", f"{row.baseline_queries:,} queries"),
            ("-" if row.contender_ms is None else f"{_ms(row.contender_ms)} ms", f"{row.contender_queries:,} queries"),
            _slower(row),
        ]
        for label, row in zip(labels, comparison.rows, strict=True)
    ]
    method = f'<p class="small">{escape(comparison.method)}</p>'
    return table(["setup", "verdict", "baseline, median", "contender, median", "slower by"], rows) + method


def _slower(row: Row) -> Text:
    if row.ratio is None or row.low is None or row.high is None:
        return "-"
    return f"{100 * (row.ratio - 1):+.1f} %", f"{100 * (row.low - 1):+.1f} to {100 * (row.high - 1):+.1f} %"


def stage_table(item: Shown) -> str:
    """Return a table with a row for each stage of a run; nothing for a run without."""
    stages = item.run.measured.stages_ms
    rows: list[list[Text]] = []
    for name in STAGES:
        if name in stages:
            summary = summarize(stages[name])
            share = sum(stages[name]) / (sum(item.samples) or 1.0)
            found = (summary.p50, summary.p99)
            marks: list[Text] = ["-" if of is None else (_ms(of.value), f"≤ {_ms(of.at_most)}") for of in found]
            rows.append([name, _ms(summary.mean), f"{share:.1%}", *marks, _ms(summary.max)])
    return table(["stage, ms a query", "mean", "share", "p50", "p99", "max"], rows) if rows else ""


def about(documents: Sequence[Document], names: Sequence[str]) -> str:
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
                ("measured", when(document.created)),
            ],
            "Pictures": [
                ("source", "drawn by edgecls" if pictures.source == "drawn" else "a folder"),
                ("count", f"{pictures.count:,}"),
                ("size", f"{pictures.bytes / 1e6:,.1f} MB"),
                ("SHA-256", pictures.sha256),
            ],
            "Software": [("edgecls", document.edgecls), *document.versions.items()],
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
        ("system", f"{machine.os}, {machine.python}"),
        ("power", machine.power_mode or "not told"),
    ]
    if machine.gpus:
        pairs.append(("GPU", f"{', '.join(machine.gpus)}, driver {machine.gpu_driver or 'not told'}"))
    return pairs


def commands(documents: Sequence[Document], comparison: Comparison | None) -> list[str]:
    """Return the command line of each document, to be typed where its model lies; of two that took turns, the one."""
    lines = []
    for document in documents:
        words = ["edgecls", "bench", document.model.file]
        if comparison is not None and comparison.in_turn:
            words[2:] = ["--ab", comparison.baseline.name, comparison.contender.name]
        for name, value in document.options.items():
            words += [f"--{name}"] if value == "true" else [f"--{name}", value]
        lines.append(shlex.join(words))
    return [f"<pre>{escape(command)}</pre>" for command in dict.fromkeys(lines)]


def memory(run: Run) -> str:
    """Return the peak of a run's process; a dash where the system did not tell."""
    return f"{number(run.peak_rss_bytes / 1e6)} MB" if run.peak_rss_bytes else "-"


def when(created: str) -> str:
    """Return a document's time as people write it."""
    day, _, time = created.partition("T")
    return f"{day} {time.removesuffix('+00:00')} UTC" if time.endswith("+00:00") else created


def _ms(value: float) -> str:
    return number(value, 4)
