from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawn_documents import MACHINE, document, run, setup

from edgecls.benchmark import html_report
from edgecls.benchmark.charts import MOST_RUNS
from edgecls.benchmark.comparison import compare
from edgecls.benchmark.document import Document
from edgecls.benchmark.html_report import to_html
from edgecls.benchmark.quantiles import summarize
from edgecls.drawing.axes import number
from edgecls_runtime.errors import OutputError

VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps texts, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def svgs(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_the_page_needs_nothing_but_itself() -> None:
    text = to_html([document(run(500), run(90, setup("multistream", 8)))])
    page = Page(text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "href", "srcset", "action", "data"), (tag, name)
        assert "://" not in (value or "") or name == "xmlns"
    assert not re.search(r"@import|url\(", text)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert ("meta", "name", "viewport") in page.attributes
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert "prefers-color-scheme: dark" in text


def test_figures_are_valid_and_their_names_unique() -> None:
    text = to_html([document(run(500), run(90, setup("multistream", 8))), document(run(80), file="b.onnx")])
    found = svgs(text)
    assert len(found) == text.count("<figure>") >= 10
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) == 2 * len(found)


def test_every_number_comes_from_the_document() -> None:
    one = run(1000, seed=5)
    page = Page(to_html([document(one)]))
    summary = summarize(one.measured.latency_ms)
    for of in (summary.p50, summary.p90, summary.p95, summary.p99):
        assert of is not None
        assert number(of.value, 4) in page.texts
        assert f"≤ {number(of.at_most, 4)}" in page.texts
    for value in (summary.mean, summary.stdev, summary.min, summary.max):
        assert number(value, 4) in page.texts
    assert number(one.images_per_second) in page.texts
    for name, samples in one.measured.stages_ms.items():
        assert name in page.texts
        assert number(summarize(samples).mean, 4) in page.texts


def test_another_document_is_another_page() -> None:
    def figures(of: Document) -> set[str]:
        return set(re.findall(r"\d+\.\d+", Page(to_html([of])).text.split("Measured on")[0]))

    slow, quick = (figures(document(run(1000, median_ms=ms, seed=seed), colds=0)) for ms, seed in ((7.0, 1), (0.31, 2)))
    # What is left are shares, ticks and the engine's version.
    assert len(slow & quick) < 0.4 * min(len(slow), len(quick))


def test_what_the_sample_does_not_support_is_a_dash() -> None:
    text = to_html([document(run(60))])
    row = re.search(r"<tbody>\n<tr>.*?</tr>", text, re.DOTALL)
    assert row is not None
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row[0])
    assert [cell == "-" for cell in cells[:4]] == [False, False, True, True]
    assert "p99 latency" not in text


def test_verdict_failures_and_doubts_come_first() -> None:
    doubtful = run(60, doubts=("the latency varies by 31 % of its mean",))
    failed = run(3, setup(threads=1), failure="the engine gave up on query 4")
    page = Page(to_html([replace(document(doubtful, failed), complete=False, failure="interrupted")]))
    text = page.text
    order = [
        text.index(said)
        for said in (
            "Not complete",
            "interrupted",
            "the engine gave up on query 4",
            "Doubts",
            "31 % of its mean",
            "Latency",
        )
    ]
    assert order == sorted(order)
    assert "1 thread: the engine gave up" in text  # of two runs one must know which
    assert "(2 threads)" in text


def test_the_verdict_stands_at_the_top() -> None:
    was = document(run(400, spread=0.02, tail=0), file="m.onnx")
    now = document(run(400, median_ms=9, spread=0.02, tail=0, seed=1, doubts=("it was noisy",)), file="m.onnx")
    comparison = compare(was, now, names=("main.json", "pull.json"))
    text = to_html([was, now], comparison=comparison)
    page = Page(text)
    svgs(text)
    (row,) = comparison.rows
    assert row.ratio is not None
    order = [
        page.text.index(said)
        for said in (
            "pull.json against main.json",
            "regression",
            "up to 5 % slower is allowed; exit status 1",
            row.remark,
            "Doubts",
            "pull.json: it was noisy",
            "Against the baseline",
            f"{100 * (row.ratio - 1):+.1f} %",
            comparison.method,
            "Latency",
        )
    ]
    assert order == sorted(order)
    assert page.text.count("it was noisy") == 1
    assert '<th scope="row">main.json<small>' in text  # one setup: names suffice


def test_a_setup_without_an_interval_is_a_dash() -> None:
    was, now = document(run(0, failure="it failed"), file="m.onnx"), document(run(60), file="m.onnx")
    comparison = compare(was, now)
    text = to_html([was, now], comparison=comparison)
    table = re.search(r'aria-label="setup".*?</table>', text, re.DOTALL)
    assert table is not None
    assert re.findall(r"<td>(-|inconclusive|.*?)(?:<small>.*?)?</td>", table[0])[0] == "inconclusive"
    assert table[0].count("<td>-") == 2
    assert comparison.advice is not None
    assert comparison.advice in Page(text).texts


def test_many_doubts_are_folded_and_none_is_lost() -> None:
    doubts = tuple(f"doubt {count}" for count in range(9))
    text = to_html([document(run(60, doubts=doubts))])
    page = Page(text)
    assert "6 more" in page.texts
    assert [said for said in page.texts if said.startswith("doubt ")] == list(doubts)
    shared = Page(to_html([document(run(60, doubts=doubts[:1]), run(60, setup(threads=1), doubts=doubts[:1]))]))
    assert "doubt 0" in shared.texts  # about all runs, so none is named


def test_a_sound_run_has_no_cards() -> None:
    text = to_html([document(run(60))])
    assert "Doubts" not in text
    assert "Not complete" not in text
    assert "Not complete" in to_html([replace(document(run(60)), complete=False)])


@pytest.mark.parametrize(
    "runs", [(), (run(0, failure="it failed at once"),), (run(1),), (run(0), run(5)), (run(9, setup("offline", 8)),)]
)
def test_what_there_is_is_shown(runs: tuple) -> None:
    for colds in (0, 1):
        text = to_html([document(*runs, colds=colds)])
        Page(text)
        svgs(text)
        assert "mobilenet_v2.onnx" in text
        assert ("Cold start" in text) == bool(colds)


def test_machine_model_pictures_and_software() -> None:
    text = Page(to_html([document(run(9))])).text
    for said in (
        "Some CPU @ 3.00GHz, x86_64",
        "8 logical, 4 usable, 2.5 CPUs' time by the container",
        "avx2 avx512_vnni",
        "performance",
        "16.0 GiB",
        "Linux 6.1, CPython 3.12.1",
        "14,017,132 bytes",
        "drawn by edgecls",
        "ab" * 32,
        "onnxruntime 1.31.1",
        "13.0.0",
        "2026-11-25 12:00:00 UTC",
    ):
        assert said in text, said
    assert "GPU" not in text
    gpu = replace(document(run(9)), machine=replace(MACHINE, gpus=("Some GPU",), gpu_driver="570.1"))
    assert "Some GPU, driver 570.1" in Page(to_html([gpu])).text


def test_what_documents_share_is_said_once() -> None:
    here, there = document(run(9), file="a.onnx"), document(run(9), file="b.onnx")
    assert to_html([here, there]).count("Some CPU @ 3.00GHz, x86_64") == 1
    there = replace(there, machine=replace(MACHINE, cpu="Another CPU"))
    text = Page(to_html([here, there])).text
    assert "Machine: a.onnx, machine 1" in text
    assert "Another CPU, x86_64" in text


def test_how_to_measure_it_again() -> None:
    options = {"batch": "1,8", "images": "my photos", "quick": "true"}
    texts = Page(to_html([replace(document(run(9)), options=options)])).texts
    assert "edgecls bench mobilenet_v2.onnx --batch 1,8 --images 'my photos' --quick" in texts


def test_how_to_measure_two_in_turn_again() -> None:
    was, now = document(run(400, spread=0.02), file="a.onnx"), document(run(400, spread=0.02, seed=1), file="b.onnx")
    comparison = compare(was, now, names=("old/a.onnx", "b.onnx"), in_turn=True)
    texts = Page(to_html([was, now], comparison=comparison)).texts
    assert [text for text in texts if text.startswith("edgecls bench ")] == [
        "edgecls bench --ab old/a.onnx b.onnx --batch 1,8 --quick"
    ]


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title></svg>&<!--"]
)
def test_nothing_from_a_document_becomes_markup(hostile: str) -> None:
    of = document(
        run(60, replace(setup(), provider=hostile, engine=hostile), doubts=(hostile,), failure=hostile), file=hostile
    )
    of = replace(
        of,
        created=hostile,
        edgecls=hostile,
        versions={hostile: hostile},
        options={hostile: hostile},
        failure=hostile,
        machine=replace(MACHINE, cpu=hostile, os=hostile, governor=hostile, cpu_flags=(hostile,), gpus=(hostile,)),
        model=replace(of.model, arch=hostile, precision=hostile, sha256=hostile),
        pictures=replace(of.pictures, sha256=hostile),
    )
    sound = document(run(60), file="b.onnx")
    text = to_html([of, sound, of], accuracies={hostile: 50.0, "b.onnx": 60.0})
    page = Page(text)
    svgs(text)
    assert page.tags.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert page.text.count(hostile) > 10


def test_a_name_that_is_no_text_is_written_as_far_as_it_goes(tmp_path: Path) -> None:
    html_report.write([document(run(9), file="caf\udce9 \x1b[31m.onnx")], tmp_path / "it.html")
    assert "caf\ufffd \ufffd[31m.onnx" in (tmp_path / "it.html").read_text("utf-8")


def test_pages_stay_small() -> None:
    assert len(to_html([document(run(20_000), run(20_000, setup(threads=1)))])) < 120_000
    many = document(*(run(200, setup(threads=count)) for count in range(1, 31)))
    text = to_html([many])
    assert len(text) < 600_000
    assert text.count("<details") == MOST_RUNS
    assert f"{30 - MOST_RUNS} more runs stand in the table alone." in text


def test_pages_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "it.html"
    html_report.write([document(run(9))], target)
    first = target.read_text("utf-8")
    with pytest.raises(OutputError, match="exists already"):
        html_report.write([document(run(9))], target)
    html_report.write([document(run(11))], target, force=True)
    assert target.read_text("utf-8") != first
    with pytest.raises(OutputError, match="does not exist"):
        html_report.write([document(run(9))], tmp_path / "no" / "it.html")
    assert [path.name for path in tmp_path.iterdir()] == ["it.html"]


@pytest.mark.parametrize("scenario", ["singlestream", "offline", "engine"])
def test_what_is_timed_in_another_way_is_said(scenario: str) -> None:
    text = to_html([document(run(90), run(90, setup(scenario)))])
    assert ("Offline: of a stretch" in text) is (scenario == "offline")
    assert ("Engine: of the run alone" in text) is (scenario == "engine")
