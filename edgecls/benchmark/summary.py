"""A document as a terminal shows it."""

from __future__ import annotations

from statistics import median, median_low
from typing import TYPE_CHECKING

from edgecls.benchmark.quantiles import CONFIDENCE, SHARES, minimum_samples, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgecls.benchmark.document import ColdStart, Document, Run

__all__ = ["describe"]


def describe(document: Document) -> str:
    """Return lines for people: the figures, and why to doubt them."""
    return "\n".join(_lines(document))


def _lines(document: Document) -> Iterator[str]:
    model, pictures, machine = document.model, document.pictures, document.machine
    kind = " ".join(part for part in (model.arch, model.precision) if part) or "no manifest"
    yield f"{model.file}: {kind}, {model.bytes / 1e6:.1f} MB, SHA-256 {model.sha256[:12]}"
    yield f"{machine.cpu}, {machine.usable_cpus} of {machine.logical_cores} logical CPUs, {machine.os}" + "".join(
        f", {gpu}" for gpu in machine.gpus
    )
    origin = "drawn by edgecls" if pictures.source == "drawn" else "of a folder"
    yield f"{pictures.count} pictures {origin}, {pictures.bytes / 1e6:.1f} MB"
    # What is doubted of all setups is told once, at the end.
    shared = [doubt for doubt in document.runs[0].doubts if all(doubt in run.doubts for run in document.runs)]
    for run in document.runs:
        yield ""
        yield from _run_lines(run)
        yield from (f"  doubt: {doubt}" for doubt in run.doubts if doubt not in shared)
    if document.cold_starts:
        yield ""
        yield from _cold_start_lines(document.cold_starts)
    if shared:
        yield ""
        yield from (f"doubt: {doubt}" for doubt in shared)
    if not document.complete:
        yield ""
        failed = sum(run.failure is not None for run in document.runs)
        reason = document.failure or f"{failed} of {len(document.runs)} setups failed"
        yield f"NOT COMPLETE: {reason}"


def _run_lines(run: Run) -> Iterator[str]:
    yield f"{run.setup} ({run.setup.engine})"
    if run.failure is not None:
        yield f"  failed: {run.failure}"
    measured = run.measured
    if not measured.latency_ms:
        return
    summary = summarize(measured.latency_ms)
    queries = _counted(summary.count, "query", "queries")
    if run.pictures != summary.count:
        queries += f" of {run.pictures // summary.count} pictures"
    memory = f", peak memory {run.peak_rss_bytes / 1e6:.0f} MB" if run.peak_rss_bytes else ""
    rounds = _counted(len(measured.rounds), "round", "rounds")
    yield f"  {queries} in {rounds}, {run.images_per_second:.1f} images/s{memory}"
    quantiles = [getattr(summary, name) for name in SHARES]
    values = [item and item.value for item in quantiles]
    yield from _table(
        {
            "": [*SHARES, "mean", "stdev", "min", "max"],
            "latency, ms": [*values, summary.mean, summary.stdev, summary.min, summary.max],
            f"at most ({100 * CONFIDENCE:g} %)": [item and item.at_most for item in quantiles],
        }
    )
    missing = [name for name, item in zip(SHARES, quantiles, strict=True) if item is None]
    if missing:
        yield f"  ({', '.join(f'{name} wants {minimum_samples(SHARES[name])} queries' for name in missing)})"
    if measured.stages_ms:
        yield from _table(
            {"": list(measured.stages_ms), "stages, ms, p50": list(map(median_low, measured.stages_ms.values()))}
        )


def _table(rows: dict[str, list[str | float | None]]) -> Iterator[str]:
    for head, cells in rows.items():
        texts = (cell if isinstance(cell, str) else "-" if cell is None else _ms(cell) for cell in cells)
        yield f"  {head:<16}" + "".join(f"{text:>10}" for text in texts)


def _cold_start_lines(starts: Sequence[ColdStart]) -> Iterator[str]:
    parts = {
        "process": [start.process_ms for start in starts],
        "import": [start.import_ms for start in starts],
        "load": [start.load_ms for start in starts],
        "first picture": [start.first_ms for start in starts],
    }
    total = median(start.total_ms for start in starts)
    memory = median(start.peak_rss_bytes for start in starts) / 1e6
    yield f"cold start, p50 of {_counted(len(starts), 'process', 'processes')}"
    yield f"  total, ms    {total:.0f}: {', '.join(f'{name} {median(times):.0f}' for name, times in parts.items())}"
    yield f"  peak memory  {memory:.0f} MB"


def _counted(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
