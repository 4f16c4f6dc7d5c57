"""Name what a camera sees, or a video shows, with OpenCV (pip install opencv-python-headless).

    python examples/camera.py mobilenet_v2.onnx                  the first camera
    python examples/camera.py mobilenet_v2.onnx --source 2
    python examples/camera.py mobilenet_v2.onnx --source video.mp4

The newest frame wins: a thread reads frames and keeps only the last one, so that a model slower than the camera answers
what is there now, and not a growing past. Frames go to the model as they come, BGR and all.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from edgecls_runtime import Classifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NewestFrame:
    """Read a capture in a thread and keep its newest frame alone.

    Args:
        capture: a ``cv2.VideoCapture``, or what has its ``read`` and ``release``; used by the thread alone.
        frames_per_second: to read at, for a file, which could be read to its end at once; None for a camera.

    Attributes:
        skipped: frames so far that a newer one came before.
    """

    def __init__(self, capture: Any, frames_per_second: float | None = None) -> None:
        self.skipped = 0
        self._capture = capture
        self._pause_s = 1 / frames_per_second if frames_per_second else 0.0
        self._frame: NDArray[np.uint8] | None = None
        self._change = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)
        self._thread.start()

    def take(self) -> NDArray[np.uint8] | None:
        """Wait for a frame that was not taken yet; None once the capture has ended."""
        with self._change:
            self._change.wait_for(lambda: self._frame is not None or self._ended.is_set())
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """End the thread, which lets go of the camera."""
        self._ended.set()
        self._thread.join(5)  # a camera that was pulled out may never answer

    def _work(self) -> None:
        due = time.monotonic()
        try:
            while not self._ended.is_set():
                there, frame = self._capture.read()
                if not there:
                    break
                with self._change:
                    self.skipped += self._frame is not None
                    self._frame = frame
                    self._change.notify_all()
                due += self._pause_s
                self._ended.wait(max(0.0, due - time.monotonic()))
        finally:
            self._capture.release()
            with self._change:
                self._ended.set()
                self._change.notify_all()


def watch(classifier: Classifier, frames: NewestFrame, every_s: float = 1.0) -> None:
    """Answer frames until they end, and print now and then what was seen most, how often, and how quickly."""
    seen: Counter[str] = Counter()
    started, skipped = time.monotonic(), frames.skipped
    while True:
        frame = frames.take()
        now = time.monotonic()
        if seen and (frame is None or now - started >= every_s):
            (label, times), answered = seen.most_common(1)[0], seen.total()
            rate = f"{answered / (now - started):6.1f} fps  {frames.skipped - skipped:4d} skipped"
            print(f"{rate}  {times / answered:4.0%}  {label}")
            seen.clear()
            started, skipped = now, frames.skipped
        if frame is None:
            return
        predictions = classifier.predict(frame, 1, color="BGR")
        seen[predictions[0].label if predictions else "-"] += 1


@click.command()
@click.argument("model")
@click.option(
    "--source", default="0", show_default=True, help="Number of a camera, or a video file, or a stream's URL."
)
@click.option("--threads", type=int, help="CPU threads of one run.")
def main(model: str, source: str, threads: int | None) -> None:
    """Name what a camera sees, or a video shows."""
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise click.ClickException(f"{source}: no camera or video that OpenCV can open")
    is_file = not source.isdigit() and "://" not in source
    with Classifier.load(model, threads=threads) as classifier:
        frames = NewestFrame(capture, capture.get(cv2.CAP_PROP_FPS) if is_file else None)
        try:
            watch(classifier, frames)
        except KeyboardInterrupt:
            pass
        finally:
            frames.close()


if __name__ == "__main__":
    main()
