from __future__ import annotations

from dataclasses import replace

import pytest
from drawn_documents import MACHINE, document, run, setup

from edgecls.benchmark.shown import distinct, document_labels, show, some_of


def test_labels_say_only_what_differs() -> None:
    runs = [run(9, setup(threads=1)), run(9, setup(threads=2)), run(9, setup(threads=None))]
    assert [item.label for item in show([document(*runs)])] == ["1 thread", "2 threads", "default threads"]
    runs = [run(9), run(9, setup("multistream", 8))]
    assert [item.label for item in show([document(*runs)])] == ["singlestream, batch 1", "multistream, batch 8"]


def test_a_single_run_has_a_label_too() -> None:
    assert [item.label for item in show([document(run(9))])] == ["singlestream"]


def test_documents_come_first() -> None:
    shown = show([document(run(9), file="a.onnx"), document(run(9), run(9, setup(provider="CUDA")), file="b.onnx")])
    assert [item.label for item in shown] == ["a.onnx, CPU", "b.onnx, CPU", "b.onnx, CUDA"]
    assert [item.of for item in shown] == ["a.onnx", "b.onnx", "b.onnx"]


def test_no_two_labels_are_the_same() -> None:
    twice = document(run(9), run(9))
    assert [item.label for item in show([twice, twice])] == [
        "mobilenet_v2.onnx (1) (1)",
        "mobilenet_v2.onnx (1) (2)",
        "mobilenet_v2.onnx (2) (1)",
        "mobilenet_v2.onnx (2) (2)",
    ]


def test_documents_are_told_apart_by_file_contents_and_machine() -> None:
    one = document(run(9))
    other_contents = replace(one, model=replace(one.model, sha256="feedbeef" * 8))
    elsewhere = replace(one, machine=replace(MACHINE, cpu="Another"))
    assert document_labels([one]) == ["mobilenet_v2.onnx"]
    assert document_labels([one, other_contents])[1] == "feedbeef"
    assert document_labels([one, elsewhere]) == ["machine 1", "machine 2"]
    assert document_labels([one, one]) == ["mobilenet_v2.onnx (1)", "mobilenet_v2.onnx (2)"]


def test_names_may_be_given() -> None:
    shown = show([document(run(9)), document(run(9))], names=["baseline", "contender"])
    assert [item.label for item in shown] == ["baseline", "contender"]


@pytest.mark.parametrize(
    ("queries", "supported"),
    [(0, ""), (1, ""), (7, "p50"), (44, "p50 p90"), (90, "p50 p90 p95"), (459, "p50 p90 p95 p99")],
)
def test_marks_are_what_the_sample_supports(queries: int, supported: str) -> None:
    (item,) = show([document(run(queries))])
    assert " ".join(mark.name for mark in item.marks) == supported


def test_nothing_to_tell_apart() -> None:
    assert distinct([]) == []
    assert distinct([{"a": "x"}]) == ["x"]
    assert distinct([{"a": "", "b": ""}]) == [""]


def test_what_is_left_out_is_said() -> None:
    assert some_of(6, 6, "runs") == ""
    assert some_of(7, 6, "runs") == " (6 of 7 runs)"
