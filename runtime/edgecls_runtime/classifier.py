"""A picture in, named classes out."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecls_runtime import manifest as manifests
from edgecls_runtime import onnx_file
from edgecls_runtime.backends import Backend, open_backend
from edgecls_runtime.engine_file import is_engine
from edgecls_runtime.errors import ManifestError, ModelError
from edgecls_runtime.preprocess import MAX_PIXELS, ImageSource, Preprocess, load

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import Literal, Self

    from numpy.typing import NDArray

    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.onnx_file import TensorInfo
    from edgecls_runtime.stream import Classification

__all__ = ["Classifier", "Prediction", "scores_from_logits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A class and its score: a probability with softmax, a per-label probability with sigmoid."""

    index: int
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.score:8.2%}  {self.label}"


class Classifier:
    """A loaded model that names what is in a picture. Safe to call from several threads.

    Attributes:
        path: of the model file.
        manifest: what the file says about itself; None for a foreign model.
        labels: the classes' names, in the order of the outputs.
        preprocess: what turns a picture into the input.
        activation: ``softmax``, ``sigmoid``, or ``identity`` where a foreign graph ends in its own softmax.
        batch_size: fixed number of pictures a run; None if it is free.
        assumptions: what had to be assumed, because neither file nor caller said it.
        provider: that really runs the model, in the engine's own words.
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
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.labels = labels
        self.preprocess = preprocess
        self.activation = activation
        self.thresholds = manifest.thresholds if manifest else None
        self.assumptions = assumptions
        self.max_pixels = max_pixels
        self.provider = backend.provider
        self.engine = backend.engine
        axis = (backend.input.shape or (None,))[0]
        self.batch_size = axis if isinstance(axis, int) else None
        self._dtype = np.dtype(backend.input.dtype)
        self._backend: Backend | None = backend
        self._inputs = threading.local()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        provider: str | None = None,
        threads: int | None = None,
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
            provider: ``cpu``, ``cuda`` or ``tensorrt``; what was asked for, or an error. None for the CPU, and for
                TensorRT with an engine, which runs nowhere else.
            threads: for one run; None leaves it to the engine.
            labels: for a foreign file.
            preprocess: for a foreign file.
            max_pixels: larger pictures are refused.
            trust: run an engine without a sidecar, or one that its sidecar does not vouch for. It is executable code
                with the rights of this process.
            engine_cache: folder where TensorRT keeps what it compiled for this GPU.

        Raises:
            ModelError: the file cannot be used, or is not a picture classifier.
            ManifestError: its manifest is damaged or contradicts the model.
            ProviderError: the provider is not there.
            MissingDependencyError: the engine's package is not installed.
        """
        where = os.fspath(path)
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
        backend = open_backend(path, provider=provider, threads=threads, plan=plan, engine_cache=engine_cache)
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
        return self.top(self.logits(image, color=color), top_k)

    def predict_batch(
        self, images: Sequence[ImageSource], top_k: int = 5, *, color: Literal["RGB", "BGR"] = "RGB"
    ) -> list[tuple[Prediction, ...]]:
        """Name what is in each of several pictures, all in one run (or runs of the model's fixed batch size).

        Raises:
            ImageError: a picture cannot be read.
            ModelError: the model failed, or returned a number that is none.
        """
        batch = np.empty((len(images), 3, *self.preprocess.crop_size), np.float32)
        for row, image in zip(batch, images, strict=True):
            load(image, self.preprocess, out=row, max_pixels=self.max_pixels, color=color)
        return [self.top(row, top_k) for row in self.run(batch)]

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
        # One input for each thread, written over by every picture: fresh memory costs 2 % of MobileNetV2's time.
        batch: NDArray[np.float32] | None = getattr(self._inputs, "batch", None)
        if batch is None:
            batch = self._inputs.batch = np.empty((1, 3, *self.preprocess.crop_size), np.float32)
        load(image, self.preprocess, out=batch[0], max_pixels=self.max_pixels, color=color)
        (logits,) = self.run(batch)
        return np.asarray(logits)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, classes], of preprocessed pictures, float32 [N, 3, H, W].

        A model with a fixed batch size runs as often as needed; the last run is filled up with black pictures,
        whose logits are dropped.

        Raises:
            ModelError: the model failed, or returned a number that is none.
        """
        if self._backend is None:
            raise ModelError(f"{self.path}: the classifier is closed", "Load it again with Classifier.load().")
        count, size = len(batch), self.batch_size
        if count == 0:
            return np.empty((0, len(self.labels)), np.float32)
        batch = batch.astype(self._dtype, copy=False)
        if size is None or count == size:
            logits = self._backend.run(batch)
        else:
            fill = np.zeros((-count % size, *batch.shape[1:]), batch.dtype)
            filled = np.concatenate([batch, fill])
            runs = [self._backend.run(filled[start : start + size]) for start in range(0, len(filled), size)]
            logits = np.concatenate(runs)[:count]
        logits = logits.reshape(count, -1)  # [N, classes, 1, 1] is a classifier too
        if logits.shape[1] != len(self.labels):
            raise ManifestError(
                f"{self.path}: returned {logits.shape[1]} outputs for {len(self.labels)} labels",
                "Give one label for each output, in its order.",
            )
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{self.path}: returned {logits[~np.isfinite(logits)][0]} on {self.provider}",
                f"The model or its engine is broken; check it with: edgecls verify {self.path}",
            )
        return logits

    def close(self) -> None:
        """Free the engine's memory."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Classifier {self.path}: {len(self.labels)} classes on {self.provider} ({self.engine})>"

    def top(self, logits: NDArray[np.float32], top_k: int = 5) -> tuple[Prediction, ...]:
        """Name the best classes of one picture's logits, float32 [classes], as `predict` does."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, must be at least 1")
        scores = scores_from_logits(logits, self.activation)
        # Everything from the k-th largest up, then only those few are sorted; equal scores go by index.
        count = min(top_k, len(logits))
        candidates = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
        best = candidates[np.argsort(-logits[candidates], kind="stable")][:count]
        if self.thresholds is not None:
            best = best[scores[best] >= np.asarray(self.thresholds)[best]]
        return tuple(Prediction(int(index), self.labels[index], float(scores[index])) for index in best)


def scores_from_logits(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Turn logits into scores between 0 and 1.

    Args:
        logits: float32 [..., classes].
        activation: ``softmax`` over the classes, ``sigmoid`` of each, or ``identity`` where they are scores already.

    Returns:
        float32 [..., classes].
    """
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        # The argument of exp is never positive, so it cannot overflow.
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


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
