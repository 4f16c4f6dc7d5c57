from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgecls.benchmark.document import STAGES
from edgecls.benchmark.worker import COMMAND, Order, Worker
from edgecls.benchmark.worker_process import _Process
from edgecls_runtime.errors import BenchmarkError, ModelError


def child(script: str) -> tuple[str, ...]:
    """The command of a worker that does something before it begins."""
    return (sys.executable, "-c", f"{script}\nfrom edgecls.benchmark.worker_process import main\nmain()")


def test_a_worker_loads_warms_up_and_measures(models: Path, pictures: tuple[str, ...]) -> None:
    order = Order(model=str(models / "tiny.onnx"), pictures=pictures)
    with Worker(order) as worker:
        loaded = worker.load()
        assert (loaded.provider, loaded.batch_size, loaded.assumptions) == ("CPUExecutionProvider", 1, ())
        assert loaded.engine.startswith("onnxruntime ")
        assert worker.warm_up(limit_s=0.01).queries >= 2
        samples = worker.measure(iterations=7)
        assert (len(samples.latency_ms), samples.pictures, samples.failure) == (7, 7, None)
        assert tuple(samples.stages_ms) == STAGES
        for query, latency in enumerate(samples.latency_ms):
            assert sum(times[query] for times in samples.stages_ms.values()) == pytest.approx(latency)
        assert samples.cpu_seconds > 0
        assert len(worker.measure(duration_s=0.02).latency_ms) >= 1


@pytest.mark.parametrize(
    ("scenario", "model", "batch_size", "found"),
    [
        ("singlestream", "tiny", None, 1),
        ("singlestream", "fixed4", None, 1),
        ("multistream", "tiny", None, 8),
        ("multistream", "fixed4", None, 4),
        ("multistream", "tiny", 3, 3),
        ("offline", "tiny", None, 4),
        ("offline", "fixed4", None, 4),
        ("engine", "tiny", None, 1),
        ("engine", "fixed4", None, 4),
        ("engine", "tiny", 3, 3),
    ],
)
def test_the_batch_of_a_scenario(
    scenario: str, model: str, batch_size: int | None, found: int, models: Path, pictures: tuple[str, ...]
) -> None:
    order = {"model": str(models / f"{model}.onnx"), "pictures": list(pictures), "scenario": scenario}
    process = _Process()
    with process.opened:
        loaded = process.do("load", {"what": order | {"batch_size": batch_size, "placement": {"provider": "cpu"}}})
        assert loaded.batch_size == found  # type: ignore[union-attr]
        samples = process.do("measure", {"iterations": 2})
        pictures_a_query = samples.pictures // 2  # type: ignore[union-attr]
        assert pictures_a_query % found == 0
        assert (pictures_a_query == found) is (scenario != "offline")


def test_a_batch_that_the_file_does_not_take(models: Path, pictures: tuple[str, ...]) -> None:
    order = {"model": str(models / "fixed4.onnx"), "pictures": list(pictures), "scenario": "multistream"}
    process = _Process()
    with process.opened, pytest.raises(ModelError, match="takes 4 pictures a run, not 3"):
        process.do("load", {"what": order | {"batch_size": 3, "placement": {"provider": "cpu"}}})


def test_errors_come_through_as_they_are(models: Path, pictures: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    missing = Order(model="missing.onnx", pictures=pictures)
    with Worker(missing) as worker, pytest.raises(ModelError, match=r"missing\.onnx: "):
        worker.load()
    with Worker(Order(model=str(models / "nan.onnx"), pictures=pictures)) as worker:
        assert worker.load().assumptions  # a foreign file
        with pytest.raises(ModelError, match="returned nan"):
            worker.warm_up(limit_s=1)
    bad = Order(model=str(models / "tiny.onnx"), pictures=(*pictures, str(tmp_path / "bad.png"), pictures[0]))
    with Worker(bad) as worker:
        worker.load()
        samples = worker.measure(iterations=100)
        assert len(samples.latency_ms) == 5
        assert samples.failure is not None
        assert "bad.png" in samples.failure


def test_a_process_that_dies_is_an_error_that_says_how(models: Path, pictures: tuple[str, ...]) -> None:
    order = Order(model=str(models / "tiny.onnx"), pictures=pictures)
    script = "import os, signal; from edgecls.benchmark.queries import StagedQueries\n"
    kill = child(f"{script}StagedQueries.answer = lambda self: os.kill(os.getpid(), signal.SIGKILL)")
    with Worker(order, command=kill) as worker:
        worker.load()
        with pytest.raises(BenchmarkError, match="was ended by SIGKILL"):
            worker.measure(iterations=1)
        with pytest.raises(BenchmarkError, match="was ended by SIGKILL"):
            worker.measure(iterations=1)
    ended = (sys.executable, "-c", "raise SystemExit(3)")
    with Worker(order, command=ended) as worker, pytest.raises(BenchmarkError, match="ended with status 3"):
        worker.load()


def test_memory_that_does_not_suffice_is_an_error_that_says_so(models: Path, pictures: tuple[str, ...]) -> None:
    order = Order(model=str(models / "tiny.onnx"), pictures=pictures, scenario="multistream", batch_size=10**12)
    with Worker(order) as worker, pytest.raises(BenchmarkError) as caught:
        worker.load()
    assert caught.value.cause.startswith(f"{models / 'tiny.onnx'}: the memory does not suffice: Unable to allocate ")
    assert caught.value.remedy == "Use a smaller --batch."


@pytest.mark.skipif(sys.platform == "win32", reason="has no groups of processes")
def test_a_terminals_ctrl_c_does_not_reach_a_worker(models: Path, pictures: tuple[str, ...]) -> None:
    with Worker(Order(model=str(models / "tiny.onnx"), pictures=pictures)) as worker:
        assert os.getpgid(worker._process.pid) != os.getpgrp()


def test_a_worker_ends_with_whoever_started_it(models: Path, pictures: tuple[str, ...]) -> None:
    script = (
        "import sys; from edgecls.benchmark.worker import Order, Worker\n"
        "worker = Worker(Order(model=sys.argv[1], pictures=tuple(sys.argv[2:])))\n"
        "worker.load(); print(worker._process.pid, flush=True); worker.measure(duration_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, models / "tiny.onnx", *pictures], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)  # it measures by now
    parent.kill()
    parent.communicate()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it measures on, for nobody")


def test_what_engines_print_is_no_answer(models: Path, pictures: tuple[str, ...]) -> None:
    order = Order(model=str(models / "tiny.onnx"), pictures=pictures)
    script = (
        "import os; from edgecls.benchmark.queries import StagedQueries; answer = StagedQueries.answer\n"
        "StagedQueries.answer = lambda self: (os.write(1, b'hello\\n'), print('world'), answer(self))[-1]"
    )
    with Worker(order, command=child(script)) as worker:
        worker.load()
        assert len(worker.measure(iterations=3).latency_ms) == 3


def test_a_measurement_that_is_left_is_stopped_and_keeps_what_it_has(models: Path, pictures: tuple[str, ...]) -> None:
    order = Order(model=str(models / "tiny.onnx"), pictures=pictures)
    with Worker(order) as worker:
        worker.load()
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        ticks: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            worker.measure(duration_s=60, tick=lambda: ticks.append(1))
        samples = worker.stop()
        assert samples is not None
        assert samples.latency_ms
        assert samples.failure is None
        assert ticks
        assert time.monotonic() - began < 30


def test_modules_of_the_current_folder_stay_out(
    models: Path, pictures: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert "-P" in COMMAND
    with Worker(Order(model=str(models / "tiny.onnx"), pictures=pictures)) as worker:
        worker.load()
