"""What is timed: pictures to answers, through the very functions of `Classifier.predict` and `predict_stream`."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgecls.benchmark.document import STAGES
from edgecls_runtime.errors import ImageError
from edgecls_runtime.preprocess import decode, load, normalize, resize_and_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from edgecls_runtime.classifier import Classifier
    from edgecls_runtime.loaded import LoadedModel
    from edgecls_runtime.stream import Classification

__all__ = ["EngineQueries", "Queries", "StagedQueries", "StreamedQueries", "open_queries"]

_TOP_K = 5  # the default of Classifier.predict
_PREPROCESSED = 64  # pictures: 38 MB of 3 x 224 x 224 in float32, more than the caches of most CPUs hold


class Queries(Protocol):
    """Queries one after the other, through the pictures in their order and again from the first.

    Attributes:
        stages: whose times `answer` returns; none if a query is one time.
        pictures: a query.
    """

    stages: tuple[str, ...]
    pictures: int

    def begin(self) -> None:
        """Come to the state in which one query follows another, after a pause."""

    def rewind(self) -> None:
        """Go on from the first picture, where pictures are not read ahead."""

    def answer(self) -> tuple[int, ...]:
        """Answer the next query; return the nanoseconds that each stage took, one right after the other.

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the model failed, or returned a number that is none.
        """
        ...


class StagedQueries:
    """Queries of one run each, stage after stage: the steps of `Classifier.predict`, with a clock between them.

    One thing differs: a file is read before it is decoded, where Pillow would read it piece by piece.

    Args:
        model: that is held open.
        paths: of the pictures.
        batch_size: pictures a query.
        max_pixels: larger pictures are refused.
        clock: nanoseconds that never go back.
    """

    stages: tuple[str, ...] = STAGES

    def __init__(
        self,
        model: LoadedModel,
        paths: Sequence[str],
        *,
        batch_size: int,
        max_pixels: int,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.pictures = batch_size
        self._model = model
        self._paths = paths
        self._at = 0
        self._batch = model.preprocess.new_batch(batch_size)
        self._max_pixels = max_pixels
        self._clock = clock

    def begin(self) -> None:
        """Answer the last query again: what the process did meanwhile has left its own things in the caches."""
        self._at -= self.pictures
        self.answer()

    def rewind(self) -> None:
        """Go on from the first picture."""
        self._at = 0

    def answer(self) -> tuple[int, ...]:
        """Answer the next query; see `Queries.answer`."""
        clock, model, preprocess, max_pixels = self._clock, self._model, self._model.preprocess, self._max_pixels
        read_ns = decode_ns = resize_ns = normalize_ns = 0
        paths = [self._paths[index % len(self._paths)] for index in range(self._at, self._at + self.pictures)]
        self._at += self.pictures
        began = clock()
        for path, row in zip(paths, self._batch, strict=True):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError as error:  # it was there when it was listed
                cause = f"{path}: cannot be read: {error.strerror}"
                raise ImageError(cause, "Leave the pictures as they are while they are measured.") from error
            read = clock()
            try:
                image = decode(data, preprocess, max_pixels=max_pixels)
            except ImageError as error:
                raise ImageError(f"{path}: {error.cause}", error.remedy) from error
            del data  # what a stage needed is freed within it
            decoded = clock()
            pixels = resize_and_crop(image, preprocess, max_pixels=max_pixels)
            del image
            resized = clock()
            normalize(pixels, preprocess, out=row)
            del pixels
            normalized = clock()
            read_ns += read - began
            decode_ns += decoded - read
            resize_ns += resized - decoded
            normalize_ns += normalized - resized
            began = normalized
        logits = model.run(self._batch)
        ran = clock()
        for values in logits:
            model.top(values, _TOP_K)
        ended = clock()
        return read_ns, decode_ns, resize_ns, normalize_ns, ran - began, ended - ran


class EngineQueries:
    """Runs alone, one right after the other, of batches that were preprocessed before anything is timed.

    So onnxruntime_perf_test, OpenVINO's benchmark_app and trtexec measure it: nothing between two runs takes the caches
    or lets the engine's threads fall asleep, as the pictures of a real program do. The clock starts when a batch lies
    where the engine reads it, the same memory each time as in `Classifier.predict`, and stops before its logits are
    checked: both are ours, not the engine's.

    Args:
        model: that is held open.
        paths: of the pictures.
        batch_size: pictures a run.
        max_pixels: larger pictures are refused.
        clock: nanoseconds that never go back.

    Raises:
        ImageError: a picture cannot be read.
    """

    stages: tuple[str, ...] = ("run",)

    def __init__(
        self,
        model: LoadedModel,
        paths: Sequence[str],
        *,
        batch_size: int,
        max_pixels: int,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.pictures = batch_size
        self._model = model
        self._clock = clock
        taken = itertools.cycle(paths)
        self._batches = [model.preprocess.new_batch(batch_size) for _ in range(-(-_PREPROCESSED // batch_size))]
        for row in itertools.chain.from_iterable(self._batches):
            load(next(taken), model.preprocess, out=row, max_pixels=max_pixels)
        self._batch = np.empty_like(self._batches[0], dtype=model.backend.input.dtype)  # half, perhaps
        self._at = 0

    def begin(self) -> None:
        """Run the last batch again, which wakes the engine's threads."""
        self._at -= 1
        self.answer()

    def rewind(self) -> None:
        """Go on from the first batch."""
        self._at = 0

    def answer(self) -> tuple[int, ...]:
        """Run the next batch; return the nanoseconds that it took."""
        np.copyto(self._batch, self._batches[self._at % len(self._batches)], casting="same_kind")
        self._at += 1
        began = self._clock()
        logits = self._model.backend.run(self._batch)
        took = self._clock() - began
        self._model.checked(logits)
        return (took,)


class StreamedQueries:
    """Queries of `Classifier.predict_stream`, whose stages overlap: each is as many answers as are in work at a time.

    Args:
        classifier: with a model that runs in ``CPUs / workers`` threads.
        paths: of the pictures.
        batch_size: pictures a run.
        workers: threads of the stream.
        clock: nanoseconds that never go back.
    """

    stages: tuple[str, ...] = ()

    def __init__(
        self,
        classifier: Classifier,
        paths: Sequence[str],
        *,
        batch_size: int,
        workers: int,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        # No fewer than the stream reads ahead: those it has answered during a pause are gone after one query.
        self.pictures = batch_size * -(-4 * workers // batch_size) + 2 * batch_size
        self._answers: Generator[Classification, None, None] = classifier.predict_stream(
            itertools.cycle(paths), top_k=_TOP_K, batch_size=batch_size, workers=workers, ahead=self.pictures
        )
        self._clock = clock
        self._mark = clock()

    def begin(self) -> None:
        """Answer what the stream has ready, which does not count."""
        self.answer()

    def rewind(self) -> None:
        """Go on as it is: the stream has read ahead."""

    def answer(self) -> tuple[int, ...]:
        """Answer the next query; return the nanoseconds since the last one was answered."""
        for result in itertools.islice(self._answers, self.pictures):
            if result.error is not None:
                raise result.error
        before, self._mark = self._mark, self._clock()
        return (self._mark - before,)

    def close(self) -> None:
        """End the stream."""
        self._answers.close()


@contextlib.contextmanager
def open_queries(
    classifier: Classifier, paths: Sequence[str], *, scenario: str, batch_size: int, workers: int
) -> Iterator[Queries]:
    """Yield the queries of a scenario of `edgecls.benchmark.document.Setup`."""
    if scenario == "offline":
        with contextlib.closing(StreamedQueries(classifier, paths, batch_size=batch_size, workers=workers)) as queries:
            yield queries
    else:
        kind = EngineQueries if scenario == "engine" else StagedQueries
        with classifier.hold() as model:
            yield kind(model, paths, batch_size=batch_size, max_pixels=classifier.max_pixels)
