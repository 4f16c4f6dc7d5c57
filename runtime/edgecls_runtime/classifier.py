"""A picture in, named classes out."""

from __future__ import annotations

import contextlib
import threading
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import ModelError
from edgecls_runtime.loaded import LoadedModel, Prediction, scores_from_logits
from edgecls_runtime.loading import load_model
from edgecls_runtime.preprocess import MAX_PIXELS, ImageSource, Preprocess, load

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from typing import Literal, Self

    from numpy.typing import NDArray

    from edgecls_runtime.backends.settings import Placement, SessionSettings
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.profile import Profile
    from edgecls_runtime.stream import Classification

__all__ = ["Classifier", "Prediction", "scores_from_logits"]


def _of(path: str) -> Any:
    """Return a read-only attribute that lies elsewhere in the object."""
    return property(attrgetter(path))


class Classifier:
    """A loaded model that names what is in a picture. Safe to call from several threads.

    Its attributes say what is loaded; `reload` changes them, all at once.
    """

    def __init__(
        self, model: LoadedModel, *, max_pixels: int = MAX_PIXELS, decode: Literal["exact", "fast"] = "exact"
    ) -> None:
        self.max_pixels = max_pixels
        self.decode = decode
        self._model = model
        self._closed = False
        self._swapping = threading.Lock()
        self._inputs = threading.local()

    # What belongs to a file is read from one object, which `reload` replaces in one step.
    path: str = _of("_model.path")
    """Path of the model file."""
    manifest: Manifest | None = _of("_model.manifest")
    """What the file says about itself; None for a foreign model."""
    labels: tuple[str, ...] = _of("_model.labels")
    """The classes' names, in the order of the outputs."""
    preprocess: Preprocess = _of("_model.preprocess")
    """What turns a picture into the input."""
    activation: str = _of("_model.activation")
    """``softmax``, ``sigmoid``, or ``identity`` where a foreign graph ends in its own softmax."""
    assumptions: tuple[str, ...] = _of("_model.assumptions")
    """What had to be assumed, because neither file nor caller said it."""
    batch_size: int | None = _of("_model.batch_size")
    """Fixed number of pictures a run; None if it is free."""
    placement: Placement = _of("_model.placement")
    """Provider, threads and settings that were asked for."""
    thresholds: tuple[float, ...] | None = _of("_model.thresholds")
    """With ``sigmoid``, the score from which each label counts."""
    provider: str = _of("_model.backend.provider")
    """That really runs the model, in the engine's own words."""
    engine: str = _of("_model.backend.engine")
    """Name and version of the engine, and the precision it computes in where that can be chosen."""

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        provider: str | None = None,
        threads: int | None = None,
        settings: SessionSettings | None = None,
        profile: Profile | str | os.PathLike[str] | None = None,
        labels: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        max_pixels: int = MAX_PIXELS,
        decode: Literal["exact", "fast"] = "exact",
        trust: bool = False,
        engine_cache: str | os.PathLike[str] | None = None,
    ) -> Classifier:
        """Load an ONNX file, or a TensorRT engine with the sidecar beside it.

        Args:
            path: of the file. A file of edgecls's own says everything; a foreign one leaves labels and preprocess
                to the arguments, and what is not given is assumed, logged, and listed in ``assumptions``.
            provider: ``cpu``, ``cuda``, ``openvino`` or ``tensorrt``; what was asked for, or an error. None for the
                CPU, and for TensorRT with an engine, which runs nowhere else.
            threads: for one run; None for one a physical core that this process may use.
            settings: what else the engine lets one choose.
            profile: of `edgecls tune`, or its file, in place of the three above.
            labels: for a foreign file.
            preprocess: for a foreign file.
            max_pixels: larger pictures are refused.
            decode: ``exact`` makes torchvision's very pixels. ``fast`` decodes large JPEG files at a part of their size
                and resizes in two steps: several times as quick for photos of many megapixels, with scores that are
                near (``benchmarks/fast_decode.py`` says how near). The golden outputs are verified exactly either way.
            trust: run an engine without a sidecar, or one that its sidecar does not vouch for. It is executable code
                with the rights of this process.
            engine_cache: folder where TensorRT keeps what it compiled for this GPU.

        Raises:
            ModelError: the file cannot be used, or is not a picture classifier.
            ManifestError: its manifest is damaged or contradicts the model.
            ProviderError: the provider is not there, or has no such setting.
            ProfileError: the profile is of another model, machine or engine.
            MissingDependencyError: the engine's package is not installed.
        """
        if decode not in ("exact", "fast"):
            raise ValueError(f'decode is {decode!r}, must be "exact" or "fast"')
        model = load_model(
            path,
            provider=provider,
            threads=threads,
            settings=settings,
            profile=profile,
            labels=labels,
            preprocess=preprocess,
            trust=trust,
            engine_cache=engine_cache,
        )
        return cls(model, max_pixels=max_pixels, decode=decode)

    def predict(
        self, image: ImageSource, top_k: int = 5, *, color: Literal["RGB", "BGR"] = "RGB"
    ) -> tuple[Prediction, ...]:
        """Name what is in a picture.

        Args:
            image: a path, bytes, binary stream, Pillow image, or uint8 array: [H, W, 3], [H, W, 4] with alpha, or
                gray as [H, W] or [H, W, 1]; views and flipped or cropped arrays as they are.
            top_k: how many classes at most, best first. With sigmoid the labels below their thresholds are left out.
            color: order of an array's channels; ``BGR`` for frames of OpenCV. All else knows its own order.

        Raises:
            ImageError: the picture cannot be read.
            ModelError: the model failed, or returned a number that is none.
        """
        with self.hold() as model:
            return model.top(self._logits(model, image, color), top_k)

    def predict_batch(
        self, images: Sequence[ImageSource], top_k: int = 5, *, color: Literal["RGB", "BGR"] = "RGB"
    ) -> list[tuple[Prediction, ...]]:
        """Name what is in each of several pictures, all in one run (or runs of the model's fixed batch size).

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the model failed, or returned a number that is none.
        """
        with self.hold() as model:
            batch = model.preprocess.new_batch(len(images))
            for row, image in zip(batch, images, strict=True):
                self.fill(row, image, model, color)
            return [model.top(row, top_k) for row in model.run(batch)]

    def predict_stream(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 5,
        batch_size: int | None = None,
        workers: int | None = None,
        ahead: int | None = None,
        color: Literal["RGB", "BGR"] = "RGB",
    ) -> Generator[Classification, None, None]:
        """Name what is in each of any number of pictures, in their order, while others are decoded and run.

        A picture that cannot be read yields its error and stops nothing. Memory does not grow with the number of
        pictures. Close the generator, or just drop it, to end early. On a CPU load the model with ``threads=1``:
        each worker decodes and runs, so that all cores are busy without engine threads of their own.

        Args:
            images: as for `predict`; read lazily, in the caller's thread, no further than ``ahead``. They are decoded
                later, in other threads: an array or an image is not to be changed or given twice before its answer.
            top_k: as for `predict`.
            batch_size: pictures a run; the last run may have fewer. None: what the file fixes, else 4 on a CPU and 16
                elsewhere (never measured), or as many as ``ahead`` gives to each worker. Scores were the same to the
                bit for 1, 4 and 8 on ONNX Runtime's and OpenVINO's CPU.
            workers: threads that decode, and on a CPU run the model at the same time; None: one for each usable CPU.
            ahead: pictures that are read before the first is answered, ``batch_size`` at least; None: four for each
                worker and two batches. A live source that should be answered at once wants 1.
            color: as for `predict`.

        Raises:
            ModelError: the model failed, or returned a number that is none.
            Exception: whatever reading ``images`` raised, after the answers to those before it.
        """
        from edgecls_runtime.stream import classify

        return classify(self, images, top_k=top_k, batch_size=batch_size, workers=workers, ahead=ahead, color=color)

    def logits(self, image: ImageSource, *, color: Literal["RGB", "BGR"] = "RGB") -> NDArray[np.float32]:
        """Return the model's raw outputs for a picture, float32 [classes].

        Raises:
            ImageError: the picture cannot be read.
            ModelError: the model failed, or returned a number that is none.
        """
        with self.hold() as model:
            return self._logits(model, image, color)

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, classes], of preprocessed pictures (`edgecls_runtime.preprocess.load`).

        A model with a fixed batch size runs as often as needed; the last run is filled up with black pictures,
        whose logits are dropped.

        Raises:
            ModelError: the model failed, or returned a number that is none.
            ValueError: the batch is not of the shape and dtype that the model takes.
        """
        with self.hold() as model:
            return model.run(batch)

    def reload(self, path: str | os.PathLike[str]) -> None:
        """Put another file in the place of this model, while other threads may go on predicting.

        The new file is loaded to the same provider, threads, settings and engine cache, and verified by its golden
        outputs, beside the old one; then it takes over in one step, labels and preprocess with it. Each prediction is
        of the one or of the other. The old engine is closed when the last run on it is over. If anything is wrong with
        the new file, the old one stays.

        Raises:
            ModelError: the file cannot be used, or this classifier is closed.
            ManifestError: its manifest is damaged, or it has no golden outputs.
            VerificationError: this machine does not compute what the file was exported to compute.
            ProviderError: the provider cannot run it.
        """
        from edgecls_runtime.golden import verify_loaded

        here, cache = self.placement, self._model.engine_cache
        other = load_model(
            path, provider=here.provider, threads=here.threads, settings=here.settings, engine_cache=cache
        )
        try:
            verify_loaded(other).require()
            with self._swapping:
                if self._closed:
                    raise _closed_error(self.path)
                old, self._model = self._model, other
        except BaseException:
            other.close()
            raise
        old.close()

    def close(self) -> None:
        """Free the engine's memory, after the runs in flight."""
        with self._swapping:
            self._closed = True
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        decoding = "" if self.decode == "exact" else f", decode {self.decode}"
        return f"<Classifier {self.path}: {len(self.labels)} classes on {self.provider} ({self.engine}){decoding}>"

    @contextlib.contextmanager
    def hold(self) -> Iterator[LoadedModel]:
        """Yield the model of this moment, and keep it open within the block."""
        model = self.acquire()
        try:
            yield model
        finally:
            model.release()

    def acquire(self) -> LoadedModel:
        """Return the model of this moment, open until its `LoadedModel.release`."""
        while not (model := self._model).acquire():  # `reload` has put another in its place, or it is over
            if self._closed:
                raise _closed_error(model.path)
        return model

    def fill(self, row: NDArray[Any], image: ImageSource, model: LoadedModel, color: Literal["RGB", "BGR"]) -> None:
        """Turn a picture into a row of a batch, as this classifier was told to."""
        load(image, model.preprocess, out=row, max_pixels=self.max_pixels, color=color, fast=self.decode == "fast")

    def _logits(self, model: LoadedModel, image: ImageSource, color: Literal["RGB", "BGR"]) -> NDArray[np.float32]:
        # One input for each thread, written over by every picture: fresh memory costs 2 % of MobileNetV2's time.
        if getattr(self._inputs, "preprocess", None) is not model.preprocess:
            self._inputs.preprocess, self._inputs.batch = model.preprocess, model.preprocess.new_batch(1)
        batch = self._inputs.batch
        self.fill(batch[0], image, model, color)
        (logits,) = model.run(batch)
        return np.asarray(logits)


def _closed_error(path: str) -> ModelError:
    return ModelError(f"{path}: the classifier is closed", "Load it again with Classifier.load().")
