from __future__ import annotations

from dataclasses import replace

from drawn_documents import document, run, setup

from edgecls.benchmark.document import Measured


def test_what_a_terminal_shows() -> None:
    singles = Measured(
        latency_ms=tuple(float(value) for value in range(1, 51)),
        stages_ms={"decode": tuple(value * 0.01 for value in range(1, 51)), "run": (200.0,) * 50},
        rounds=(20, 30),
    )
    text = str(document(replace(run(50), measured=singles, pictures=50, seconds=2.0), colds=0))
    lines = text.splitlines()
    assert lines[0].startswith("mobilenet_v2.onnx: mobilenet_v2 fp32, 14.0 MB, SHA-256 ")
    assert lines[1] == "Some CPU @ 3.00GHz, 4 of 8 logical CPUs, Linux 6.1"
    assert lines[2] == "64 pictures drawn by edgecls, 9.0 MB"
    assert lines[4] == "singlestream, CPU, batch 1, 2 threads (onnxruntime 1.31.1)"
    assert lines[5] == "  50 queries in 2 rounds, 25.0 images/s, peak memory 180 MB"
    assert lines[6].split() == ["p50", "p90", "p95", "p99", "mean", "stdev", "min", "max"]
    assert lines[7].split() == ["latency,", "ms", "25.00", "45.00", "-", "-", "25.50", "14.58", "1.00", "50.00"]
    assert lines[8].split() == ["at", "most", "(99", "%)", "34.00", "50.00", "-", "-"]
    assert lines[9] == "  (p95 wants 90 queries, p99 wants 459 queries)"
    assert lines[10].split() == ["decode", "run"]
    assert lines[11].split() == ["stages,", "ms,", "p50", "0.250", "200.0"]
    assert len(lines) == 12


def test_a_stream_a_failure_and_cold_starts() -> None:
    failed = run(0, setup(threads=4), failure="provider cuda: is not here")
    found = document(run(30, setup("offline", 8)), failed, colds=1)
    text = str(found)
    assert "offline, CPU, batch 8, 2 threads (onnxruntime 1.31.1)\n  30 queries of 8 pictures in 10 rounds" in text
    assert "4 threads (onnxruntime 1.31.1)\n  failed: provider cuda: is not here\n\n" in text
    assert "stages" not in text
    assert "cold start, p50 of 1 process\n  total, ms    " in text
    assert text.endswith("\nNOT COMPLETE: 1 of 2 setups failed")
    assert str(replace(found, failure="interrupted")).endswith("\nNOT COMPLETE: interrupted")


def test_a_doubt_of_all_setups_is_told_once() -> None:
    both, one = "the machine runs on its battery, and may save power", "30 queries are too few"
    text = str(document(run(50, doubts=(both,)), run(30, setup(batch_size=8), doubts=(one, both))))
    assert text.count(both) == 1
    assert text.endswith(f"\n\ndoubt: {both}")
    second = text.index("batch 8")
    assert text.index(f"\n  doubt: {one}\n") > second
    assert "doubt" not in text[:second]
    alone = str(document(run(50, doubts=(one,))))
    assert alone.endswith(f"\n\ndoubt: {one}")
