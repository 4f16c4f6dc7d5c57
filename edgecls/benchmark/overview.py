"""Charts of all runs beside one another: percentiles, stages, cold starts, scaling, precisions, accuracy."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Literal

from edgecls.benchmark.document import STAGES
from edgecls.benchmark.shown import distinct, setup_parts, some_of
from edgecls.drawing.axes import number
from edgecls.drawing.distributions import Curve, percentile_curves
from edgecls.drawing.relations import Spot, growth, scatter
from edgecls.drawing.tables import Cell, heat_map, stacked_bars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgecls.benchmark.document import ColdStart, Document
    from edgecls.benchmark.shown import Shown
    from edgecls.drawing.figure import Figure

__all__ = ["overview_figures"]

_MOST_CURVES = 6
_MOST_BARS = 12
_MOST_STARTS = 10
_MOST_ROWS, _MOST_COLUMNS = 12, 5
_UNIT = "ms"


def overview_figures(
    shown: Sequence[Shown],
    documents: Sequence[Document],
    names: Sequence[str],
    accuracies: Mapping[str, float] | None = None,
) -> list[Figure]:
    """Draw all runs beside one another, in as many charts as there is something for.

    What the documents do not hold is left out: one batch size does not scale.

    Args:
        shown: the runs.
        documents: that they are of.
        names: what these are called.
        accuracies: acc@1 in percent by the name of the model's file.
    """
    figures = [
        _percentiles(shown),
        _stages(shown),
        _cold_starts(documents, names),
        _scaling(shown, "batch"),
        _scaling(shown, "threads"),
        _precisions(shown),
        _accuracy(shown, accuracies or {}),
    ]
    return [figure for figure in figures if figure is not None]


def _percentiles(shown: Sequence[Shown]) -> Figure | None:
    # What offline samples are of is a stretch of the stream, not the answer to a query.
    drawn = [item for item in shown if item.samples and item.run.setup.scenario != "offline"]
    if not drawn:
        return None
    curves = [Curve(item.label, item.samples, item.marks) for item in drawn[:_MOST_CURVES]]
    title = f"Latency percentiles{some_of(len(drawn), _MOST_CURVES, 'runs')}"
    return percentile_curves("percentiles", title, curves, unit=_UNIT)


def _stages(shown: Sequence[Shown]) -> Figure | None:
    rows = []
    for item in shown:
        stages, pictures = item.run.measured.stages_ms, item.run.setup.batch_size
        if not stages or not item.samples:
            continue
        parts = {name: statistics.fmean(stages[name]) / pictures for name in STAGES if name in stages}
        rest = statistics.fmean(item.samples) / pictures - sum(parts.values())
        rows.append((item.label, _with_rest(parts, "between", rest)))
    if not rows:
        return None
    return stacked_bars(
        "stages",
        f"Where the time goes{some_of(len(rows), _MOST_BARS, 'runs')}",
        rows[:_MOST_BARS],
        unit=_UNIT,
        caption="means of a picture, which add up as medians do not",
    )


def _cold_starts(documents: Sequence[Document], names: Sequence[str]) -> Figure | None:
    started = [(document, name) for document, name in zip(documents, names, strict=True) if document.cold_starts]
    if not started:
        return None
    if len(documents) == 1:
        starts = started[0][0].cold_starts
        rows = [(f"start {number}", _cold_parts(start)) for number, start in enumerate(starts[:_MOST_STARTS], start=1)]
        caption = "of single processes, the first with the coldest caches"
    else:
        middle = [(name, sorted(of.cold_starts, key=lambda start: start.total_ms)) for of, name in started]
        rows = [(name, _cold_parts(starts[len(starts) // 2])) for name, starts in middle[:_MOST_BARS]]
        caption = "of the process in the middle of each"
    return stacked_bars("cold-start", "Cold start, to the first answer", rows, unit=_UNIT, caption=caption)


def _cold_parts(start: ColdStart) -> dict[str, float]:
    parts = {
        "process": start.process_ms,
        "import": start.import_ms,
        "load": start.load_ms,
        "first picture": start.first_ms,
    }
    rest = start.total_ms - sum(parts.values())
    return _with_rest(parts, "end", rest)


def _with_rest(parts: dict[str, float], name: str, rest: float) -> dict[str, float]:
    """Add what no part accounts for, if it is large enough to be seen."""
    return parts | {name: rest} if rest > 0.005 * sum(parts.values()) else parts


def _scaling(shown: Sequence[Shown], by: Literal["batch", "threads"]) -> Figure | None:
    """Draw images a second over batch sizes or threads, a line for all that else is the same."""
    lines: dict[tuple[str, ...], dict[int, float]] = {}
    parts: dict[tuple[str, ...], dict[str, str]] = {}
    for item in shown:
        setup = item.run.setup
        count = setup.batch_size if by == "batch" else setup.threads
        if count is None or not item.run.pictures:
            continue
        # A multistream query of one picture is a singlestream one.
        rest = {"of": item.of} | setup_parts(setup)
        del rest[by]
        if setup.scenario in ("singlestream", "multistream"):
            rest["scenario"] = "one after the other"
        key = tuple(rest.values())
        lines.setdefault(key, {})[count] = item.run.images_per_second
        parts[key] = rest
    lines = {key: pairs for key, pairs in lines.items() if len(pairs) > 1}
    if not lines:
        return None
    labels = distinct([parts[key] for key in lines])
    drawn = [(label, sorted(pairs.items())) for label, pairs in zip(labels, lines.values(), strict=True)]
    by_what = "batch size" if by == "batch" else "threads"
    return growth(
        f"scaling-{by}",
        f"Images a second by {by_what}{some_of(len(drawn), _MOST_CURVES, 'lines')}",
        drawn[:_MOST_CURVES],
        of="pictures a run" if by == "batch" else "threads",
        unit="images/s",
        caption="higher is better",
    )


def _single(shown: Sequence[Shown]) -> dict[tuple[str, str], tuple[float, Shown]]:
    """Return the median of one picture by document and provider; of several numbers of threads, the quickest."""
    found: dict[tuple[str, str], tuple[float, Shown]] = {}
    for item in shown:
        median = next((mark.value for mark in item.marks if mark.name == "p50"), None)
        if item.run.setup.scenario != "singlestream" or item.run.setup.batch_size != 1 or not median:
            continue
        key = (item.of, setup_parts(item.run.setup)["provider"])
        if key not in found or median < found[key][0]:
            found[key] = (median, item)
    return found


def _precisions(shown: Sequence[Shown]) -> Figure | None:
    found = _single(shown)
    rows = list(dict.fromkeys(of for of, _ in found))[:_MOST_ROWS]
    columns = list(dict.fromkeys(provider for _, provider in found))[:_MOST_COLUMNS]
    if len(found) < 2:
        return None
    documents = {item.of: item.document for _, item in found.values()}
    cells = {}
    for (of, provider), (median, _) in found.items():
        if of not in rows or provider not in columns:
            continue
        first = found.get((rows[0], provider))
        remark = f"{first[0] / median:.2f} x" if first is not None and len(rows) > 1 else ""
        cells[rows.index(of), columns.index(provider)] = Cell(median, f"{number(median)} {_UNIT}", remark)
    labels = _model_labels([documents[of] for of in rows], rows)
    return heat_map(
        "precisions",
        "Median latency of one picture",
        labels,
        columns,
        cells,
        caption="x: times as quick as the first row" if len(rows) > 1 else "by provider",
    )


def _model_labels(documents: Sequence[Document], names: Sequence[str]) -> Sequence[str]:
    """Call models by what they are, architecture and precision, if that tells them apart; else by their names."""
    models = [(document.model.arch or "", document.model.precision or "") for document in documents]
    if len(set(models)) < len(models) or not all(precision for _, precision in models):
        return names
    return distinct([{"precision": precision, "arch": arch} for arch, precision in models])


def _accuracy(shown: Sequence[Shown], accuracies: Mapping[str, float]) -> Figure | None:
    spots = [
        Spot(f"{of}, {provider}", median, accuracies[item.document.model.file], f"{item.document.model.bytes:,} bytes")
        for (of, provider), (median, item) in _single(shown).items()
        if item.document.model.file in accuracies
    ]
    if not spots:
        return None
    return scatter(
        "accuracy",
        "Accuracy and latency",
        spots,
        x_unit="ms, median of one picture",
        y_unit="acc@1, %",
        caption="better is up and to the left; blue: no other is better in both",
    )
