from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn_documents import cold_start, document, run, setup
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgecls.benchmark.charts import comparison_figures, run_figures, write_pngs
from edgecls.benchmark.comparison import compare
from edgecls.benchmark.document import STAGES, Document, Run
from edgecls.benchmark.overview import overview_figures
from edgecls.benchmark.quantiles import quantile
from edgecls.benchmark.shown import document_labels, show
from edgecls.drawing.axes import number
from edgecls.drawing.distributions import Curve, Mark, histogram, percentile_curves, trace
from edgecls.drawing.figure import WIDTH, Box, Dot, Figure, Label, Line, Polygon, Strokes, text_width
from edgecls.drawing.relations import Spot, growth, scatter
from edgecls.drawing.svg import to_svg
from edgecls.drawing.tables import Cell, Interval, heat_map, intervals, stacked_bars
from edgecls_runtime.errors import OutputError


def places(figure: Figure) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for shape in figure.shapes:
        match shape:
            case Box():
                found += [(shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height)]
            case Line() | Polygon():
                found += shape.points
            case Strokes():
                found += [point for pair in shape.pairs for point in pair]
            case Dot():
                found.append((shape.x, shape.y))
            case Label():
                width = text_width(shape.text, shape.size)
                left = shape.x - {"start": 0, "middle": width / 2, "end": width}[shape.anchor]
                found += [(left, shape.y - shape.size), (left + width, shape.y)]
    return found


def assert_fits(figure: Figure) -> None:
    ElementTree.fromstring(to_svg(figure))
    for x, y in places(figure):
        assert -0.5 <= x <= WIDTH + 0.5, figure.name
        assert -0.5 <= y <= figure.height + 0.5, figure.name


def texts(figure: Figure) -> str:
    return "\n".join(shape.text for shape in figure.shapes if isinstance(shape, Label))


def notes(figure: Figure) -> list[str]:
    return [shape.note for shape in figure.shapes if not isinstance(shape, Label | Strokes) and shape.note]


def overview(*documents: Document, accuracies: dict[str, float] | None = None) -> dict[str, Figure]:
    figures = overview_figures(show(documents), documents, document_labels(documents), accuracies)
    return {figure.name: figure for figure in figures}


def many_setups() -> Document:
    setups = [
        setup("multistream" if batch > 1 else "singlestream", batch, threads)
        for batch in (1, 2, 8)
        for threads in (1, 2)
    ]
    return document(*(run(60, of, seed=seed) for seed, of in enumerate(setups)))


latencies = st.lists(st.just(0.0) | st.floats(1e-6, 1e9), min_size=1, max_size=400)


@settings(max_examples=40, deadline=None)
@given(latencies)
def test_any_sample_can_be_drawn(sample: list[float]) -> None:
    marks = tuple(
        Mark(f"p{100 * share:.0f}", share, of.value, of.at_most)
        for share in (0.5, 0.9, 0.99)
        if (of := quantile(sample, share)) is not None
    )
    for figure in (
        histogram("h", "t", sample, marks, unit="ms", what="queries"),
        trace("t", "t", sample, (len(sample),), unit="ms", what="queries"),
        percentile_curves("p", "t", [Curve("a", sample, marks), Curve("b", sample[:3], ())], unit="ms"),
        stacked_bars("s", "t", [("row", {"a": sample[0], "b": sample[-1]})], unit="ms", caption=""),
        growth("g", "t", [("l", list(enumerate(sample[:9], start=1)))], of="threads", unit="1/s", caption=""),
        scatter(
            "c",
            "t",
            [Spot("a name", x, y) for x, y in zip(sample, sample[::-1], strict=True)][:9],
            x_unit="ms",
            y_unit="%",
            caption="",
        ),
        heat_map(
            "m",
            "t",
            ["r"],
            ["c", "d"],
            {(0, 0): Cell(sample[0] or 1.0, "1 ms", "x"), (0, 1): Cell(7.0, "2 ms")},
            caption="",
        ),
    ):
        assert_fits(figure)


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(1, 3), st.floats(1, 3)), min_size=1, max_size=9))
@settings(max_examples=25, deadline=None)
def test_any_ratio_can_be_drawn(found: list[tuple[float, float, float]]) -> None:
    rows = [Interval("a setup", ratio, ratio / low, ratio * high, "pass") for ratio, low, high in found]
    assert_fits(intervals("i", "t", rows, allowed=1.05, caption=""))


@pytest.mark.parametrize("queries", [1, 2, 7, 300, 20_000])
def test_histograms_count_every_query(queries: int) -> None:
    (item,) = show([document(run(queries, tail=0.05))])
    figure = run_figures(item, "1")[0]
    counted = [re.fullmatch(r"\S+ to \S+ ms: ([\d,]+) of [\d,]+ queries", note) for note in notes(figure)]
    assert sum(int(match[1].replace(",", "")) for match in counted if match) == queries
    for share in (0.5, 0.9, 0.99):
        found, name = quantile(item.samples, share), f"p{100 * share:.0f}"
        assert (f"{name} {number(found.value)}" in texts(figure)) if found else (name not in texts(figure))


def test_a_single_slow_query_is_seen_among_thousands() -> None:
    fast = [7.0 + index / 1e4 for index in range(9999)]
    figure = histogram("h", "t", [*fast, 700.0], (), unit="ms", what="queries")
    bars = [shape for shape in figure.shapes if isinstance(shape, Box)]
    assert bars[-1].height >= 2
    assert bars[-1].note.endswith(": 1 of 10,000 queries")
    assert "log scale" in texts(figure)


def test_traces_keep_the_extremes() -> None:
    sample = np.full(50_000, 7.0)
    sample[31_234], sample[17] = 9.0, 6.5
    figure = trace("t", "t", sample, (25_000, 25_000), unit="ms", what="queries")
    (columns,) = [shape for shape in figure.shapes if isinstance(shape, Strokes)]
    heights = [y for pair in columns.pairs for _, y in pair]
    usual = median(heights)
    assert sum(y < usual - 10 for y in heights) == 1
    assert sum(y > usual + 10 for y in heights) == 1
    assert sum(isinstance(shape, Line) and shape.dashed for shape in figure.shapes) == 1  # between two rounds


def test_a_drift_is_seen_in_the_running_median() -> None:
    figure = trace("t", "t", np.linspace(7, 9, 1000), (1000,), unit="ms", what="queries")
    line = next(shape for shape in figure.shapes if isinstance(shape, Line) and shape.colour == "s0")
    levels = [y for _, y in line.points]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[-1] > 100


@pytest.mark.parametrize("queries", [1000, 30_000])
def test_figures_stay_small(queries: int) -> None:
    (item,) = show([document(run(queries))])
    assert all(len(to_svg(figure)) < 14_000 for figure in run_figures(item, "1"))
    assert len(to_svg(overview(item.document)["percentiles"])) < 14_000


def test_percentile_curves_pass_through_the_percentiles() -> None:
    document_ = document(run(2000, seed=3))
    figure = overview(document_)["percentiles"]
    line = next(shape for shape in figure.shapes if isinstance(shape, Line) and shape.colour == "s0")
    dots = [shape for shape in figure.shapes if isinstance(shape, Dot)]
    assert len(dots) == 4
    for dot in dots:
        assert min(np.hypot(x - dot.x, y - dot.y) for x, y in line.points) < 3
    latency = document_.runs[0].measured.latency_ms
    p99 = quantile(latency, 0.99)
    assert p99 is not None
    assert f"p99 {number(p99.value)} ms, at most {number(p99.at_most)} ms" in "\n".join(notes(figure))


def test_stages_add_up_to_the_mean_of_a_picture() -> None:
    one = run(50, setup("multistream", 8))
    figure = overview(document(one))["stages"]
    bars = [shape for shape in figure.shapes if isinstance(shape, Box) and shape.note]
    widths = [bar.width + 1 for bar in bars]
    for bar, width, name in zip(bars, widths, STAGES, strict=False):
        mean = fmean(one.measured.stages_ms[name]) / 8
        assert f"{name} {number(mean)} ms" in bar.note
        assert width / sum(widths) == pytest.approx(mean / (fmean(one.measured.latency_ms) / 8), abs=0.01)
    assert f"{number(fmean(one.measured.latency_ms) / 8)} ms" in texts(figure)
    assert "between" in texts(figure)  # what no stage accounts for


def test_cold_starts_of_one_document_and_of_several() -> None:
    single = overview(document(run(9), colds=3))["cold-start"]
    assert [line for line in texts(single).split("\n") if line.startswith("start")] == ["start 1", "start 2", "start 3"]
    assert f"load {number(cold_start(0).load_ms)} ms" in "\n".join(notes(single))
    several = overview(document(run(9), file="a.onnx"), document(run(9), file="b.onnx"))["cold-start"]
    middle = sorted((cold_start(seed) for seed in range(5)), key=lambda start: start.total_ms)[2]
    assert texts(several).count(f"{number(middle.total_ms)} ms") == 2
    assert "cold-start" not in overview(document(run(9), colds=0))


def test_scaling_needs_more_than_one_point() -> None:
    figures = overview(many_setups())
    for by in ("batch", "threads"):
        assert_fits(figures[f"scaling-{by}"])
    of = many_setups().runs
    said = figures["scaling-batch"].description
    for one in of:
        assert f"{number(one.images_per_second)} images/s with {one.setup.batch_size} pictures a run" in said
    assert not any(name.startswith("scaling") for name in overview(document(run(9))))
    assert "scaling-threads" not in overview(document(run(9), run(9, setup(threads=None))))


def test_the_heat_map_compares_with_the_first_document() -> None:
    slow, quick = document(run(50, median_ms=8)), document(run(50, median_ms=4), file="q.onnx", precision="int8")
    figure = overview(slow, quick)["precisions"]
    medians = [quantile(of.runs[0].measured.latency_ms, 0.5) for of in (slow, quick)]
    assert medians[0] is not None
    assert medians[1] is not None
    found = texts(figure).split("\n")
    assert found == [
        "CPU",
        "fp32",
        f"{number(medians[0].value)} ms",
        "1.00 x",
        "int8",
        f"{number(medians[1].value)} ms",
        f"{medians[0].value / medians[1].value:.2f} x",
    ]


def test_the_heat_map_takes_the_quickest_number_of_threads_and_leaves_holes() -> None:
    one = document(run(50, setup(threads=1), median_ms=9), run(50, setup(threads=2), median_ms=5, seed=4))
    other = document(run(50, setup(provider="CUDA"), median_ms=1), file="o.onnx", precision="fp16")
    figure = overview(one, other)["precisions"]
    best = quantile(one.runs[1].measured.latency_ms, 0.5)
    assert best is not None
    assert f"{number(best.value)} ms" in texts(figure)
    assert texts(figure).split("\n").count("-") == 2
    assert "precisions" not in overview(document(run(50)))


def test_models_of_one_precision_are_called_by_their_files() -> None:
    figure = overview(document(run(50), file="a.onnx"), document(run(50), file="b.onnx"))["precisions"]
    assert "a.onnx" in texts(figure)
    assert "b.onnx" in texts(figure)


def test_accuracy_is_drawn_where_it_is_known() -> None:
    documents = [
        document(run(50, median_ms=ms), file=file) for ms, file in ((9, "a.onnx"), (5, "b.onnx"), (4, "c.onnx"))
    ]
    figure = overview(*documents, accuracies={"a.onnx": 86.5, "b.onnx": 87.25, "z.onnx": 1.0})["accuracy"]
    assert "c.onnx" not in figure.description
    assert "87.2 acc@1" in figure.description
    dots = {shape.note.split(",")[0]: shape.colour for shape in figure.shapes if isinstance(shape, Dot)}
    assert dots == {"a.onnx": "s1", "b.onnx": "s0"}  # b is better in both
    assert "accuracy" not in overview(*documents)


def test_labels_of_a_scatter_do_not_cover_one_another() -> None:
    spots = [Spot(f"model number {index}", 5 + index % 3 / 50, 80 + index % 2 / 10) for index in range(6)]
    figure = scatter("s", "t", spots, x_unit="ms", y_unit="%", caption="")
    boxes = []
    for shape in figure.shapes:
        if isinstance(shape, Label) and shape.text.startswith("model"):
            width = text_width(shape.text, shape.size)
            left = shape.x - (width if shape.anchor == "end" else 0)
            boxes.append((left, shape.y - shape.size, left + width, shape.y))
    assert len(boxes) == 6
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_only_so_many_are_drawn_and_the_title_says_so() -> None:
    runs = [run(20, setup(provider=f"P{index}"), seed=index) for index in range(14)]
    figures = overview(document(*runs))
    assert figures["percentiles"].title == "Latency percentiles (6 of 14 runs)"
    assert figures["stages"].title == "Where the time goes (12 of 14 runs)"
    for figure in figures.values():
        assert_fits(figure)


@pytest.mark.parametrize("queries", [0, 1, 6])
def test_runs_that_ended_early(queries: int) -> None:
    failed = run(queries, failure="the model failed")
    figures = overview(document(failed, run(100, setup(threads=1))))
    assert ("percentiles" in figures) == ("stages" in figures) == True  # noqa: E712
    assert set(overview(document(run(0), colds=0))) == set()
    (item,) = show([document(failed)])
    assert len(run_figures(item, "1")) == (2 if queries else 0)


def test_offline_runs_have_no_stages_and_no_percentile_curve() -> None:
    figures = overview(document(run(100, setup("offline", 8))))
    assert set(figures) == {"cold-start"}


def test_the_engine_alone_scales_apart_from_whole_queries() -> None:
    setups = [setup(), setup("multistream", 8), setup("engine"), setup("engine", 8)]
    figure = overview(document(*(run(100, of) for of in setups)))["scaling-batch"]
    assert "one after the other" in texts(figure)
    assert "engine" in texts(figure)


def test_long_names_fit() -> None:
    for figure in overview(
        document(run(60), file="a" * 90 + ".onnx", precision=None),
        document(run(60), file="b" * 90 + ".onnx", precision=None),
    ).values():
        assert_fits(figure)


def test_all_of_many_setups_fits() -> None:
    document_ = many_setups()
    for figure in overview(document_).values():
        assert_fits(figure)
    for item in show([document_]):
        for figure in run_figures(item, "1"):
            assert_fits(figure)


def test_a_contender_against_its_baseline() -> None:
    setups = (setup(), setup("multistream", 8), setup(threads=1))
    was = document(*(run(400, of, seed=seed, spread=0.02, tail=0) for seed, of in enumerate(setups)))
    slower = [run(400, of, seed=seed + 9, spread=0.02, tail=0) for seed, of in enumerate(setups)]
    slower[0] = run(400, setups[0], median_ms=9, spread=0.02, tail=0, seed=9)
    slower[2] = run(3, setups[2])
    now = document(*slower)
    comparison = compare(was, now, names=("was", "now"))
    shown = show((was, now), names=("was", "now"))
    change, *both = comparison_figures(comparison, shown)
    assert_fits(change)
    first, _, third = comparison.rows
    assert [row.verdict for row in comparison.rows] == ["regression", "pass", "inconclusive"]
    assert first.ratio is not None
    assert f"regression: {100 * (first.ratio - 1):+.1f} %" in texts(change)
    assert third.ratio is None  # too few for an interval, so there is nothing to draw
    assert "inconclusive" not in texts(change)
    assert [type(shape) for shape in change.shapes if isinstance(shape, Box | Dot)] == [
        Box,
        Box,
        Dot,
    ]  # band, bad, good
    assert "allowed +5 %" in texts(change)
    assert f"{100 * comparison.confidence:g} % interval" in change.caption
    assert len(both) == 3
    for figure in both:
        assert_fits(figure)
        assert texts(figure).split("\n")[-2:] == ["was", "now"]


def test_both_distributions_are_paired_over_versions_of_the_engine() -> None:
    was, now = document(run(100)), document(run(100, replace(setup(), engine="onnxruntime 1.32.0"), seed=1))
    comparison = compare(was, now)
    assert len(comparison_figures(comparison, show((was, now)))) == 2


def test_nothing_was_compared() -> None:
    was, now = document(run(0, failure="it failed")), document(run(60))
    figures = comparison_figures(compare(was, now), show((was, now)))
    assert figures == []


def test_nearly_the_same_is_nearly_the_same_colour() -> None:
    cells = {(0, 0): Cell(7.0, "7.00"), (0, 1): Cell(7.1, "7.10"), (0, 2): Cell(70.0, "70.0")}

    def colours(found: dict[tuple[int, int], Cell]) -> list[str]:
        figure = heat_map("m", "t", ["r"], ["a", "b", "c"], found, caption="")
        return [shape.colour for shape in figure.shapes if isinstance(shape, Box)]

    assert colours({key: cells[key] for key in ((0, 0), (0, 1))}) == ["r0", "r0", "grid"]
    assert colours(cells) == ["r0", "r0", "r6"]


def test_charts_are_written_all_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    documents = [document(run(60), colds=1)]
    written = write_pngs(documents, folder)
    assert sorted(written) == sorted(folder.iterdir())
    names = {path.name for path in written}
    assert {"percentiles.png", "stages.png", "cold-start.png", "histogram-1.png", "trace-1.png"} == names
    for path in written:
        assert path.stat().st_size < 60_000
        with Image.open(path) as image:
            image.verify()
    before = {path: path.read_bytes() for path in written}
    (folder / "cold-start.png").unlink()
    with pytest.raises(OutputError, match="holds pictures already"):
        write_pngs(documents, folder)
    assert not (folder / "cold-start.png").exists()
    write_pngs(documents, folder, force=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_where_there_is_nothing_to_draw_no_folder_is_made(tmp_path: Path) -> None:
    assert write_pngs([document(run(0), colds=0)], tmp_path / "charts") == []
    assert not (tmp_path / "charts").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_pngs([document(run(9))], tmp_path / "no" / "charts")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        write_pngs([document(run(9))], tmp_path / "file", force=True)


def test_runs_are_named_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = []
    monkeypatch.setattr(
        "edgecls.drawing.png.write_png", lambda figure, path: (captions.append(figure.caption), path.touch())
    )
    runs: list[Run] = [run(9, setup(threads=1)), run(9)]
    write_pngs([document(*runs)], tmp_path / "charts")
    assert captions[-4:] == [
        "1 thread: 9 queries",
        "1 thread: 9 queries, 9 rounds; the line is a running median",
        "2 threads: 9 queries",
        "2 threads: 9 queries, 9 rounds; the line is a running median",
    ]
