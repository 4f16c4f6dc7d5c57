"""Many pictures, one after the other: decoding and inference overlap, and memory does not grow with their number.

Every thread takes a picture, decodes it, and if that makes a group whole, runs the model on it. Nothing is handed from
decoding threads to an inferring one, so none waits for the other: whichever of the two costs more, all cores work. On a
CPU that is quickest with a model that runs in one thread (``Classifier.load(path, threads=1)``). There a few pictures
are decoded before the model runs on them, one after the other: each run finds in the caches what the one before it left
there, and a decode would have driven out. ``benchmarks/folder.py`` measures what comes of it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
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

# A GPU gains from batches; how large a one is best depends on model and memory, and is the caller's to measure.
_GPU_BATCH_SIZE = 16
# MobileNetV2 answers a tenth more pictures with 4 than with 1, and with 8 no more than with 4.
_CPU_GROUP = 4
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


class _Group:
    """Pictures that are decoded before one model runs on them all, whatever `Classifier.reload` does meanwhile."""

    def __init__(self, sources: list[ImageSource], classifier: Classifier) -> None:
        self.sources = sources
        self.model = classifier.acquire()
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
    size = default_batch_size(classifier) if batch_size is None else batch_size
    count = usable_cpus() if workers is None else workers
    limit = 4 * count + 2 * max(size, _CPU_GROUP) if ahead is None else ahead
    for name, number in (("top_k", top_k), ("batch_size", size), ("workers", count), ("ahead", limit)):
        if number < 1:
            raise ValueError(f"{name} is {number}, must be at least 1")
    # No more than lets all threads work with so few ahead.
    together = size * max(1, min(_CPU_GROUP, limit // count) // size) if on_cpu else size
    spare: deque[NDArray[Any]] = deque()
    turn = threading.BoundedSemaphore(count if on_cpu else _GPU_RUNS)
    unanswered: set[_Group] = set()

    def work(place: tuple[_Group, int]) -> Future[Classification]:
        group, row = place
        source, answer = group.sources[row], group.answers[row]
        inputs = group.inputs(spare, together)
        try:
            classifier.fill(inputs[row], source, group.model, color)
        except ImageError as error:  # a new one, without the frames that the traceback of this one holds
            answer.set_result(Classification(source, (), ImageError(error.cause, error.remedy)))
        except BaseException as error:  # noqa: BLE001 - the group must become whole; raised where it is asked for
            answer.set_exception(error)
        if group.is_whole():
            try:
                with turn:
                    run(group, inputs)
            except BaseException as error:  # noqa: BLE001 - raised where the answers are asked for
                for unset in (future for future in group.answers if not future.done()):
                    unset.set_exception(error)
            group.model.release()
            unanswered.discard(group)
            spare.append(inputs)
        return answer

    def run(group: _Group, inputs: NDArray[Any]) -> None:
        rows = [row for row, answer in enumerate(group.answers) if not answer.done()]
        decoded = inputs if len(rows) == together else inputs[rows]
        logits: list[NDArray[Any]] = []
        try:  # run after run, with next to nothing between them that the caches would have to make room for
            for start in range(0, len(rows), size):
                logits.extend(group.model.run(decoded[start : start + size]))
        finally:  # of a model that fails, what it computed before counts
            for row, values in zip(rows, logits, strict=False):
                group.answers[row].set_result(Classification(group.sources[row], group.model.top(values, top_k)))

    def answers() -> Generator[Classification, None, None]:
        places = _places(images, together, classifier, unanswered)
        try:
            # Never less ahead than a batch: what waits for its group would wait for ever.
            with contextlib.closing(bounded_map(work, places, workers=count, ahead=max(limit, size))) as done:
                for answer in done:
                    yield answer.result()
        finally:
            for group in tuple(unanswered):
                group.model.release()

    return answers()


def default_batch_size(classifier: Classifier) -> int:
    """Return how many pictures a run has if nobody says."""
    return classifier.batch_size or (1 if "CPU" in classifier.provider else _GPU_BATCH_SIZE)


def _places(
    images: Iterable[ImageSource], size: int, classifier: Classifier, unanswered: set[_Group]
) -> Iterator[tuple[_Group, int]]:
    """Yield each picture's place in its group. What reading them raises is raised after the pictures before it."""
    remaining = iter(images)
    while True:
        sources: list[ImageSource] = []
        failure: Exception | None = None
        try:
            for source in itertools.islice(remaining, size):
                sources.append(source)  # one by one: what was read before an exception counts
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
        group = _Group(sources, classifier)
        unanswered.add(group)
        for row in range(len(sources)):
            yield group, row
        if failure is not None:
            raise failure
        if len(sources) < size:
            return
