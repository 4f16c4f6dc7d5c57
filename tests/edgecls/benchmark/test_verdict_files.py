from __future__ import annotations

import importlib.resources
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark.comparison import Comparison, compare
from edgecls.benchmark.document import Document
from edgecls.benchmark.verdict_files import FORMATS, SCHEMA, comparison_schema, to_json, to_junit, to_markdown, write
from edgecls_runtime.errors import OutputError


def three(times: tuple[float, float, float] = (1.0, 1.05, 1.2)) -> Comparison:
    """A comparison of three setups: one passes, one is inconclusive, one is a regression, if nobody says otherwise."""
    setups = [setup(threads=threads) for threads in (1, 2, 3)]
    pair: list[Document] = []
    for seed, slower in ((0, (1.0, 1.0, 1.0)), (5, times)):
        runs = [
            run(400, of, median_ms=7 * by, seed=seed + at, doubts=("it <is> hot",))
            for at, (of, by) in enumerate(zip(setups, slower, strict=True))
        ]
        pair.append(document(*runs))
    return compare(*pair, names=("a|b.json", "new_<1>\x07@you.json"))


def test_junit_has_a_case_for_each_setup() -> None:
    comparison = three()
    root = ElementTree.fromstring(to_junit(comparison))
    (suite,) = root.findall("testsuite")
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    passed, skipped, failed = suite.findall("testcase")
    assert [case.get("name") for case in (passed, skipped, failed)] == [str(row.setup) for row in comparison.rows]
    assert len(passed) == 0
    assert str(skipped[0].get("message")).startswith(f"inconclusive: {comparison.rows[1].remark} (")
    assert failed[0].tag == "failure"
    assert str(failed[0].get("message")).startswith(f"{comparison.rows[2].remark} (")
    assert passed.get("classname") == "edgecls bench.new_<1>\\x07@you.json"
    assert passed.get("time") == f"{(comparison.rows[0].contender_ms or 0) / 1e3:.6f}"
    assert suite.get("timestamp") == "2026-11-25T12:00:00"
    assert comparison.rows[2].remark in str(suite.findtext("system-out"))


def test_junit_of_what_is_not_complete_is_not_green() -> None:
    pair = document(run(400)), replace(document(run(400, seed=2)), complete=False, failure="interrupted")
    suite = ElementTree.fromstring(to_junit(compare(*pair)))[0]
    assert (suite.get("tests"), suite.get("skipped")) == ("2", "1")
    assert suite.findall("testcase")[1].get("name") == "completeness"
    nothing = ElementTree.fromstring(to_junit(compare(document(), document())))[0]
    assert (nothing.get("tests"), nothing.get("skipped")) == ("1", "1")


def test_junit_tells_a_crash_from_a_doubt() -> None:
    failed = run(400, seed=2, failure="was ended by SIGSEGV")
    suite = ElementTree.fromstring(to_junit(compare(document(run(400)), document(failed))))[0]
    assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("1", "1", "0")
    (error,) = suite.findall("testcase/error")
    assert str(error.get("message")).startswith("the contender failed: was ended by SIGSEGV")
    slower = document(run(400, seed=2, median_ms=9, failure="was ended by SIGSEGV"))
    assert ElementTree.fromstring(to_junit(compare(document(run(400)), slower)))[0].get("failures") == "1"


def test_markdown_shows_every_setup_and_takes_nothing_for_markup() -> None:
    comparison = three()
    text = to_markdown(comparison)
    lines = text.splitlines()
    assert lines[0].startswith(r"**regression**: new\_&lt;1&gt;\\x07\@you.json against a\|b.json; up to 5 % slower")
    rows = [line for line in lines if line.startswith("| singlestream")]
    assert [row.count(" | ") for row in rows] == [5, 5, 5]
    assert [row.split("**")[1] for row in rows] == ["pass", "inconclusive", "regression"]
    assert f"{comparison.rows[0].low:.3f} to {comparison.rows[0].high:.3f}" in rows[0]
    assert "(400 queries)" in rows[0]
    assert "- new" in text
    assert "it &lt;is&gt; hot" in text
    assert "Measure longer" not in text
    assert "Measure longer" in to_markdown(three((1.0, 1.05, 1.0)))
    assert "| - | - |" in to_markdown(compare(document(run(9)), document(run(0, failure="broken"))))


@pytest.mark.parametrize(
    "comparison",
    [
        three(),
        compare(document(), document()),
        compare(document(run(9)), document(run(0, failure="f"))),
        replace(three(), early_exit=130),
    ],
)
def test_json_follows_its_schema(comparison: Comparison) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = json.loads(to_json(comparison))
    jsonschema.Draft202012Validator.check_schema(comparison_schema())
    jsonschema.validate(found, comparison_schema())
    assert found["schema"] == SCHEMA
    assert (found["verdict"], found["exit_status"]) == (comparison.verdict, comparison.exit_status)
    assert found["advice"] == comparison.advice
    assert len(found["rows"]) == len(comparison.rows)
    for broken in (
        {**found, "verdict": "maybe"},
        {**found, "extra": 1},
        {k: v for k, v in found.items() if k != "rows"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, comparison_schema())


def test_the_schema_that_is_shipped_is_that_of_the_code() -> None:
    shipped = importlib.resources.files("edgecls.benchmark") / "comparison-1.schema.json"
    assert json.loads(shipped.read_text("utf-8")) == comparison_schema()


def test_files_are_written_whole_and_never_over_others(tmp_path: Path) -> None:
    comparison = three()
    targets = {name: tmp_path / name for name in FORMATS}
    write(comparison, targets)
    for name, to_text in FORMATS.items():
        assert targets[name].read_text("utf-8") == to_text(comparison)
    with pytest.raises(OutputError, match="exists already"):
        write(comparison, targets)
    write(comparison, targets, force=True)
