"""The plug-in as a project uses it: pytest within pytest, with measurements that are drawn and not made."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from drawn_documents import document, run

from edgecls.benchmark import ab, files, latency_check, measurement
from edgecls.benchmark.comparison import compare
from edgecls_runtime.errors import ModelError

pytest_plugins = ("pytester",)

PLUGIN = "edgecls.benchmark.pytest_plugin"
TEST = """
    def test_latency(edgecls_latency):
        comparison = edgecls_latency("model.onnx", {arguments})
        assert comparison.verdict == "pass"
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked to be measured; it takes 7 ms, or ``calls.times`` as long."""
    found: list[dict[str, Any]] = Calls()

    def measure(model: Any, **options: Any) -> Any:
        found.append({"model": model, **options})
        return document(run(400, median_ms=7 * found.times, seed=2))  # type: ignore[attr-defined]

    def in_turn(baseline: Any, contender: Any, *, max_regression: float, **options: Any) -> ab.Pair:
        found.append({"baseline": baseline, "model": contender, "max_regression": max_regression, **options})
        pair = document(run(400)), document(run(400, median_ms=7 * found.times, seed=2))  # type: ignore[attr-defined]
        held = compare(*pair, max_regression=max_regression)
        return ab.Pair(comparison=held, baseline=pair[0], contender=pair[1])

    monkeypatch.setattr(latency_check, "measure", measure)
    monkeypatch.setattr(latency_check, "measure_in_turn", in_turn)
    return found


class Calls(list[dict[str, Any]]):
    times = 1.0


Project = Callable[..., pytest.RunResult]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Run pytest on a project with one test and a baseline of 7 ms."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # hypothesis would be imported anew in each run
    tests = pytester.mkdir("tests")

    def start(*options: str, arguments: str = 'baseline="latency.json"', baseline: Any = None) -> pytest.RunResult:
        (tests / "test_it.py").write_text(TEST.format(arguments=arguments).replace("\n    ", "\n"))
        if baseline is not False:
            files.write(baseline or document(run(400)), tests / "latency.json", force=True)
        return pytester.runpytest_inprocess("-p", PLUGIN, "-rs", "-p", "no:cacheprovider", *options)

    return start


def test_a_model_that_is_as_quick_as_it_was_passes(project: Project, calls: Calls, pytester: pytest.Pytester) -> None:
    result = project("--junit-xml=junit.xml", arguments='baseline="latency.json", images="photos", threads=2')
    result.assert_outcomes(passed=1)
    (call,) = calls
    tests = pytester.path / "tests"
    assert call == {
        "model": tests / "model.onnx",  # relative to the test's file
        "images": tests / "photos",
        "provider": None,
        "threads": 2,
        "batch_size": 1,
        "duration_s": None,
    }
    result.stdout.fnmatch_lines(["*= edgecls latency =*", "tests/test_it.py::test_latency: pass: model.onnx against*"])
    properties = ElementTree.parse(pytester.path / "junit.xml").iter("property")
    assert [item.get("name") for item in properties] == ["edgecls_latency"]


def test_a_slower_one_fails_and_says_by_how_much(project: Project, calls: Calls) -> None:
    calls.times = 1.2
    result = project()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regression: model.onnx against latency.json; up to 5 % slower is allowed*"])
    result.stdout.fnmatch_lines(["*test_latency: regression: model.onnx against latency.json: singlestream*slower by*"])
    result.stdout.no_fnmatch_line("*latency_check*")  # no traceback
    project(arguments='baseline="latency.json", max_regression=0.3').assert_outcomes(passed=1)


def test_what_cannot_be_decided_is_skipped_with_the_reason_or_fails(project: Project, calls: Calls) -> None:
    calls.times = 1.05
    result = project()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*inconclusive: model.onnx against latency.json*more or less than 5 %*"])
    result.stdout.fnmatch_lines(["*test_latency: inconclusive: *"])
    strict = project("--edgecls-latency-strict")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["*It fails because of --edgecls-latency-strict*"])


def test_another_machine_is_no_silent_pass(project: Project, calls: Calls) -> None:
    baseline = document(run(400))
    baseline = replace(baseline, machine=replace(baseline.machine, cpu="Abacus 3"))
    result = project(baseline=baseline)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*another machine than latency.json: cpu is Some CPU*, was Abacus 3*"])
    project("--edgecls-latency-strict", baseline=baseline).assert_outcomes(failed=1)


def test_baselines_are_written_when_asked_for(project: Project, calls: Calls, pytester: pytest.Pytester) -> None:
    result = project("--edgecls-latency-update", baseline=False)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*latency.json: written; nothing was compared*"])
    assert files.read(pytester.path / "tests" / "latency.json") == document(run(400, median_ms=7, seed=2))
    project(baseline=False).assert_outcomes(passed=1)
    (pytester.path / "tests" / "latency.json").write_text("{")  # a damaged one is replaced, too
    project("--edgecls-latency-update", baseline=False).assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "*latency.json: is not there*"),
        ('{"schema": "edgecls.bench/1", "created"', "*latency.json: is not valid JSON*"),
        ('{"schema": "other/9"}', "*latency.json: is not a benchmark: its schema is 'other/9'*"),
    ],
)
def test_a_baseline_that_cannot_be_used_fails(
    project: Project, calls: Calls, pytester: pytest.Pytester, text: str | None, cause: str
) -> None:
    if text is not None:
        (pytester.path / "tests" / "latency.json").write_text(text)
    result = project(baseline=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([cause])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert not calls  # it is read before the model is measured


def test_a_model_that_cannot_be_measured_fails(project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Any, **_: Any) -> Any:
        raise ModelError(f"{model}: is broken", "Export it again.")

    monkeypatch.setattr(latency_check, "measure", broken)
    result = project()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*model.onnx: is broken", "*Export it again."])
    result.stdout.fnmatch_lines(["*test_latency: error: *is broken"])


@pytest.mark.parametrize(("times", "outcome"), [(1.0, "passed"), (1.05, "skipped"), (1.2, "failed")])
def test_two_models_in_turn(
    project: Project, calls: Calls, pytester: pytest.Pytester, times: float, outcome: str
) -> None:
    calls.times = times
    project(arguments='against="old.onnx", max_regression=0.06').assert_outcomes(**{outcome: 1})
    (call,) = calls
    tests = pytester.path / "tests"
    assert (call["baseline"], call["model"]) == (tests / "old.onnx", tests / "model.onnx")
    assert call["max_regression"] == 0.06


@pytest.mark.parametrize("arguments", ["", 'baseline="latency.json", against="old.onnx"'])
def test_there_is_one_thing_to_hold_it_against(project: Project, calls: Calls, arguments: str) -> None:
    result = project(arguments=arguments)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TypeError: give either baseline=FILE.json or against=MODEL*"])


def test_other_tests_at_the_same_time_are_no_measurement(
    project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    result = project()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*other tests run at the same time; measure with: pytest -n 0*"])
    assert not calls


def test_it_may_be_registered_twice(
    project: Project, calls: Calls, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makeconftest(f"pytest_plugins = ['{PLUGIN}']")
    project("-p", PLUGIN).assert_outcomes(passed=1)
    # Installed, it has an entry point too: of the module's own name, as pytest tells plug-ins apart by their names.
    pyproject = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_it_brings_nothing_before_a_test_asks_for_it() -> None:
    # Every run of pytest imports it wherever edgecls is installed.
    code = f"import pytest, sys; old = set(sys.modules); import {PLUGIN}; print(*sorted(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"edgecls", "edgecls.benchmark", PLUGIN, "edgecls_runtime"}


def test_the_calls_measure_for_real(models: Path, pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    quick = replace(measurement.QUICK, rounds=1, duration_s=None, iterations=3, warmup_s=0.01)
    monkeypatch.setattr(measurement, "QUICK", quick)
    folder = Path(pictures[0]).parent
    found = latency_check.measure(models / "tiny.onnx", images=folder, threads=1, batch_size=2)
    assert found.runs[0].setup.scenario == "multistream"
    assert (found.runs[0].setup.batch_size, found.runs[0].setup.threads) == (2, 1)
    assert (found.pictures.count, len(found.runs[0].measured.latency_ms)) == (5, 3)
    assert found.cold_starts == ()

    monkeypatch.setattr(ab, "_FIRST_LOOK", 1)
    pair = latency_check.measure_in_turn(
        models / "tiny.onnx", models / "tiny.onnx", images=folder, duration_s=0.1, max_regression=0.5
    )
    assert pair.baseline.model == pair.contender.model
    assert pair.comparison.max_regression == 0.5
    assert pair.baseline.runs[0].measured.rounds == pair.contender.runs[0].measured.rounds
    assert pair.comparison.complete is True
    with pytest.raises(ModelError, match="nan.onnx: returned nan"):
        latency_check.measure(models / "nan.onnx", images=folder)
