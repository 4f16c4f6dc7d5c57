from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import threading
from pathlib import Path
from typing import Self

import pytest

from edgecls.benchmark import measurement
from edgecls.benchmark.conditions import Conditions
from edgecls.benchmark.document import Pictures
from edgecls.benchmark.measurement import Effort, Measurement, describe_model
from edgecls.benchmark.recording import Recorder
from edgecls.benchmark.sampling import Samples, WarmUp
from edgecls.benchmark.worker import Loaded, Order
from edgecls_runtime import __version__
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import BenchmarkError, ModelError, ProviderError

PICTURES = Pictures(source="folder", count=5, bytes=1, sha256="00")
WARM = WarmUp(queries=12, steady=True)
CALM = Conditions(seconds=1, others_s=0, stolen_s=0, thermal_events=0, frequency_mhz=None, limited_s=0)


def samples(*latency_ms: float, failure: str | None = None, memory: int = 1) -> Samples:
    return Samples(
        latency_ms=latency_ms,
        stages_ms={"run": latency_ms},
        seconds=sum(latency_ms) / 1e3,
        cpu_seconds=0,
        pictures=2 * len(latency_ms),
        peak_rss_bytes=memory,
        failure=failure,
    )


class FakeWorkers:
    """In the place of `Worker`: keeps a record of what is asked, and answers from a script of samples by scenario."""

    def __init__(self, script: dict[str, list[Samples | Exception]]) -> None:
        self.script = script
        self.log: list[str] = []
        self.asked: list[tuple[float | None, int | None]] = []
        self.firsts: list[str] = []
        self.open = 0

    def __call__(self, order: Order, *, command: object) -> FakeWorkers:
        self.order = order
        return self

    def __enter__(self) -> Self:
        self.open += 1
        assert self.open == 1, "two engines at a time"
        self.log.append(self.order.scenario)
        self.firsts.append(self.order.pictures[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.open -= 1

    def load(self) -> Loaded:
        return Loaded(provider="CPUExecutionProvider", engine="onnxruntime 9.8", batch_size=2, assumptions=("much",))

    def warm_up(self, *, limit_s: float) -> WarmUp:
        assert limit_s == 2
        return WARM

    def measure(self, *, duration_s: float | None, iterations: int | None, tick: object) -> Samples:
        self.asked.append((duration_s, iterations))
        answer = self.script[self.order.scenario].pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self) -> Samples:
        return samples(5.0)


def measure(
    monkeypatch: pytest.MonkeyPatch, script: dict[str, list[Samples | Exception]], effort: Effort
) -> tuple[Measurement, FakeWorkers]:
    workers = FakeWorkers(script)
    monkeypatch.setattr(measurement, "Worker", workers)
    monkeypatch.setattr(measurement, "start_cold", lambda order: workers.log.append("cold") or len(workers.log))
    orders = [
        Order(model="m.onnx", pictures=("a", "b", "c", "d", "e"), scenario=scenario)  # type: ignore[arg-type]
        for scenario in script
    ]
    return Measurement(orders, effort), workers


def test_setups_take_turns_and_cold_starts_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    script = {name: [samples(1.0, 2.0)] * 4 for name in ("singlestream", "multistream")}
    measured, workers = measure(monkeypatch, script, Effort(duration_s=8, rounds=4, cold_starts=2))
    measured.run()
    first, second = "singlestream", "multistream"
    turns = [first, second, "cold", "cold", second, first, first, second, "cold", second, first]
    assert workers.log == turns  # the first cold start does not count
    assert workers.asked == [(2, None)] * 8
    # 4 pictures a round of 5: each round begins where the last one of that setup ended.
    assert [workers.firsts[index] for index in (0, 3, 4, 7)] == ["a", "e", "d", "c"]
    document = measured.to_document(describe_model_of_nothing(), PICTURES, {"quick": "true"})
    assert document.complete
    assert document.failure is None
    assert [run.setup.scenario for run in document.runs] == [first, second]
    assert document.runs[0].measured.rounds == (2, 2, 2, 2)
    assert document.cold_starts == (4, 9)  # type: ignore[comparison-overlap]
    assert document.options == {"quick": "true"}
    assert document.edgecls == __version__
    assert document.versions.keys() == {"numpy", "pillow", "onnxruntime"}
    assert document.versions["onnxruntime"] == "9.8"
    assert measured.assumptions == ("much",)


def describe_model_of_nothing() -> measurement.Model:
    return measurement.Model(file="m.onnx", sha256="00", bytes=0, arch=None, precision=None)


@pytest.mark.parametrize(("iterations", "asked"), [(3, [1, 1, 1]), (11, [2, 2, 2, 2, 3]), (5, [1] * 5)])
def test_iterations_are_shared_out_among_the_rounds(
    iterations: int, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    script: dict[str, list[Samples | Exception]] = {"offline": [samples(1.0)] * 5}
    effort = Effort(duration_s=None, iterations=iterations, rounds=5, cold_starts=0)
    measured, workers = measure(monkeypatch, script, effort)
    measured.run()
    assert [number for _, number in workers.asked] == asked
    assert sum(asked) == iterations


def test_a_setup_that_fails_midway_keeps_what_it_has_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Samples | Exception]] = {
        "singlestream": [samples(1.0), samples(2.0, failure="m.onnx: returned nan")],
        "multistream": [samples(3.0), BenchmarkError("m.onnx: was ended by SIGSEGV", "Try.")],
        "offline": [samples(4.0)] * 4,
    }
    measured, workers = measure(monkeypatch, script, Effort(rounds=4, cold_starts=0))
    measured.run()
    document = measured.to_document(describe_model_of_nothing(), PICTURES, {})
    assert not document.complete
    assert [run.failure for run in document.runs] == ["m.onnx: returned nan", "m.onnx: was ended by SIGSEGV", None]
    assert [run.measured.latency_ms for run in document.runs] == [(1.0, 2.0), (3.0,), (4.0,) * 4]
    assert workers.log.count("multistream") == 2
    assert "NOT COMPLETE: 2 of 3 setups failed" in str(document)


def test_if_nothing_runs_at_all_the_first_error_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Samples | Exception]] = {
        "singlestream": [ProviderError("provider cuda: is not here", "Install it.")],
        "multistream": [ModelError("another", "one")],
    }
    measured, workers = measure(monkeypatch, script, Effort())
    with pytest.raises(ProviderError, match="provider cuda"):
        measured.run()
    assert workers.log == ["singlestream", "multistream"]


def test_a_setup_that_cannot_load_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Samples | Exception]] = {
        "singlestream": [ProviderError("provider cuda: is not here", "Install it.")],
        "offline": [samples(4.0)] * 2,
    }
    measured, _ = measure(monkeypatch, script, Effort(rounds=2, cold_starts=0))
    measured.run()
    document = measured.to_document(describe_model_of_nothing(), PICTURES, {})
    failed = document.runs[0]
    assert (failed.failure, failed.measured.latency_ms, failed.steady) == ("provider cuda: is not here", (), False)
    assert (failed.setup.provider, failed.setup.engine) == ("cpu", "none")


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interruption_keeps_what_there_is(end: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    script = {"singlestream": [samples(1.0), end], "offline": [samples(4.0)] * 4}
    measured, workers = measure(monkeypatch, script, Effort(rounds=4, cold_starts=0))  # type: ignore[arg-type]
    with pytest.raises(type(end)):
        measured.run()
    assert workers.open == 0
    document = measured.to_document(describe_model_of_nothing(), PICTURES, {}, failure="interrupted")
    assert (document.complete, document.failure) == (False, "interrupted")
    assert document.runs[0].measured.latency_ms == (1.0, 5.0)  # the last one is of the round that was cut short
    assert document.runs[0].failure is None


def test_a_cold_start_that_fails_ends_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, _ = measure(monkeypatch, {"offline": [samples(4.0)] * 4}, Effort(rounds=4))

    def fail(order: Order) -> None:
        raise BenchmarkError("m.onnx: the process of a cold start failed: no", "Try.")

    monkeypatch.setattr(measurement, "start_cold", fail)
    measured.run()
    document = measured.to_document(describe_model_of_nothing(), PICTURES, {})
    assert document.runs[0].measured.rounds == (1, 1, 1, 1)
    assert (document.complete, document.cold_starts) == (False, ())
    assert document.failure == "m.onnx: the process of a cold start failed: no"


def test_progress_only_goes_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    script: dict[str, list[Samples | Exception]] = {name: [samples(1.0)] * 4 for name in ("singlestream", "offline")}
    measured, _ = measure(monkeypatch, script, Effort(rounds=4, cold_starts=4))
    told: list[tuple[str, float]] = []
    measured.run(lambda phase, share: told.append((phase, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert {phase for phase, _ in told} == {"singlestream, cpu", "offline, cpu", "cold start"}


def test_a_recorder_joins_rounds() -> None:
    order = Order(model="m", pictures=("a",), scenario="multistream", placement=Placement(threads=3))
    recorder = Recorder(order)
    loaded = Loaded(provider="CUDAExecutionProvider", engine="e 1", batch_size=4, assumptions=())
    recorder.add(loaded, WARM, samples(1.0, 2.0, memory=7), CALM)
    recorder.add(loaded, WarmUp(queries=3, steady=False), samples(4.0, memory=9), CALM)
    recorder.add(loaded, WARM, samples(failure="broke", memory=99), CALM)
    run = recorder.to_run()
    assert str(run.setup) == "multistream, CUDA, batch 4, 3 threads"
    assert (run.measured.latency_ms, run.measured.stages_ms) == ((1.0, 2.0, 4.0), {"run": (1.0, 2.0, 4.0)})
    assert (run.measured.rounds, run.warmup_queries, run.steady) == ((2, 1), 15, False)
    assert (run.seconds, run.pictures, run.peak_rss_bytes, run.failure) == (pytest.approx(0.007), 6, 9, "broke")
    assert run.images_per_second == pytest.approx(6 / 0.007)
    assert any("had not settled after 1 of 2 warm-ups" in doubt for doubt in run.doubts)
    assert any("trtexec" in doubt for doubt in run.doubts)  # on a GPU its rule counts


def test_a_model_is_described(models: Path, tmp_path: Path) -> None:
    found = describe_model(models / "tiny.onnx")
    data = (models / "tiny.onnx").read_bytes()
    assert (found.file, found.bytes, found.arch, found.precision) == ("tiny.onnx", len(data), "tiny", "fp32")
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert dataclasses.astuple(describe_model(models / "foreign.onnx"))[3:] == (None, None)
    with pytest.raises(ModelError, match="no such file"):
        describe_model(tmp_path / "missing.onnx")
    (tmp_path / "other.engine").write_bytes(b"plan")
    assert describe_model(tmp_path / "other.engine").bytes == 4
    with pytest.raises(ModelError, match="missing"):
        describe_model(tmp_path / "missing.engine")


def test_all_of_it_with_real_processes(models: Path, pictures: tuple[str, ...]) -> None:
    orders = [Order(model=str(models / "tiny.onnx"), pictures=pictures)]
    measured = Measurement(orders, Effort(duration_s=None, iterations=6, rounds=2, warmup_s=0.01, cold_starts=0))
    measured.run()
    document = measured.to_document(describe_model(models / "tiny.onnx"), PICTURES, {})
    assert document.complete
    (run,) = document.runs
    assert (len(run.measured.latency_ms), run.measured.rounds) == (6, (3, 3))
    assert run.setup.provider == "CPUExecutionProvider"


def test_ctrl_c_while_real_processes_measure(models: Path, pictures: tuple[str, ...]) -> None:
    orders = [Order(model=str(models / "tiny.onnx"), pictures=pictures)]
    measured = Measurement(orders, Effort(duration_s=60, rounds=1, warmup_s=0.01, cold_starts=0))
    measuring = threading.Event()

    def interrupt() -> None:
        measuring.wait(100)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        measured.run(lambda _, share: measuring.set() if share > 0 else None)
    document = measured.to_document(describe_model(models / "tiny.onnx"), PICTURES, {}, failure="interrupted")
    assert document.runs[0].measured.latency_ms
    assert not document.complete
