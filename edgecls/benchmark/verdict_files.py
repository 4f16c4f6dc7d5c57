"""A comparison as others read it: Markdown for a pull request, JUnit XML for a build server, JSON for programs."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from edgecls.benchmark.comparison import EXIT_STATUS, Comparison
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from edgecls.benchmark.comparison import Row

__all__ = ["FORMATS", "SCHEMA", "comparison_schema", "to_json", "to_junit", "to_markdown", "write"]

SCHEMA = "edgecls.bench.comparison/1"

_SUITE = "edgecls bench"


def to_json(comparison: Comparison) -> str:
    """Return the comparison as JSON; ``comparison-1.schema.json`` beside this module describes it."""
    said = {"schema": SCHEMA, "verdict": comparison.verdict, "exit_status": comparison.exit_status}
    document = {**said, "advice": comparison.advice, **dataclasses.asdict(comparison)}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def comparison_schema() -> dict[str, Any]:
    """Return the JSON Schema of `to_json`."""
    from edgecls.benchmark.schema import schema_of

    schema = schema_of(Comparison, SCHEMA)
    said = {
        "verdict": {"enum": list(EXIT_STATUS), "description": "Of all rows the worst."},
        "exit_status": {"type": "integer", "description": "Of the command that told the verdict."},
        "advice": {"type": ["string", "null"], "description": "What an inconclusive verdict asks for."},
    }
    name = schema["properties"].pop("schema")
    schema["properties"] = {"schema": name, **said, **schema["properties"]}
    schema["required"] = ["schema", *said, *schema["required"][1:]]
    return schema


def to_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, for a comment on a pull request or the summary of a job."""
    names = f"{_cell(comparison.contender.name)} against {_cell(comparison.baseline.name)}"
    lines = [
        f"**{comparison.verdict}**: {names}; up to {100 * comparison.max_regression:g} % slower is allowed.",
        "",
        f"| setup | baseline, p50 | contender, p50 | ratio | {100 * comparison.confidence:g} % interval | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        interval = "-" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
        times = [_ms(row.baseline_ms, row.baseline_queries), _ms(row.contender_ms, row.contender_queries)]
        verdict = f"**{row.verdict}**: {_cell(row.remark)}"
        lines.append(f"| {' | '.join([_cell(str(row.setup)), *times, ratio, interval, verdict])} |")
    if comparison.advice is not None:
        lines += ["", _cell(comparison.advice)]
    lines += ["", "<details><summary>Method and doubts</summary>", "", _cell(comparison.method)]
    if comparison.warnings:
        lines += ["", *(f"- {_cell(warning)}" for warning in comparison.warnings)]
    return "\n".join([*lines, "", "</details>"]) + "\n"


def to_junit(comparison: Comparison) -> str:
    """Return the comparison as JUnit XML: a setup is a test case; inconclusive is skipped, an error if a run failed."""
    suite = ElementTree.Element("testsuite", name=_SUITE, timestamp=comparison.contender.created.partition("+")[0])
    for row in comparison.rows:
        outcome = "error" if row.failed and row.verdict == "inconclusive" else row.verdict
        _case(suite, comparison, str(row.setup), outcome, _described(row), row.contender_ms)
    if comparison.verdict == "inconclusive" and all(row.verdict == "pass" for row in comparison.rows):
        _case(suite, comparison, "completeness", "inconclusive", comparison.advice or "", None)
    counts = {
        "tests": "testcase",
        "failures": "testcase/failure",
        "errors": "testcase/error",
        "skipped": "testcase/skipped",
    }
    for name, path in counts.items():
        suite.set(name, str(len(suite.findall(path))))
    ElementTree.SubElement(suite, "system-out").text = _printable(f"{comparison}\n{comparison.method}")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


FORMATS: Mapping[str, Callable[[Comparison], str]] = {"markdown": to_markdown, "junit": to_junit, "json": to_json}


def write(comparison: Comparison, targets: Mapping[str, str | os.PathLike[str]], *, force: bool = False) -> None:
    """Write the comparison in several formats, each file whole or not at all.

    Args:
        comparison: to write.
        targets: path of each of some of `FORMATS`.
        force: overwrite files.

    Raises:
        OutputError: a file exists already (without ``force``), or cannot be written.
    """
    for name, target in targets.items():
        with whole_file(target, force=force) as temporary:
            temporary.write_text(FORMATS[name](comparison), "utf-8", errors="backslashreplace")


def _case(
    suite: ElementTree.Element, comparison: Comparison, name: str, outcome: str, message: str, latency_ms: float | None
) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=_printable(f"{_SUITE}.{comparison.contender.name}"), name=name
    )
    case.set("time", f"{(latency_ms or 0) / 1e3:.6f}")
    if outcome == "regression":
        ElementTree.SubElement(case, "failure", type="regression", message=_printable(message))
    elif outcome == "error":
        ElementTree.SubElement(case, "error", type="failed", message=_printable(message))
    elif outcome == "inconclusive":
        ElementTree.SubElement(case, "skipped", message=_printable(f"inconclusive: {message}"))


def _described(row: Row) -> str:
    if row.baseline_ms is None or row.contender_ms is None:
        return row.remark
    return f"{row.remark} ({row.contender_ms:.3f} ms, was {row.baseline_ms:.3f} ms)"


def _ms(value: float | None, queries: int) -> str:
    return "-" if value is None else f"{value:.2f} ms ({queries:,} queries)"


def _cell(text: str) -> str:
    """Return text that Markdown shows as it is: nothing in a file's name becomes a link, a mention or markup."""
    return re.sub(r"([\\`*_\[\]|~#@])", r"\\\1", html.escape(_printable(text), quote=False))


def _printable(text: str) -> str:
    """Return text without what XML 1.0 cannot hold, and what no reader should obey: names of files need not be text."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
