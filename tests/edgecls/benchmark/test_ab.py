from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from drawn_documents import MACHINE

from edgecls.benchmark import ab, comparison, measurement
from edgecls.benchmark.ab import QUICK, Effort, Pair, PairMeasurement
from edgecls.benchmark.document import Model, Pictures
from edgecls.benchmark.queries import StagedQueries
from edgecls.benchmark.sampling import Samples, WarmUp
from edgecls.benchmark.worker import Loaded, Order
from edgecls_runtime.errors import BenchmarkError

PICTURES = tuple(f"{number}.jpg" for number in range(10))


@dataclass
class World:
    """What the stand-in workers do, and what was asked of them."""

    clock: float = 0.0
    times: float = 1.0  # what the contender takes of the baseline's time
    noise: float = 0.01
    start_s: float = 0.5
    failing: dict[str, int] = field(default_factory=dict)  # model: round from which on it fails
    dying: bool = False
    raising: BaseException | None = None
    provider: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    turns: list[str] = field(default_factory=list)  # the models, block by block
    seen: dict[str, list[str]] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)
    open: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))


class FakeWorker:
    world: World

    def __init__(self, order: Order, *, command: Any) -> None:
        self.order = order
        self.at = 0
        self.world.commands[order.model] = command
        self.world.open += 1
        self.round = self.world.rounds.get(order.model, 0) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.world.open -= 1

    def load(self) -> Loaded:
        assert self.world.open == 2, "both processes start at once"
        self.world.clock += self.world.start_s
        self.world.rounds[self.order.model] = self.round
        self.bias = self.world.noise * self.world.random.normal()
        provider = self.world.provider.get(self.order.model, "CPUExecutionProvider")
        return Loaded(provider=provider, engine="onnxruntime 1.31.1", batch_size=1, assumptions=(self.order.model,))

    def warm_up(self, *, limit_s: float) -> WarmUp:
        self.world.clock += 0.06
        return WarmUp(queries=10, steady=True)

    def measure(self, *, iterations: int) -> Samples:
        world, model = self.world, self.order.model
        world.turns.append(model)
        failure = None
        if self.round >= world.failing.get(model, sys.maxsize):
            if world.dying:
                raise BenchmarkError(f"{model}: the process that measured it was ended by SIGKILL", "Try again.")
            failure = f"{model}: out of memory"
        if world.raising is not None and len(world.turns) > 40:
            raise world.raising
        latency = []
        for _ in range(iterations):
            picture = self.order.pictures[self.at % len(PICTURES)]
            self.at += 1
            world.seen.setdefault(model, []).append(picture)
            slower = world.times if model == "b.onnx" else 1.0
            work = 5 + PICTURES.index(picture)
            latency.append(work * slower * np.exp(self.bias + world.noise * world.random.normal()))
        world.clock += sum(latency) / 1e3
        return Samples(
            latency_ms=tuple(latency),
            stages_ms={"run": tuple(latency)},
            seconds=sum(latency) / 1e3,
            cpu_seconds=0.0,
            pictures=iterations,
            peak_rss_bytes=1,
            failure=failure,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(FakeWorker, "world", world, raising=False)
    monkeypatch.setattr(ab, "Worker", FakeWorker)
    monkeypatch.setattr(ab.time, "monotonic", lambda: world.clock)
    monkeypatch.setattr(measurement, "this_fingerprint", lambda: MACHINE)
    return world


def pair_of(*orders: Order, arch: str = "tiny", **fields: Any) -> PairMeasurement:
    orders = orders or (Order(model="a.onnx", pictures=PICTURES),)
    models = [
        Model(file=f"{name}.onnx", sha256=name * 64, bytes=9, arch=kind, precision="fp32")
        for name, kind in (("a", "tiny"), ("b", arch))
    ]
    return PairMeasurement(
        [(order, replace(order, model="b.onnx")) for order in orders],
        models=(models[0], models[1]),
        pictures=Pictures(source="drawn", count=10, bytes=9, sha256="0" * 64),
        options={"quick": "true"},
        **fields,
    )


def measured(world: World, **fields: Any) -> Pair:
    measurement = pair_of(**fields)
    measurement.run()
    assert world.open == 0
    return measurement.result()


@pytest.mark.parametrize(("times", "verdict"), [(1.0, "pass"), (1.1, "regression"), (0.7, "pass")])
def test_rounds_are_added_until_the_interval_decides(world: World, times: float, verdict: str) -> None:
    world.times = times
    pair = measured(world)
    assert pair.comparison.verdict == verdict
    assert pair.comparison.in_turn is True
    assert pair.comparison.rows[0].ratio == pytest.approx(times, abs=0.02)
    assert str(pair) == str(pair.comparison)
    assert len(pair.baseline.runs[0].measured.rounds) == 6  # the first look suffices
    assert (pair.baseline.complete, pair.contender.complete) == (True, True)
    assert pair.baseline.options == {"quick": "true"}


def test_a_slow_down_of_what_is_allowed_takes_all_the_time(world: World) -> None:
    world.times = 1.05
    pair = measured(world, effort=Effort(limit_s=40))
    assert pair.comparison.verdict == "inconclusive"
    assert 38 < world.clock <= 40
    assert pair.comparison.complete is True


def test_rounds_up_to_the_first_look_are_made_whatever_the_time(world: World) -> None:
    world.start_s = 10
    pair = measured(world, effort=QUICK)
    assert len(pair.baseline.runs[0].measured.rounds) == 6
    assert world.clock > 100


def test_turns_are_abba_or_baab_by_lot_and_of_the_same_pictures(world: World) -> None:
    pair = measured(world)
    turns = ["".join(name[0] for name in world.turns[at : at + 4]) for at in range(0, len(world.turns), 4)]
    assert set(turns) == {"abba", "baab"}
    assert world.seen["a.onnx"] == world.seen["b.onnx"]
    assert set(world.seen["a.onnx"]) == set(PICTURES)
    first = len(world.seen["a.onnx"]) // 6
    assert world.seen["a.onnx"][first] == PICTURES[first % 10]  # a round goes on where the last one stopped
    rounds = pair.baseline.runs[0].measured.rounds
    assert rounds == pair.contender.runs[0].measured.rounds
    assert sum(rounds) == len(world.seen["a.onnx"])
    assert world.rounds == {"a.onnx": 6, "b.onnx": 6}  # a process each


def test_a_round_measures_half_as_long_as_its_start_took(world: World) -> None:
    world.start_s = 4
    pair = measured(world)
    seconds = [sum(run.measured.latency_ms) / 1e3 for run in (*pair.baseline.runs, *pair.contender.runs)]
    assert sum(seconds) / 6 == pytest.approx(4, rel=0.7)


@pytest.mark.parametrize(("query_s", "queries"), [(0.005, 10), (0.5, 3), (1e-5, 500)])
def test_blocks_last_a_twentieth_of_a_second(query_s: float, queries: int) -> None:
    assert ab._size(query_s, 1.0)[0] == queries
    assert ab._size(0.005, 2.2) == (10, 10)
    assert ab._size(1.0, 0.5)[1] == 1


def test_more_time_allows_more_looks() -> None:
    assert QUICK.looks == (6, 9)
    assert Effort().looks == (6, 9, 13, 19, 28, 42)
    assert Effort(limit_s=0.1).looks == (6,)


@pytest.mark.parametrize("setups", [1, 3])
def test_all_looks_at_all_setups_share_the_error(world: World, monkeypatch: pytest.MonkeyPatch, setups: int) -> None:
    shares = set()

    def spy(baseline: Any, contender: Any, **options: Any) -> Any:
        if baseline.runs:
            shares.add(options["looks"] * len(baseline.runs))
        return comparison.compare(baseline, contender, **options)

    monkeypatch.setattr(ab, "compare", spy)
    one = Order(model="a.onnx", pictures=PICTURES)
    orders = [replace(one, placement=replace(one.placement, threads=count + 1)) for count in range(setups)]
    measurement = pair_of(*orders)
    measurement.run()
    assert len(measurement.result().comparison.rows) == setups
    assert shares == {len(Effort().looks) * setups}


@pytest.mark.parametrize("dying", [False, True])
@pytest.mark.parametrize("model", ["a.onnx", "b.onnx"])
def test_a_model_that_fails_midway_leaves_what_was_measured(world: World, model: str, dying: bool) -> None:
    world.failing, world.dying = {model: 3}, dying
    pair = measured(world)
    failed, other = (pair.baseline, pair.contender) if model == "a.onnx" else (pair.contender, pair.baseline)
    cause = f"{model}: the process that measured it was ended by SIGKILL" if dying else f"{model}: out of memory"
    assert (failed.complete, failed.runs[0].failure, other.runs[0].failure) == (False, cause, None)
    assert failed.runs[0].measured.rounds == other.runs[0].measured.rounds
    assert len(failed.runs[0].measured.rounds) == 2
    assert pair.comparison.verdict == "inconclusive"
    assert cause in str(pair.comparison)


@pytest.mark.parametrize("dying", [False, True])
def test_a_model_that_fails_at_once_is_an_error(world: World, dying: bool) -> None:
    world.failing, world.dying = {"b.onnx": 1}, dying
    with pytest.raises(BenchmarkError, match="b.onnx: "):
        measured(world)


def test_a_second_setup_that_fails_at_once_keeps_the_first(world: World) -> None:
    one = Order(model="a.onnx", pictures=PICTURES)
    measurement = pair_of(one, replace(one, placement=replace(one.placement, threads=2)))
    world.failing = {"b.onnx": 7}
    measurement.run()
    pair = measurement.result()
    assert [row.verdict for row in pair.comparison.rows] == ["pass", "inconclusive"]
    assert pair.contender.runs[1].failure == "b.onnx: out of memory"
    assert pair.comparison.verdict == "inconclusive"


def test_an_interruption_keeps_whole_rounds(world: World) -> None:
    world.raising = KeyboardInterrupt()
    measurement = pair_of()
    with pytest.raises(KeyboardInterrupt):
        measurement.run()
    pair = measurement.result(failure="interrupted")
    assert (pair.baseline.failure, pair.baseline.complete) == ("interrupted", False)
    assert pair.baseline.runs[0].measured.rounds == pair.contender.runs[0].measured.rounds
    assert pair.comparison.verdict == "inconclusive"


def test_models_that_do_not_run_alike_are_refused(world: World) -> None:
    world.provider = {"b.onnx": "CUDAExecutionProvider"}
    with pytest.raises(BenchmarkError) as caught:
        measured(world)
    assert caught.value.cause == "b.onnx: runs with provider CUDAExecutionProvider, a.onnx with CPUExecutionProvider"
    assert len(world.turns) == 0
    with pytest.raises(BenchmarkError, match=r"b\.onnx: measured vgg16, a\.onnx tiny"):
        pair_of(arch="vgg16")


def test_either_model_has_its_command_and_its_assumptions(world: World) -> None:
    measurement = pair_of(commands=(("one",), ("other",)))
    measurement.run()
    assert world.commands == {"a.onnx": ("one",), "b.onnx": ("other",)}
    assert measurement.assumptions == (("a.onnx",), ("b.onnx",))


def test_the_experiments_worker_is_slower_by_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_down: Callable[[float], None] = runpy.run_path(
        str(Path(__file__).parents[3] / "benchmarks" / "slowed_worker.py")
    )["slow_down"]
    monkeypatch.setattr(StagedQueries, "answer", lambda self: (1_000_000, 500_000))
    slow_down(2.0)
    read_ns, run_ns = StagedQueries.answer(None)  # type: ignore[arg-type]
    assert read_ns == 1_000_000
    assert run_ns >= 500_000 + 3_000_000
