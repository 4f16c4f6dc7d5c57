"""The examples that the suite can run in seconds."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    spec = importlib.util.spec_from_file_location("camera", Path(__file__).parents[1] / "examples" / "camera.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeCapture:
    """What ``cv2.VideoCapture`` looks like: frames, each when the test allows it."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames = iter(frames)
        self.allowed = threading.Semaphore(0)
        self.released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        assert self.allowed.acquire(timeout=30)
        frame = next(self.frames, None)
        return frame is not None, frame

    def release(self) -> None:
        self.released = True


def wait_for_skipped(frames: object, count: int) -> None:
    with frames._change:  # type: ignore[attr-defined]
        assert frames._change.wait_for(lambda: frames.skipped == count, 30)  # type: ignore[attr-defined]


def test_the_newest_frame_wins(camera: ModuleType) -> None:
    pictures = [np.full((4, 4, 3), number, np.uint8) for number in range(6)]
    capture = FakeCapture(pictures)
    frames = camera.NewestFrame(capture)
    capture.allowed.release(3)
    wait_for_skipped(frames, 2)
    assert frames.take()[0, 0, 0] == 2  # 0 and 1 came while nobody looked
    capture.allowed.release()
    assert frames.take()[0, 0, 0] == 3  # waits for the next, and never gives one twice
    capture.allowed.release(3)
    wait_for_skipped(frames, 3)
    frames._thread.join(30)
    assert frames.take()[0, 0, 0] == 5
    assert frames.take() is None
    assert capture.released


def test_closing_ends_the_thread_and_lets_go_of_the_camera(camera: ModuleType) -> None:
    capture = FakeCapture([np.zeros((4, 4, 3), np.uint8)] * 1000)
    capture.allowed.release(1000)
    frames = camera.NewestFrame(capture, frames_per_second=0.01)
    frames.take()
    frames.close()
    assert not frames._thread.is_alive()
    assert capture.released
    assert frames.skipped == 0


def test_frames_are_answered_as_the_camera_gives_them(
    camera: ModuleType, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Classifier.load(models / "tiny.onnx")
    predict, asked = tiny.predict, []

    def watched(*arguments: object, **options: object) -> object:
        asked.append((arguments, options))
        return predict(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tiny, "predict", watched)
    frame = draw_picture(1)[..., ::-1]
    capture = FakeCapture([frame])
    capture.allowed.release(2)
    camera.watch(tiny, camera.NewestFrame(capture))
    (line,) = capsys.readouterr().out.splitlines()
    assert asked == [((frame, 1), {"color": "BGR"})]
    assert line.endswith(f" fps     0 skipped  100%  {predict(frame, 1, color='BGR')[0].label}")


def test_the_camera_example_needs_no_more_than_the_runtime(camera: ModuleType) -> None:
    assert "cv2" not in vars(camera)
    assert camera.Classifier is sys.modules["edgecls_runtime.classifier"].Classifier
