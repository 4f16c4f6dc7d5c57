from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark.comparison import compare
from edgecls.benchmark.document import NEVER_LOADED, Document
from edgecls.benchmark.pairing import check_setups, pair_runs
from edgecls.benchmark.setups import orders_for
from edgecls_runtime.errors import BenchmarkError

ONE, EIGHT = setup(threads=1), setup("multistream", 8, threads=1)


def interrupted(of: Document) -> Document:
    return replace(of, complete=False, failure="interrupted")


def test_a_setup_that_an_interruption_left_out_is_inconclusive() -> None:
    both, first = document(run(400, ONE), run(400, EIGHT)), interrupted(document(run(400, ONE, seed=2)))
    for pair, side in (((both, first), "contender"), ((first, both), "baseline")):
        comparison = compare(*pair)
        assert comparison.verdict == "inconclusive"
        assert [row.setup for row in comparison.rows] == [ONE, EIGHT]
        assert comparison.rows[0].ratio is not None
        assert comparison.rows[1].remark == f"the {side} failed: not measured (interrupted)"
    assert compare(both, interrupted(document())).verdict == "inconclusive"


def test_a_setup_that_never_loaded_is_that_which_was_asked_for_alike() -> None:
    baseline = document(run(400, ONE), run(400, EIGHT))
    for asked, remark in (
        (replace(EIGHT, provider="cpu", engine=NEVER_LOADED), "the contender failed: out of memory"),
        # Nobody knows of how many pictures its batch would have been.
        (
            replace(EIGHT, provider="cpu", engine=NEVER_LOADED, batch_size=1),
            "the contender failed: not measured (out of memory)",
        ),
    ):
        contender = document(run(400, ONE, seed=2), run(0, asked, failure="out of memory"))
        comparison = compare(baseline, contender)
        assert [row.setup for row in comparison.rows] == [ONE, EIGHT]
        assert (comparison.verdict, comparison.rows[1].remark) == ("inconclusive", remark)


def test_neither_loaded() -> None:
    failed = run(0, replace(ONE, provider="cpu", engine=NEVER_LOADED), failure="broken")
    assert pair_runs(document(failed), document(failed), ("a", "b")) == [(failed, failed)]


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"threads": (1,), "batch_sizes": (1, 8)}, None),
        ({"threads": (1,), "scenarios": ("singlestream", "multistream")}, None),
        ({"threads": (1,)}, "m.onnx: lacks a setup that base.json has: multistream, CPU, batch 8, 1 thread"),
        ({"threads": (1, 2), "batch_sizes": (1, 8)}, "base.json: lacks a setup that m.onnx has: singlestream, cpu, 2"),
        ({"threads": (1,), "batch_sizes": (1, 8), "providers": ("openvino",)}, "m.onnx: lacks a setup that base.json"),
    ],
)
def test_orders_that_give_other_setups_are_refused(asked: dict[str, tuple[object, ...]], cause: str | None) -> None:
    baseline, orders = document(run(40, ONE), run(40, EIGHT)), orders_for("m.onnx", ("a.jpg",), **asked)  # type: ignore[arg-type]
    with contextlib.nullcontext() if cause is None else pytest.raises(BenchmarkError, match=cause):
        check_setups(baseline, orders, ("base.json", "m.onnx"))


@pytest.mark.parametrize(
    ("provider", "found"),
    [("cuda", "CUDAExecutionProvider"), ("tensorrt", "NvTensorRTRTXExecutionProvider"), ("openvino", "OpenVINO CPU")],
)
def test_providers_are_known_by_the_engines_names(provider: str, found: str) -> None:
    baseline = document(run(40, replace(ONE, provider=found, threads=None)))
    orders = orders_for("m.onnx", ("a.jpg",), providers=(provider,), engine_cache="there")
    check_setups(baseline, orders, ("base.json", "m.onnx"))
    with pytest.raises(BenchmarkError, match="lacks a setup"):
        check_setups(baseline, orders_for("m.onnx", ("a.jpg",), providers=("cpu",)), ("base.json", "m.onnx"))
