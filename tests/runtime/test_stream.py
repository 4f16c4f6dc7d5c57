from __future__ import annotations

import gc
import io
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls_runtime import Classifier
from edgecls_runtime.errors import ImageError, ModelError
from edgecls_runtime.golden import draw_picture

PICTURES = [draw_picture(number) for number in range(7)]


@pytest.fixture(params=["tiny", "fixed4"])
def tiny(models: Path, request: pytest.FixtureRequest) -> Classifier:
    return Classifier.load(models / f"{request.param}.onnx", threads=1)


def stream_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgecls"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert stream_threads() == []


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 50])
@pytest.mark.parametrize("workers", [1, 3])
def test_answers_are_those_of_predict_in_the_pictures_order(
    tiny: Classifier, batch_size: int | None, workers: int
) -> None:
    pictures = [PICTURES[number % 7] for number in range(23)]
    results = list(tiny.predict_stream(pictures, top_k=3, batch_size=batch_size, workers=workers))
    assert [result.source is picture for result, picture in zip(results, pictures, strict=True)] == [True] * 23
    for result in results:
        expected = tiny.predict(result.source, 3)
        assert [item.index for item in result.predictions] == [item.index for item in expected]
        np.testing.assert_allclose(
            [item.score for item in result.predictions], [item.score for item in expected], rtol=1e-5
        )
        assert result.error is None


@pytest.mark.parametrize("batch_size", [1, 4, 40])
def test_bad_pictures_are_records_in_their_places(tiny: Classifier, tmp_path: Path, batch_size: int) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    bad = [str(tmp_path / "bad.jpg"), b"", np.zeros((2, 2), np.float32), tmp_path / "none.jpg"]
    sources = [*PICTURES, *bad, *bad, *PICTURES]
    results = list(tiny.predict_stream(sources, batch_size=batch_size, workers=2))
    assert [result.error is None for result in results] == [True] * 7 + [False] * 8 + [True] * 7
    assert [len(result.predictions) for result in results] == [5] * 7 + [0] * 8 + [5] * 7
    error = results[7].error
    assert isinstance(error, ImageError)
    assert error.cause == f"{tmp_path}/bad.jpg: is not a picture of a kind that is read (starts with b'no picture')"
    assert error.__traceback__ is None
    assert str(results[7]) == str(error)
    assert [item.index for item in results[-1].predictions] == [item.index for item in results[6].predictions]


def test_a_result_prints_itself(models: Path, tmp_path: Path) -> None:
    Image.fromarray(PICTURES[0]).save(tmp_path / "photo.png")
    tiny = Classifier.load(models / "tiny.onnx")
    (result,) = tiny.predict_stream([tmp_path / "photo.png"], top_k=1)
    assert str(result) == f"{tmp_path}/photo.png\n  {result.predictions[0]}"


def test_nothing_to_do(tiny: Classifier) -> None:
    assert list(tiny.predict_stream([])) == []


@pytest.mark.parametrize(("workers", "batch_size", "ahead"), [(2, 1, None), (1, 4, None), (2, 1, 1), (2, 4, 1)])
def test_endless_pictures_are_read_no_further_than_said(
    models: Path, workers: int, batch_size: int, ahead: int | None
) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    read = itertools.count()
    endless = (PICTURES[number % 7] for number in read)
    results = tiny.predict_stream(endless, workers=workers, batch_size=batch_size, ahead=ahead)
    for _ in itertools.islice(results, 50):
        pass
    results.close()
    most = max(ahead or 4 * workers + 2 * batch_size, batch_size)
    assert 50 <= next(read) < 50 + most + batch_size
    assert stream_threads() == []


def test_memory_does_not_grow_with_the_pictures(models: Path) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    alive: list[int] = []

    class Watched(io.BytesIO):
        def __init__(self) -> None:
            super().__init__(content)
            alive.append(id(self))

        def __del__(self) -> None:
            alive.remove(id(self))

    buffer = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(buffer, "PNG")
    content = buffer.getvalue()
    most = 0
    results = tiny.predict_stream((Watched() for _ in range(300)), workers=2, batch_size=2)
    while next(results, None) is not None:
        most = max(most, len(alive))
    assert 0 < most < 4 * 2 + 2 * 2 + 10
    gc.collect()
    assert alive == []


def test_pictures_are_decoded_by_several_threads_at_once(models: Path) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    both = threading.Barrier(2, timeout=30)

    class Meeting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not self.tell():
                both.wait()
            return super().read(size)

    buffer = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(buffer, "PNG")

    class Unseekable(Meeting):
        def seekable(self) -> bool:
            return False  # is read at once, as a whole

    results = tiny.predict_stream([Unseekable(buffer.getvalue()) for _ in range(4)], workers=2)
    assert [result.error for result in results] == [None] * 4


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_reading_the_pictures_raises_comes_after_the_answers_before_it(tiny: Classifier, batch_size: int) -> None:
    def pictures() -> Iterator[np.ndarray]:
        yield from PICTURES
        raise OSError("the share is gone")

    results = tiny.predict_stream(pictures(), batch_size=batch_size)
    assert len(list(itertools.islice(results, 7))) == 7
    with pytest.raises(OSError, match="the share is gone"):
        next(results)
    assert stream_threads() == []


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [4, 4, 2]),
        ({"ahead": 9, "workers": 3}, [3, 3, 3, 1]),
        ({"ahead": 1}, [1] * 10),
        ({"ahead": 1, "batch_size": 5}, [5, 5]),
        ({"ahead": 40, "workers": 2}, [4, 4, 2]),
    ],
)
def test_a_run_has_four_pictures_unless_fewer_are_ahead(
    models: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, int], sizes: list[int]
) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    run, taken = tiny._model.run, []

    def noted(batch: np.ndarray) -> np.ndarray:
        taken.append(len(batch))
        return run(batch)

    monkeypatch.setattr(tiny._model, "run", noted)
    assert len(list(tiny.predict_stream(PICTURES[:1] * 10, **{"workers": 1} | options))) == 10
    assert sorted(taken, reverse=True) == sizes


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_model_that_fails_ends_the_stream(models: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    run, count = tiny._model.run, itertools.count()

    def fails_once(batch: np.ndarray) -> np.ndarray:
        if next(count) == 2:
            raise ModelError("the model: broke", "Mend it.")
        return run(batch)

    monkeypatch.setattr(tiny._model, "run", fails_once)
    results = tiny.predict_stream(itertools.cycle(PICTURES), batch_size=batch_size, workers=1)
    for _ in range(2 * batch_size):
        next(results)
    with pytest.raises(ModelError, match="broke"):
        next(results)
    assert stream_threads() == []


def test_a_source_of_a_wrong_type_is_a_record(tiny: Classifier) -> None:
    """What OpenCV's imread returns for a file that it cannot read, say."""
    results = list(tiny.predict_stream([PICTURES[0], None, PICTURES[1]], batch_size=3))  # type: ignore[list-item]
    assert [result.error is None for result in results] == [True, False, True]
    assert results[1].error is not None
    assert results[1].error.cause == "<NoneType>: not a picture"


def test_what_reading_a_picture_raises_is_raised_and_does_not_wait_for_its_batch(tiny: Classifier) -> None:
    class Odd:
        def seekable(self) -> bool:
            raise KeyboardInterrupt

        def read(self) -> bytes:
            return b""

    with pytest.raises(KeyboardInterrupt):
        list(tiny.predict_stream([PICTURES[0], Odd(), PICTURES[1]], batch_size=3))  # type: ignore[list-item]


def test_a_stream_that_is_lost_ends_its_threads(models: Path) -> None:
    tiny = Classifier.load(models / "tiny.onnx", threads=1)
    results = tiny.predict_stream(itertools.cycle(PICTURES))
    next(results)
    assert stream_threads() != []
    del results
    gc.collect()
    assert stream_threads() == []


def test_a_closed_classifier_says_so(tiny: Classifier) -> None:
    results = tiny.predict_stream(itertools.cycle(PICTURES))
    next(results)
    tiny.close()
    with pytest.raises(ModelError, match="closed"):
        list(results)


def test_several_streams_of_one_classifier_at_once(tiny: Classifier) -> None:
    expected = [tiny.predict(picture) for picture in PICTURES]

    def answers(shift: int) -> bool:
        pictures = [PICTURES[(number + shift) % 7] for number in range(70)]
        found = [result.predictions for result in tiny.predict_stream(pictures, workers=2)]
        return [[item.index for item in items] for items in found] == [
            [item.index for item in expected[(number + shift) % 7]] for number in range(70)
        ]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(answers, range(8)))


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"batch_size": 0}, {"workers": 0}, {"ahead": 0}])
def test_wrong_numbers_are_refused_at_the_call(models: Path, wrong: dict[str, int]) -> None:
    tiny = Classifier.load(models / "tiny.onnx")
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is 0, must be at least 1"):
        tiny.predict_stream([], **wrong)


BEGIN = """
import itertools, os, sys, threading
from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture
results = Classifier.load(sys.argv[1], threads=1).predict_stream(itertools.cycle([draw_picture(1)]), workers=4)
for _ in range(10):
    next(results)
print("begun", flush=True)
"""


def test_a_process_ends_while_a_stream_is_open_and_referenced(models: Path) -> None:
    code = BEGIN + "import builtins; builtins.kept = results\n"
    done = subprocess.run(
        [sys.executable, "-c", code, str(models / "tiny.onnx")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")


def test_a_process_ends_while_a_thread_reads_from_a_silent_pipe(models: Path) -> None:
    code = BEGIN + (
        "results.close()\n"
        "from edgecls_runtime import parallel\n"
        "parallel._PATIENCE_S = 0.2\n"
        "pipe = open(os.pipe()[0], 'rb')\n"
        "silent = Classifier.load(sys.argv[1]).predict_stream([draw_picture(1), pipe], workers=2, ahead=2)\n"
        "next(silent)\n"
        "assert sum(thread.name == 'edgecls' for thread in threading.enumerate())\n"
        "import builtins; builtins.kept = silent\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(models / "tiny.onnx")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT to send")
def test_ctrl_c_ends_a_stream(models: Path) -> None:
    import signal

    code = BEGIN + (
        "try:\n    for _ in results: pass\n"
        "except KeyboardInterrupt:\n    pass\n"
        "print([thread.name for thread in threading.enumerate()])\n"
    )
    arguments = [sys.executable, "-c", code, str(models / "tiny.onnx")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "['MainThread']\n", "")


def test_a_picture_still_in_work_keeps_its_model_when_the_stream_is_closed(models: Path) -> None:
    """Its thread may be about to run the model; and each picture lets go of it once."""
    model = Classifier.load(models / "tiny.onnx", threads=1)
    begun, silent = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def seekable(self) -> bool:
            begun.set()
            return silent.wait(60)

    encoded = io.BytesIO()
    Image.fromarray(PICTURES[0]).save(encoded, "PNG")
    stream = model.predict_stream([b"bad", Slow(encoded.getvalue())], batch_size=1, workers=2)
    next(stream)
    assert begun.wait(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgecls_runtime.parallel._PATIENCE_S", 0.0)
        stream.close()
    del stream
    assert model._model._holders == 1
    model.close()
    assert model._model.backend._session is not None
    silent.set()
    for thread in stream_threads():
        thread.join(60)
    gc.collect()
    assert model._model._holders == 0
    assert model._model.backend._session is None
