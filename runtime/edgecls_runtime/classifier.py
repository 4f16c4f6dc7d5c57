"""A picture in, named classes out."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from edgecls_runtime import manifest as manifests
from edgecls_runtime import onnx_file
from edgecls_runtime.backends import Backend, default_provider, open_backend
from edgecls_runtime.backends.settings import Placement, SessionSettings
from edgecls_runtime.engine_file import is_engine
from edgecls_runtime.errors import ManifestError, ModelError
from edgecls_runtime.loaded import LoadedModel, Prediction, scores_from_logits
from edgecls_runtime.preprocess import MAX_PIXELS, ImageSource, Preprocess, load

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from typing import Literal, Self

    from numpy.typing import NDArray

    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.onnx_file import TensorInfo
    from edgecls_runtime.profile import Profile
    from edgecls_runtime.stream import Classification

__all__ = ["Classifier", "Prediction", "scores_from_logits"]

_log = logging.getLogger(__name__)


class Classifier:
    """A loaded model that names what is in a picture. Safe to call from several threads.

    Its attributes say what is loaded; `reload` changes them, all at once.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        path: str,
        manifest: Manifest | None,
        labels: tuple[str, ...],
        preprocess: Preprocess,
        activation: str,
        assumptions: tuple[str, ...] = (),
        max_pixels: int = MAX_PIXELS,
        placement: Placement | None = None,
    ) -> None:
        self.max_pixels = max_pixels
        self._model = LoadedModel(
            backend=backend,
            placement=placement or Placement(),
            path=path,
            manifest=manifest,
            labels=labels,
            preprocess=preprocess,
            activation=activation,
            assumptions=assumptions,
        )
        self._closed = False
        self._swapping = threading.Lock()
        self._inputs = threading.local()

    # What belongs to a file is read from one object, which `reload` replaces in one step.

    @property
    def path(self) -> str:
        """Path of the model file."""
        return self._model.path

    @property
    def manifest(self) -> Manifest | None:
        """What the file says about itself; None for a foreign model."""
        return self._model.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names, in the order of the outputs."""
        return self._model.labels

    @property
    def preprocess(self) -> Preprocess:
        """What turns a picture into the input."""
        return self._model.preprocess

    @property
    def activation(self) -> str:
        """``softmax``, ``sigmoid``, or ``identity`` where a foreign graph ends in its own softmax."""
        return self._model.activation

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What had to be assumed, because neither file nor caller said it."""
        return self._model.assumptions

    @property
    def batch_size(self) -> int | None:
        """Fixed number of pictures a run; None if it is free."""
        return self._model.batch_size

    @property
    def placement(self) -> Placement:
        """Provider, threads and settings that were asked for."""
        return self._model.placement

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """With ``sigmoid``, the score from which each label counts."""
        return self._model.thresholds

    @property
    def provider(self) -> str:
        """That really runs the model, in the engine's own words."""
        return self._model.backend.provider

    @property
    def engine(self) -> str:
        """Name and version of the engine, and the precision it computes in where that can be chosen."""
        return self._model.backend.engine

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
        where = os.fspath(path)
        if profile is not None:
            if (provider, threads, settings or SessionSettings()) != (None, None, SessionSettings()):
                raise ValueError("a profile says provider, threads and settings: leave them out")
            from edgecls_runtime import profile as profiles

            profile = profile if isinstance(profile, profiles.Profile) else profiles.read(profile)
            placement = profile.placement
        else:
            placement = Placement(
                provider=default_provider(path) if provider is None else provider,
                threads=threads,
                settings=settings or SessionSettings(),
            )
        plan = header = None
        if is_engine(path):
            from edgecls_runtime.preflight import read_plan

            plan = read_plan(path, trust=trust)
            manifest = plan.sidecar.manifest if plan.sidecar else None
        else:
            if trust:
                raise ModelError(f"{where}: is no TensorRT engine, and brings no code to trust", "Leave out --trust.")
            header = onnx_file.read_header(path)
            text = header.metadata.get(manifests.MANIFEST_KEY)
            manifest = None if text is None else manifests.Manifest.from_json(text, where=f"{where}: manifest")
        if manifest and (labels is not None or preprocess is not None):
            raise ModelError(f"{where}: carries its own labels and preprocess", "Leave out --labels and --preprocess.")
        if header:
            _check_is_classifier(where, header.inputs, header.outputs)  # before the engine spends time on it
        if profile is not None:
            profile.check_model(where, manifest)
        backend = open_backend(
            path,
            provider=placement.provider,
            threads=placement.threads,
            settings=placement.settings,
            plan=plan,
            engine_cache=engine_cache,
        )
        if profile is not None:
            profile.check_engine(where, backend.engine)
        if not header:
            _check_is_classifier(where, (backend.input,), (backend.output,))
        classes = _classes(where, backend)
        assumptions = list(plan.assumptions) if plan else []
        if manifest:
            _check_manifest(where, manifest, backend, classes)
            return cls(
                backend,
                path=where,
                manifest=manifest,
                labels=manifest.labels,
                preprocess=manifest.preprocess,
                activation=manifest.activation,
                assumptions=_logged(where, assumptions),
                max_pixels=max_pixels,
                placement=placement,
            )

        if labels is None:
            labels = [f"class {index}" for index in range(classes)]
            assumptions.append(f"no labels given for {classes} classes: they go by their index")
        if len(labels) != classes:
            raise ManifestError(
                f"{where}: {len(labels)} labels for {classes} outputs", "Give one label for each output, in its order."
            )
        size = _input_size(where, backend)
        if preprocess is None:
            height, width = size or (224, 224)
            preprocess = Preprocess(resize_size=round(min(height, width) * 256 / 224), crop_size=(height, width))
            assumptions.append(f"no preprocess given: ImageNet's assumed ({preprocess})")
        elif size and preprocess.crop_size != size:
            raise ManifestError(
                f"{where}: the preprocess crops to {preprocess.crop_size}, the model takes {size} (height, width)",
                "Give the preprocess that the model was trained with.",
            )
        last_op = header.last_op if header else ""
        activation = "identity" if last_op in ("Softmax", "Sigmoid") else "softmax"
        assumptions.append(
            f"the graph ends in its own {last_op}: its outputs are the scores"
            if activation == "identity"
            else "one label a picture: softmax over the outputs"
        )
        return cls(
            backend,
            path=where,
            manifest=None,
            labels=tuple(labels),
            preprocess=preprocess,
            activation=activation,
            assumptions=_logged(where, assumptions),
            max_pixels=max_pixels,
            placement=placement,
        )

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
            batch = np.empty((len(images), 3, *model.preprocess.crop_size), np.float32)
            for row, image in zip(batch, images, strict=True):
                load(image, model.preprocess, out=row, max_pixels=self.max_pixels, color=color)
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
            images: as for `predict`; read lazily, in the caller's thread, no further than ``ahead``.
            top_k: as for `predict`.
            batch_size: pictures a run; the last run may have fewer. None: what the file fixes, else 1 on a CPU (8 made
                MobileNetV2 6 % slower in float32 and 11 % quicker in int8) and 16 elsewhere (never measured).
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

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, classes], of preprocessed pictures, float32 [N, 3, H, W].

        A model with a fixed batch size runs as often as needed; the last run is filled up with black pictures,
        whose logits are dropped.

        Raises:
            ModelError: the model failed, or returned a number that is none.
        """
        with self.hold() as model:
            return model.run(batch)

    def reload(self, path: str | os.PathLike[str]) -> None:
        """Put another file in the place of this model, while other threads may go on predicting.

        The new file is loaded to the same provider, threads and settings, and verified by its golden outputs, beside
        the old one; then it takes over in one step, labels and preprocess with it. Each prediction is of the one or
        of the other. The old engine is closed when the last run on it is over. If anything is wrong with the new
        file, the old one stays.

        Raises:
            ModelError: the file cannot be used, or this classifier is closed.
            ManifestError: its manifest is damaged, or it has no golden outputs.
            VerificationError: this machine does not compute what the file was exported to compute.
            ProviderError: the provider cannot run it.
        """
        from edgecls_runtime.golden import verify_loaded

        where = self.placement
        other = Classifier.load(path, provider=where.provider, threads=where.threads, settings=where.settings)
        try:
            verify_loaded(other).require()
            with self._swapping:
                if self._closed:
                    raise _closed_error(self.path)
                old, self._model = self._model, other._model
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
        return f"<Classifier {self.path}: {len(self.labels)} classes on {self.provider} ({self.engine})>"

    @contextlib.contextmanager
    def hold(self) -> Iterator[LoadedModel]:
        """Yield the model of this moment, and keep it open within the block."""
        while True:
            model = self._model
            with model.hold() as here:
                if here:
                    yield model
                    return
            if self._closed:
                raise _closed_error(model.path)

    def _logits(self, model: LoadedModel, image: ImageSource, color: Literal["RGB", "BGR"]) -> NDArray[np.float32]:
        # One input for each thread, written over by every picture: fresh memory costs 2 % of MobileNetV2's time.
        shape = (1, 3, *model.preprocess.crop_size)
        batch: NDArray[np.float32] | None = getattr(self._inputs, "batch", None)
        if batch is None or batch.shape != shape:
            batch = self._inputs.batch = np.empty(shape, np.float32)
        load(image, model.preprocess, out=batch[0], max_pixels=self.max_pixels, color=color)
        (logits,) = model.run(batch)
        return np.asarray(logits)


def _closed_error(path: str) -> ModelError:
    return ModelError(f"{path}: the classifier is closed", "Load it again with Classifier.load().")


def _logged(where: str, assumptions: list[str]) -> tuple[str, ...]:
    for assumption in assumptions:
        _log.warning("%s: %s", where, assumption)
    return tuple(assumptions)


def _check_is_classifier(where: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> None:
    """Refuse what shows by its inputs and outputs not to be a picture classifier."""
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) != 1:
            names = ", ".join(tensor.name for tensor in tensors) or "none"
            raise ModelError(
                f"{where}: is not a picture classifier: {len(tensors)} {kind}s ({names})",
                f"Give a model with one {kind}: a picture in, logits out.",
            )
    info = inputs[0]
    if info.dtype not in ("float32", "float16"):
        raise ModelError(
            f"{where}: takes {info}, not normalized float pictures",
            "Give a model whose input is float32 or float16 [N, 3, H, W].",
        )
    channels = info.shape[1] if info.shape is not None and len(info.shape) == 4 else None
    if info.shape is not None and (len(info.shape) != 4 or (isinstance(channels, int) and channels != 3)):
        raise ModelError(
            f"{where}: is not a picture classifier: takes {info}",
            "Give a model whose input is [N, 3, H, W]; a channels-last one needs a transpose in front.",
        )


def _classes(where: str, backend: Backend) -> int:
    """Return the number of classes from the output's shape: [N, classes], or [N, classes, 1, 1]."""
    shape = backend.output.shape
    if shape is None or len(shape) < 2 or not isinstance(shape[1], int) or any(axis != 1 for axis in shape[2:]):
        raise ModelError(
            f"{where}: is not a picture classifier: returns {backend.output}",
            "Give a model whose output is [N, classes].",
        )
    if not backend.output.dtype.startswith("float"):
        raise ModelError(
            f"{where}: is not a picture classifier: returns {backend.output}", "Give a model that returns float logits."
        )
    return shape[1]


def _input_size(where: str, backend: Backend) -> tuple[int, int] | None:
    """Return (height, width) if the model fixes both."""
    shape = backend.input.shape
    if shape is None or len(shape) != 4:
        raise ModelError(f"{where}: takes {backend.input}", "Give a model whose input is [N, 3, H, W].")
    height, width = shape[2], shape[3]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _check_manifest(where: str, manifest: Manifest, backend: Backend, classes: int) -> None:
    """Hold the manifest against the model that carries it."""
    remedy = "The manifest belongs to another model: export the model again."
    if len(manifest.labels) != classes:
        raise ManifestError(f"{where}: manifest: {len(manifest.labels)} labels for {classes} outputs", remedy)
    names = (backend.input.name, backend.output.name)
    if names != (manifest.input_name, manifest.output_name):
        wanted = (manifest.input_name, manifest.output_name)
        raise ManifestError(f"{where}: manifest: names {wanted}, the model has {names}", remedy)
    size = _input_size(where, backend)
    if size and size != manifest.preprocess.crop_size:
        raise ManifestError(
            f"{where}: manifest: crop_size {manifest.preprocess.crop_size}, the model takes {size}", remedy
        )
    batch = (backend.input.shape or (None,))[0]
    if is_engine(where) and manifest.batch_size is None:
        return  # an engine's profile may fix what the graph leaves free
    if manifest.batch_size != (batch if isinstance(batch, int) else None):
        raise ManifestError(f"{where}: manifest: batch_size {manifest.batch_size}, the model takes {batch}", remedy)
