"""From a model file to a model that runs. What is wrong with a file is found here, before a picture comes."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from edgecls_runtime import manifest as manifests
from edgecls_runtime import onnx_file
from edgecls_runtime.backends import default_provider, is_engine, open_backend
from edgecls_runtime.backends.settings import Placement, SessionSettings
from edgecls_runtime.errors import ManifestError, ModelError
from edgecls_runtime.loaded import LoadedModel
from edgecls_runtime.preprocess import MAX_SIDE, Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgecls_runtime.backends import Backend
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.onnx_file import TensorInfo
    from edgecls_runtime.profile import Profile

__all__ = ["load_model"]

_log = logging.getLogger(__name__)

_OTHERS = "The manifest belongs to another model: export the model again."


def load_model(
    path: str | os.PathLike[str],
    *,
    provider: str | None = None,
    threads: int | None = None,
    settings: SessionSettings | None = None,
    profile: Profile | str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    trust: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
) -> LoadedModel:
    """Load a model; arguments and errors are those of `edgecls_runtime.classifier.Classifier.load`."""
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
    taken = manifest.preprocess if manifest else preprocess
    if header:
        outputs = _without_top_k(where, header.outputs, manifest)
        _check_is_classifier(where, header.inputs, outputs, taken)  # before the engine spends time on it
    if profile is not None:
        profile.check_model(where, manifest)
    backend = open_backend(path, placement, plan=plan, engine_cache=engine_cache)
    if profile is not None:
        profile.check_engine(where, backend.engine)
    if not header:
        _check_is_classifier(where, (backend.input,), (backend.output,), taken)
    classes = _classes(where, backend)
    assumptions = list(plan.assumptions) if plan else []
    if manifest:
        _check_manifest(where, manifest, backend, classes)
        labels, preprocess = manifest.labels, manifest.preprocess
        activation: str = manifest.activation
    else:
        if labels is None:
            labels = [f"class {index}" for index in range(classes)]
            assumptions.append(f"no labels given for {classes} classes: they go by their index")
        if len(labels) != classes:
            raise ManifestError(
                f"{where}: {len(labels)} labels for {classes} outputs", "Give one label for each output, in its order."
            )
        if preprocess is None:
            height, width = _input_size(where, backend, None) or (224, 224)
            preprocess = Preprocess(resize_size=round(min(height, width) * 256 / 224), crop_size=(height, width))
            assumptions.append(f"no preprocess given: ImageNet's assumed ({preprocess})")
        elif (size := _input_size(where, backend, preprocess)) and preprocess.crop_size != size:
            raise ManifestError(
                f"{where}: the preprocess crops to {preprocess.crop_size}, the model takes {size} (height, width)",
                "Give the preprocess that the model was trained with.",
            )
        last_op = header.last_op if header else ""
        if last_op in ("Softmax", "Sigmoid"):
            activation = "identity"
            assumptions.append(f"the graph ends in its own {last_op}: its outputs are the scores")
        else:  # softmax of a single output is 1, whatever it is
            activation, what = ("softmax", "one label a picture") if classes > 1 else ("sigmoid", "one output")
            assumptions.append(f"{what}: {activation} over the outputs")
    for assumption in assumptions:
        _log.warning("%s: %s", where, assumption)
    return LoadedModel(
        backend=backend,
        engine_cache=engine_cache,
        placement=placement,
        path=where,
        manifest=manifest,
        labels=tuple(labels),
        preprocess=preprocess,
        activation=activation,
        assumptions=tuple(assumptions),
    )


def _without_top_k(where: str, outputs: Sequence[TensorInfo], manifest: Manifest | None) -> Sequence[TensorInfo]:
    """Leave out the outputs of the best classes, which say nothing that the logits do not."""
    if manifest is None or manifest.top_k is None:
        return outputs
    names = (manifest.output_name, manifest.top_k.scores_name, manifest.top_k.indices_name)
    if tuple(tensor.name for tensor in outputs) != names:
        raise ManifestError(f"{where}: manifest: names the outputs {', '.join(names)}, the model others", _OTHERS)
    return outputs[:1]


def _check_is_classifier(
    where: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], preprocess: Preprocess | None
) -> None:
    """Refuse what shows by its inputs and outputs not to be a picture classifier."""
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) != 1:
            names = ", ".join(tensor.name for tensor in tensors) or "none"
            raise ModelError(
                f"{where}: is not a picture classifier: {len(tensors)} {kind}s ({names})",
                f"Give a model with one {kind}: a picture in, logits out.",
            )
    info = inputs[0]
    pixels = preprocess is not None and preprocess.input_layout == "NHWC-uint8"
    if info.dtype not in (("uint8",) if pixels else ("float32", "float16")):
        raise ModelError(
            f"{where}: takes {info}, not {'uint8 pixels' if pixels else 'normalized float pictures'}",
            f"Give a model whose input is {'uint8 [N, H, W, 3]' if pixels else 'float32 or float16 [N, 3, H, W]'}.",
        )
    shape = info.shape or (None,) * 4
    fixed = [axis for axis in shape if isinstance(axis, int)]
    channels = shape[3 if pixels else 1] if len(shape) == 4 else 0
    if (isinstance(channels, int) and channels != 3) or not all(1 <= axis <= MAX_SIDE for axis in fixed):
        raise ModelError(
            f"{where}: is not a picture classifier: takes {info}",
            f"Give a model whose input is [N, 3, H, W], of up to {MAX_SIDE:,} pixels a side; a channels-last one needs "
            "a transpose in front.",
        )


def _classes(where: str, backend: Backend) -> int:
    """Return the number of classes from the output's shape: [N, classes], or [N, classes, 1, 1]."""
    shape = backend.output.shape or ()
    floats = backend.output.dtype.startswith("float")
    if len(shape) < 2 or not isinstance(shape[1], int) or any(axis != 1 for axis in shape[2:]) or not floats:
        raise ModelError(
            f"{where}: is not a picture classifier: returns {backend.output}",
            "Give a model whose output is float [N, classes].",
        )
    return shape[1]


def _input_size(where: str, backend: Backend, preprocess: Preprocess | None) -> tuple[int, int] | None:
    """Return (height, width) if the model fixes both."""
    shape = backend.input.shape
    if shape is None or len(shape) != 4:
        raise ModelError(f"{where}: takes {backend.input}", "Give a model whose input is [N, 3, H, W].")
    height, width = shape[1:3] if preprocess and preprocess.input_layout == "NHWC-uint8" else shape[2:4]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _check_manifest(where: str, manifest: Manifest, backend: Backend, classes: int) -> None:
    """Hold the manifest against the model that carries it."""
    if len(manifest.labels) != classes:
        raise ManifestError(f"{where}: manifest: {len(manifest.labels)} labels for {classes} outputs", _OTHERS)
    names = (backend.input.name, backend.output.name)
    if names != (manifest.input_name, manifest.output_name):
        wanted = (manifest.input_name, manifest.output_name)
        raise ManifestError(f"{where}: manifest: names {wanted}, the model has {names}", _OTHERS)
    size = _input_size(where, backend, manifest.preprocess)
    if size and size != manifest.preprocess.crop_size:
        raise ManifestError(
            f"{where}: manifest: crop_size {manifest.preprocess.crop_size}, the model takes {size}", _OTHERS
        )
    batch = (backend.input.shape or (None,))[0]
    if is_engine(where) and manifest.batch_size is None:
        return  # an engine's profile may fix what the graph leaves free
    if manifest.batch_size != (batch if isinstance(batch, int) else None):
        raise ManifestError(f"{where}: manifest: batch_size {manifest.batch_size}, the model takes {batch}", _OTHERS)
