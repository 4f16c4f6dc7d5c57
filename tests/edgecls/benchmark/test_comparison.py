from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark import intervals
from edgecls.benchmark.comparison import Comparison, compare
from edgecls.benchmark.document import Document
from edgecls.benchmark.pairing import setup_key
from edgecls_runtime.errors import BenchmarkError, OtherMachineError


def measured(times: float = 1.0, *, seed: int = 1, **fields: Any) -> Document:
    """A document whose median is 7 ms times a number."""
    return document(run(400, median_ms=7 * times, seed=seed, **fields))


@pytest.mark.parametrize(
    ("times", "verdict", "status", "remark"),
    [
        (1.00, "pass", 0, "no difference seen; between "),
        (1.03, "pass", 0, "slower by "),
        (0.80, "pass", 0, "faster by "),
        (1.05, "inconclusive", 3, ": more or less than 5 %, nobody can tell"),
        (1.10, "regression", 1, "slower by "),
    ],
)
def test_the_verdict_follows_from_where_the_interval_lies(times: float, verdict: str, status: int, remark: str) -> None:
    comparison = compare(measured(), measured(times, seed=2))
    (row,) = comparison.rows
    assert (comparison.verdict, row.verdict, comparison.exit_status) == (verdict, verdict, status)
    assert remark in row.remark
    assert row.low is not None
    assert row.high is not None
    assert row.low < times < row.high
    assert (row.baseline_queries, row.contender_queries) == (400, 400)
    assert str(comparison).startswith(f"{verdict}: contender mobilenet_v2.onnx against baseline mobilenet_v2.onnx; ")
    assert f"      {verdict}: {row.remark}" in str(comparison)
    assert (comparison.advice is None) == (verdict != "inconclusive")


def test_what_is_allowed_is_the_users_choice() -> None:
    pair = measured(), measured(1.1, seed=2)
    assert [compare(*pair, max_regression=share).verdict for share in (0, 0.05, 0.1, 0.2)] == [
        "regression",
        "regression",
        "inconclusive",
        "pass",
    ]
    for share in (-0.01, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="max_regression"):
            compare(*pair, max_regression=share)


def test_the_limits_themselves_belong_to_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    for low, high, verdict in ((0.9, 1.05, "pass"), (1.05, 1.2, "inconclusive"), (1.0501, 1.2, "regression")):
        found = intervals.Interval(1.05, low, high)
        monkeypatch.setattr(intervals, "ratio_of_medians", lambda *_, found=found, **__: found)
        assert compare(measured(), measured()).verdict == verdict


def test_the_worst_setup_decides() -> None:
    setups = [setup(threads=threads) for threads in (1, 2, 3)]
    baseline = document(*(run(400, of, seed=seed) for seed, of in enumerate(setups)))
    for times, verdict in (((1, 1, 1), "pass"), ((1, 1.05, 1), "inconclusive"), ((1.05, 1, 1.2), "regression")):
        runs = [
            run(400, of, median_ms=7 * slower, seed=9 + seed)
            for seed, (of, slower) in enumerate(zip(setups, times, strict=True))
        ]
        comparison = compare(baseline, document(*runs))
        assert comparison.verdict == verdict
        assert [row.setup.threads for row in comparison.rows] == [1, 2, 3]


def test_setups_and_looks_share_the_allowed_error() -> None:
    def width(comparison: Comparison) -> float:
        row = comparison.rows[0]
        assert row.low is not None
        assert row.high is not None
        return row.high / row.low

    setups = [setup(threads=threads) for threads in range(1, 7)]
    alone = document(run(400, setups[0]))
    beside = document(*(run(400, of) for of in setups))
    assert width(compare(alone, alone, looks=6)) == width(compare(beside, beside)) > width(compare(alone, alone))


def test_another_machine_is_an_error_that_names_the_difference() -> None:
    baseline = measured()
    other = replace(baseline.machine, cpu="Abacus 3", cpu_flags=(), governor=None)
    contender = replace(measured(1.0, seed=2), machine=other)
    with pytest.raises(OtherMachineError) as caught:
        compare(baseline, contender, names=("base.json", "new.json"))
    assert caught.value.exit_status == 4
    assert caught.value.cause == (
        "new.json: was measured on another machine than base.json: cpu is Abacus 3, was Some CPU @ 3.00GHz; "
        "cpu_flags is [], was [avx2, avx512_vnni]; governor is unknown, was performance"
    )
    assert "--ab" in caught.value.remedy
    comparison = compare(baseline, contender, any_machine=True)
    assert comparison.verdict == "pass"
    assert "another machine: cpu is Abacus 3, was Some CPU @ 3.00GHz" in comparison.warnings


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"model": {"arch": "vgg16"}}, "b.json: measured vgg16, a.json mobilenet_v2"),
        ({"model": {"arch": None}}, "b.json: measured a model that names no architecture, a.json mobilenet_v2"),
        ({"pictures": {"count": 3, "sha256": "cd" * 32}}, "3 drawn (cdcdcdcdcdcd), not 64 drawn (abababababab)"),
        ({"pictures": {"source": "folder"}}, "64 of a folder (abababababab), not 64 drawn (abababababab)"),
    ],
)
def test_other_work_is_an_error(change: dict[str, dict[str, Any]], cause: str) -> None:
    ((name, fields),) = change.items()
    other = replace(measured(), **{name: replace(getattr(measured(), name), **fields)})
    with pytest.raises(BenchmarkError) as caught:
        compare(measured(), other, names=("a.json", "b.json"))
    assert cause in caught.value.cause


def test_setups_that_only_one_has_are_an_error() -> None:
    one, two = measured(), document(run(400), run(400, setup(threads=1)))
    for pair, cause in (
        ((one, two), "a: lacks a setup that b has: singlestream, CPU, batch 1, 1 thread (onnxruntime 1.31.1)"),
        ((two, one), "b: lacks a setup that a has: singlestream, CPU, batch 1, 1 thread (onnxruntime 1.31.1)"),
    ):
        with pytest.raises(BenchmarkError) as caught:
            compare(*pair, names=("a", "b"))
        assert caught.value.cause == cause
    twice = document(run(400), run(400))
    with pytest.raises(BenchmarkError, match="b: has 2 runs of one setup: singlestream"):
        compare(one, twice, names=("a", "b"))


def test_what_differs_and_may_is_told() -> None:
    now = replace(
        document(run(400, replace(setup(), engine="onnxruntime 1.32.0"), seed=2), precision="int8"),
        edgecls="0.2.0",
        versions={"numpy": "2.4.0", "pillow": "14.0.0", "onnxruntime": "1.32.0"},
    )
    told = compare(measured(doubts=("it is hot",)), now, names=("a", "b")).warnings
    assert told == (
        "precision is int8, was fp32",
        "edgecls is 0.2.0, was 0.1.0",
        "onnxruntime is 1.32.0, was 1.31.1",
        "pillow is 14.0.0, was 13.0.0",
        "a: it is hot",
    )
    bf16 = replace(setup(), engine="openvino 2026.4 bf16")
    assert setup_key(bf16) == setup_key(replace(bf16, engine="openvino 2027.0 bf16"))
    assert setup_key(bf16) != setup_key(replace(bf16, engine="openvino 2026.4 f32"))
    assert setup_key(bf16) != setup_key(replace(bf16, provider="other"))


@pytest.mark.parametrize(("times", "verdict"), [(1.0, "inconclusive"), (1.2, "regression")])
def test_what_is_not_complete_cannot_pass(times: float, verdict: str) -> None:
    contender = replace(measured(times, seed=2), complete=False, failure="interrupted")
    comparison = compare(measured(), contender, names=("a", "b"))
    assert (comparison.verdict, comparison.complete) == (verdict, False)
    assert "b is not complete (interrupted): it cannot pass" in comparison.warnings
    if verdict == "inconclusive":
        assert comparison.advice == "Measure again: what is not complete cannot pass."


def test_a_measurement_that_ended_early_has_that_exit_status() -> None:
    assert [replace(compare(measured(), measured()), early_exit=status).exit_status for status in (None, 1, 130)] == [
        0,
        1,
        130,
    ]


def test_a_run_that_failed_cannot_pass() -> None:
    comparison = compare(measured(), measured(seed=2, failure="out of memory"), names=("a", "b"))
    (row,) = comparison.rows
    assert (row.verdict, row.remark.partition(";")[0]) == ("inconclusive", "the contender failed: out of memory")
    assert row.ratio is not None
    assert "b is not complete (out of memory): it cannot pass" in comparison.warnings
    nothing = compare(measured(), document(run(0, failure="broken")))
    (row,) = nothing.rows
    assert (row.verdict, row.remark) == ("inconclusive", "the contender failed: broken")
    assert (row.ratio, row.low, row.high, row.contender_ms) == (None, None, None, None)
    assert "  -" in str(nothing)


def test_too_few_rounds_are_inconclusive() -> None:
    comparison = compare(measured(), measured(2.0, seed=2, rounds=4))
    (row,) = comparison.rows
    assert row.verdict == "inconclusive"
    assert row.remark == "4 rounds are too few for an interval, which takes 5"
    assert (row.ratio, row.baseline_ms) == (None, pytest.approx(7, abs=0.1))


def test_documents_without_runs_prove_nothing() -> None:
    assert compare(document(), document()).verdict == "inconclusive"


def test_in_turn_takes_the_ratio_of_each_pair_of_queries() -> None:
    # Two pictures, one slow and one quick: medians of either half say nothing, the pairs all.
    baseline = measured()
    generator = np.random.default_rng(3)
    pictures = np.where(np.arange(400) % 2, 30.0, 2.0) * np.exp(generator.normal(0, 0.01, 400))
    both = []
    for times in (1.0, 1.1):
        latency = tuple((pictures * times * np.exp(generator.normal(0, 0.01, 400))).tolist())
        of = baseline.runs[0]
        both.append(
            replace(baseline, runs=(replace(of, measured=replace(of.measured, latency_ms=latency, stages_ms={})),))
        )
    in_turn = compare(*both, in_turn=True)
    assert in_turn.verdict == "regression"
    assert in_turn.rows[0].ratio == pytest.approx(1.1, abs=0.01)
    assert in_turn.in_turn is True
    assert in_turn.method != compare(*both).method


@pytest.mark.parametrize(("times", "found"), [(1.0, "pass"), (1.1, "regression")])
def test_false_alarms_are_rare_and_slow_downs_are_found(
    times: float, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_RESAMPLES", 200)
    random = np.random.default_rng(11)
    verdicts = []
    for _ in range(60):
        drift = np.cumsum(random.normal(0, 0.05, 10))  # a machine that changes its mood from round to round
        pair = []
        for slower in (1.0, times):
            rounds = np.exp(drift + random.normal(0, 0.01, 10))[:, None] * np.exp(0.06 * random.normal(size=(10, 20)))
            template = run(200)
            latency = tuple((7 * slower * rounds).ravel().tolist())
            measured = replace(template.measured, latency_ms=latency, stages_ms={}, rounds=(20,) * 10)
            pair.append(document(replace(template, measured=measured)))
        verdicts.append(compare(*pair, in_turn=True).verdict)
    wrong = {"pass", "regression"} - {found}
    assert not wrong & set(verdicts)
    assert verdicts.count(found) >= 50
