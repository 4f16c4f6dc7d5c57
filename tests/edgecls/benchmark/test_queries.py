from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgecls.benchmark import queries
from edgecls.benchmark.document import STAGES
from edgecls.benchmark.queries import EngineQueries, StagedQueries, StreamedQueries, open_queries
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_runtime import Classifier, preprocess
from edgecls_runtime.errors import ImageError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class World:
    """A clock that only moves where a stage of `Classifier.predict` or of the queries does its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.calls: tuple[str, ...] = []
        for name, cost in (("decode", 1000), ("resize_and_crop", 200), ("normalize", 30)):
            for module in (queries, preprocess):
                monkeypatch.setattr(module, name, self.slow(name, getattr(module, name), cost))

    def slow(self, name: str, work: Any, cost: int) -> Any:
        def work_and_wait(*args: object, **kwargs: object) -> object:
            self.now += cost
            self.calls.append(name)
            return work(*args, **kwargs)

        return work_and_wait

    def clock(self) -> int:
        return self.now


def slow_model(model: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "run", world.slow("run", model.run, 4000))
    monkeypatch.setattr(model, "top", world.slow("top", model.top, 5))


def test_a_query_does_what_predict_does_and_its_stages_are_its_time(
    models: Path, pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        slow_model(model, world, monkeypatch)
        began = world.now
        for path in pictures:
            loaded.predict(path)
        by_predict, calls_of_predict = world.now - began, world.calls
        world.calls = []
        staged = StagedQueries(model, pictures, batch_size=1, max_pixels=10**6, clock=world.clock)
        times = [staged.answer() for _ in pictures]
    assert world.calls == calls_of_predict  # the same steps, in the same order
    assert sum(map(sum, times)) == by_predict
    assert times == [(0, 1000, 200, 30, 4000, 5)] * len(pictures)


def test_a_query_of_several_pictures_is_one_run(
    models: Path, pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        slow_model(model, world, monkeypatch)
        staged = StagedQueries(model, pictures, batch_size=3, max_pixels=10**6, clock=world.clock)
        assert staged.pictures == 3
        assert staged.answer() == (0, 3000, 600, 90, 4000, 15)
        loaded.predict_batch(pictures[:3])
    assert world.calls == world.calls[: len(world.calls) // 2] * 2


def test_every_moment_belongs_to_one_stage(models: Path, pictures: tuple[str, ...]) -> None:
    ticks = itertools.count()  # each look at the clock is a nanosecond later than the last one
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        for batch_size in (1, 2, 4):
            staged = StagedQueries(model, pictures, batch_size=batch_size, max_pixels=10**6, clock=lambda: next(ticks))
            before = next(ticks)
            times = staged.answer()
            assert len(times) == len(STAGES)
            assert sum(times) == next(ticks) - before - 2  # from its first look to its last


def test_the_logits_are_those_of_the_pictures_in_their_order(models: Path, pictures: tuple[str, ...]) -> None:
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        seen: list[np.ndarray] = []
        run = model.run
        model.run = lambda batch: (seen.append(batch.copy()), run(batch))[1]  # type: ignore[method-assign]
        staged = StagedQueries(model, pictures, batch_size=2, max_pixels=10**6)
        staged.answer()  # 0 1
        staged.begin()  # once more
        staged.answer()  # 2 3
        staged.answer()  # 4 0
        staged.rewind()
        staged.answer()
    expected = [preprocess.load(path, loaded.preprocess) for path in pictures]
    for batch, numbers in zip(seen, [(0, 1), (0, 1), (2, 3), (4, 0), (0, 1)], strict=True):
        np.testing.assert_array_equal(batch, [expected[number] for number in numbers])


def test_a_picture_that_cannot_be_read_is_named(models: Path, tmp_path: Path, pictures: tuple[str, ...]) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with Classifier.load(models / "tiny.onnx") as loaded:
        with loaded.hold() as model:
            staged = StagedQueries(model, [str(tmp_path / "bad.jpg")], batch_size=1, max_pixels=10**6)
            with pytest.raises(ImageError, match=r"bad\.jpg: .*not a picture"):
                staged.answer()
            staged = StagedQueries(model, [str(tmp_path / "gone.jpg")], batch_size=1, max_pixels=10**6)
            with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read: No such file"):
                staged.answer()
            staged = StagedQueries(model, pictures, batch_size=1, max_pixels=100)
            with pytest.raises(ImageError, match=r"0\.png: .*over the limit of 100"):
                staged.answer()
        with (
            open_queries(loaded, [str(tmp_path / "bad.jpg")], scenario="offline", batch_size=1, workers=1) as streamed,
            pytest.raises(ImageError, match=r"bad\.jpg"),
        ):
            streamed.answer()


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 64), (3, 22), (100, 1)])
def test_an_engine_runs_what_was_made_before_and_nothing_else(
    models: Path, pictures: tuple[str, ...], batch_size: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, ran = itertools.count(), []
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        expected = [preprocess.load(path, loaded.preprocess) for path in pictures]
        run = model.backend.run

        def keep(batch: NDArray[np.generic]) -> NDArray[np.float32]:
            assert batch.dtype == model.backend.input.dtype
            ran.append((batch, batch.copy()))
            return run(batch)

        monkeypatch.setattr(model.backend, "run", keep)
        queries = EngineQueries(model, pictures, batch_size=batch_size, max_pixels=10**6, clock=lambda: next(ticks))
        assert not ran
        assert [queries.answer() for _ in range(batches)] == [(1,)] * batches
        for number, row in enumerate(itertools.chain.from_iterable(copy for _, copy in ran)):
            np.testing.assert_array_equal(row, expected[number % len(expected)])
        queries.begin()
        queries.answer()
        queries.rewind()
        queries.answer()
    assert all(batch is ran[0][0] for batch, _ in ran)
    for (_, copy), number in zip(ran[batches:], (batches - 1, 0, 0), strict=True):
        np.testing.assert_array_equal(copy, ran[number][1])


def test_an_engine_that_takes_half_gets_half(models: Path, pictures: tuple[str, ...], tmp_path: Path) -> None:
    fp16_from_fp32(models / "foreign.onnx", tmp_path / "half.onnx", io_fp16=True)
    with Classifier.load(tmp_path / "half.onnx") as loaded, loaded.hold() as model:
        assert model.backend.input.dtype == "float16"
        assert EngineQueries(model, pictures, batch_size=2, max_pixels=10**6).answer() > (0,)


def test_what_an_engine_runs_is_checked(models: Path, pictures: tuple[str, ...]) -> None:
    with Classifier.load(models / "tiny.onnx") as loaded, loaded.hold() as model:
        queries = EngineQueries(model, pictures, batch_size=2, max_pixels=10**6)
        queries._batches[1][:] = np.nan
        queries.answer()
        with pytest.raises(ModelError, match="returned nan"):
            queries.answer()


def test_an_engine_without_pictures_to_read_says_which(models: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with (
        Classifier.load(models / "tiny.onnx") as loaded,
        loaded.hold() as model,
        pytest.raises(ImageError, match=r"^\S*bad\.jpg: .*not a picture"),
    ):
        EngineQueries(model, [str(tmp_path / "bad.jpg")], batch_size=1, max_pixels=10**6)


@pytest.mark.parametrize(("batch_size", "workers", "pictures_a_query"), [(1, 1, 6), (1, 2, 10), (8, 2, 24), (3, 2, 15)])
def test_a_stream_is_timed_by_what_comes_out(
    models: Path, pictures: tuple[str, ...], batch_size: int, workers: int, pictures_a_query: int
) -> None:
    ticks = itertools.count()
    with Classifier.load(models / "tiny.onnx", threads=1) as loaded:
        given: list[object] = []
        stream = loaded.predict_stream
        loaded.predict_stream = lambda images, **kwargs: stream(count_in(images, given), **kwargs)  # type: ignore[method-assign]
        streamed = StreamedQueries(loaded, pictures, batch_size=batch_size, workers=workers, clock=lambda: next(ticks))
        assert streamed.pictures == pictures_a_query
        assert streamed.pictures % batch_size == 0
        streamed.begin()
        assert [streamed.answer() for _ in range(3)] == [(1,)] * 3
        # What was read ahead of four queries is no more than another one: a pause leaves nothing behind `begin`.
        assert 4 * pictures_a_query <= len(given) <= 5 * pictures_a_query
        streamed.close()
    assert given[:7] == [*pictures, *pictures[:2]]


def count_in(images: Any, given: list[object]) -> Any:
    for image in images:
        given.append(image)
        yield image


def test_the_scenario_decides(models: Path, pictures: tuple[str, ...]) -> None:
    with Classifier.load(models / "tiny.onnx", threads=1) as loaded:
        for scenario, stages in (
            ("singlestream", STAGES),
            ("multistream", STAGES),
            ("offline", ()),
            ("engine", ("run",)),
        ):
            with open_queries(loaded, pictures, scenario=scenario, batch_size=2, workers=1) as opened:
                assert opened.stages == stages
                assert len(opened.answer()) == (len(stages) or 1)
