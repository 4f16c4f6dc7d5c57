"""Many pictures, one after the other: decoding and inference overlap, and memory does not grow with their number.

Every thread takes a picture, decodes it, and if that makes a batch whole, runs the model on it. Nothing is handed from
decoding threads to an inferring one, so none waits for the other: whichever of the two costs more, all cores work. On a
CPU that is quickest with a model that runs in one thread (``Classifier.load(path, threads=1)``) on a few pictures at a
time: a decode before each run would drive the weights out of the caches. ``benchmarks/folder.py`` measures both.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.errors import ImageError
from edgecls_runtime.parallel import bounded_map
from edgecls_runtime.preprocess import describe_source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any, Literal

    from numpy.typing import NDArray

    from edgecls_runtime.classifier import Classifier, Prediction
    from edgecls_runtime.preprocess import ImageSource

__all__ = ["Classification", "classify", "default_batch_size"]

# Next to 1, a run of 4 takes AlexNet, which reads all its weights in each run, 36 % less a picture, VGG-16 9 %
# and V3-large 7 %, MobileNetV2 in int8 4 %, in float32 as much; 8 gain AlexNet 5 % more and lose MobileNetV2 3 %.
_CPU_BATCH_SIZE = 4
# A GPU gains from batches; how large a one is best depends on model and memory, and is the caller's to measure.
_GPU_BATCH_SIZE = 16
# One run computes while another one's pictures are copied; more would only fill the GPU's memory.
_GPU_RUNS = 2


@dataclass(frozen=True, eq=False)
class Classification:
    """What is in one picture of many.

    Attributes:
        source: the picture, as it was given.
        predictions: best first; empty if there is an error, or with sigmoid if no label is over its threshold.
        error: why the picture could not be read; None if it could.
    """

    source: ImageSource
    predictions: tuple[Prediction, ...]
    error: ImageError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return str(self.error)
        return "\n".join([describe_source(self.source), *(f"  {item}" for item in self.predictions)])


class _Batch:
    """Pictures that go through one model in one run, whatever `Classifier.reload` does meanwhile."""

    def __init__(self, sources: list[ImageSource], classifier: Classifier) -> None:
        self.sources = sources
        self.model = classifier.acquire()
        # Called when the batch was run; else when nobody has a picture of it in work, who might run it yet.
        self.release = weakref.finalize(self, self.model.release)
        self.release.atexit = False
        self.answers: list[Future[Classification]] = [Future() for _ in sources]
        self._inputs: NDArray[Any] | None = None
        self._open = len(sources)
        self._lock = threading.Lock()

    def inputs(self, spare: deque[NDArray[Any]], size: int) -> NDArray[Any]:
        """Return the memory for ``size`` pictures; a spare one if there is, for fresh memory costs time."""
        with self._lock:
            if self._inputs is None:
                self._inputs = self.model.preprocess.new_batch(size)  # costs nothing before it is written to
                with contextlib.suppress(IndexError):
                    old = spare.pop()
                    if (old.dtype, old.shape) == (self._inputs.dtype, self._inputs.shape):
                        self._inputs = old
            return self._inputs

    def is_whole(self) -> bool:
        """Count one more picture as decoded, or as bad; return whether it was the last."""
        with self._lock:
            self._open -= 1
            return self._open == 0


def classify(
    classifier: Classifier,
    images: Iterable[ImageSource],
    *,
    top_k: int = 5,
    batch_size: int | None = None,
    workers: int | None = None,
    ahead: int | None = None,
    color: Literal["RGB", "BGR"] = "RGB",
) -> Generator[Classification, None, None]:
    """See `Classifier.predict_stream`."""
    on_cpu = "CPU" in classifier.provider
    count = usable_cpus() if workers is None else workers
    size = default_batch_size(classifier, ahead, count) if batch_size is None else batch_size
    limit = 4 * count + 2 * size if ahead is None else ahead
    for name, number in (("top_k", top_k), ("batch_size", size), ("workers", count), ("ahead", limit)):
        if number < 1:
            raise ValueError(f"{name} is {number}, must be at least 1")
    spare: deque[NDArray[Any]] = deque()
    turn = threading.BoundedSemaphore(count if on_cpu else _GPU_RUNS)

    def work(place: tuple[_Batch, int]) -> Future[Classification]:
        batch, row = place
        source, answer = batch.sources[row], batch.answers[row]
        inputs = batch.inputs(spare, size)
        try:
            classifier.fill(inputs[row], source, batch.model, color)
        except ImageError as error:  # a new one, without the frames that the traceback of this one holds
            answer.set_result(Classification(source, (), ImageError(error.cause, error.remedy)))
        except BaseException as error:  # noqa: BLE001 - the batch must become whole; raised where it is asked for
            answer.set_exception(error)
        if batch.is_whole():
            try:
                with turn:
                    run(batch, inputs)
            except BaseException as error:  # noqa: BLE001 - raised where the answers are asked for
                for unset in (future for future in batch.answers if not future.done()):
                    unset.set_exception(error)
            batch.release()
            spare.append(inputs)
        return answer

    def run(batch: _Batch, inputs: NDArray[Any]) -> None:
        rows = [row for row, answer in enumerate(batch.answers) if not answer.done()]
        logits = batch.model.run(inputs if len(rows) == size else inputs[rows])
        for row, values in zip(rows, logits, strict=True):
            batch.answers[row].set_result(Classification(batch.sources[row], batch.model.top(values, top_k)))

    def answers() -> Generator[Classification, None, None]:
        places = _places(images, size, classifier)
        # Never less ahead than a batch: what waits for its batch would wait for ever.
        with contextlib.closing(bounded_map(work, places, workers=count, ahead=max(limit, size))) as done:
            for answer in done:
                yield answer.result()

    return answers()


def default_batch_size(classifier: Classifier, ahead: int | None = None, workers: int = 1) -> int:
    """Return how many pictures a run has if nobody says: no more than keep all workers busy with so few ahead."""
    size = _CPU_BATCH_SIZE if "CPU" in classifier.provider else _GPU_BATCH_SIZE
    return classifier.batch_size or (size if ahead is None else max(1, min(size, ahead // max(1, workers))))


def _places(images: Iterable[ImageSource], size: int, classifier: Classifier) -> Iterator[tuple[_Batch, int]]:
    """Yield each picture's place in its batch. What reading them raises is raised after the pictures before it."""
    remaining = iter(images)
    while True:
        sources: list[ImageSource] = []
        failure: Exception | None = None
        try:
            for source in itertools.islice(remaining, size):
                sources.append(source)  # one by one: what was read before an exception counts
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
        batch = _Batch(sources, classifier)
        for row in range(len(sources)):
            yield batch, row
        if failure is not None:
            raise failure
        if len(sources) < size:
            return
