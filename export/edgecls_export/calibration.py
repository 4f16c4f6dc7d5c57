"""Pictures to the range of every activation, remembered by content.

A cache entry's name is a digest over all that its ranges depend on: graph and weights, preprocess, pictures, method
and parameters, versions. A changed weight, picture or parameter makes another name, so old ranges are never met; an
entry that is damaged, or was renamed, is measured anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgecls_export.activations import ObservedGraph, float_tensors
from edgecls_export.calibrators import Percentile
from edgecls_export.histogram import collect_histograms
from edgecls_runtime.errors import OutputError
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    from edgecls_export.calibration_images import CalibrationImages
    from edgecls_export.calibrators import Calibrator
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["Ranges", "calibrate", "check_cache"]

_log = logging.getLogger(__name__)

_OTHER_CACHE = "Choose another folder for --calibration-cache, with some space, or leave it out."
_FORMAT = 1  # of a cache entry; part of its key


@dataclass(frozen=True, eq=False)
class Ranges:
    """What 8 bits shall span, for each activation.

    Attributes:
        values: (low, high) by tensor name; 0 lies within.
        method: of the calibrator.
        parameters: of the calibrator.
        symmetric: whether low is -high.
        images: number of pictures.
        cached: whether a cache entry answered.
    """

    values: Mapping[str, tuple[float, float]]
    method: str
    parameters: Mapping[str, float]
    symmetric: bool
    images: int
    cached: bool = False

    def __str__(self) -> str:
        parameters = "".join(f" {value:g}" for value in self.parameters.values())
        return (
            f"ranges of {len(self.values)} activations ({self.method}{parameters}, "
            f"{'symmetric' if self.symmetric else 'asymmetric'}) from {self.images} pictures"
            f"{', from the cache' if self.cached else ''}"
        )


def calibrate(
    source: str | os.PathLike[str],
    images: CalibrationImages,
    *,
    preprocess: Preprocess,
    method: Calibrator | None = None,
    symmetric: bool = False,
    tensors: Collection[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> Ranges:
    """Find the range of every activation of a float32 graph over some pictures.

    Args:
        source: one ONNX file in float32.
        images: the pictures.
        preprocess: what turns them into the input.
        method: 99.999 % of the values if None.
        symmetric: for signed 8 bits without a zero point.
        tensors: names of the activations; all of them if None.
        cache: folder of remembered ranges, made where it is missing; None remembers nothing.
        progress: called with the number of pictures done and their total, each counted twice.

    Raises:
        ImageError: a picture cannot be read.
        CalibrationError: the graph computes what is no number.
        OutputError: the cache cannot be written.
    """
    method = Percentile() if method is None else method
    model = onnx.load(source)
    names = [name for name in float_tensors(model) if tensors is None or name in tensors]
    entry, key = None, {}
    if cache is not None:
        key = _key(model, images, preprocess, method, symmetric=symmetric, names=names)
        entry = Path(cache) / f"{_digest(key)}.json"
        check_cache(cache)
        if values := _read(entry, key, names):
            return Ranges(values, method.name, _parameters(method), symmetric, len(images.sources), cached=True)
    graph = ObservedGraph(model, names)
    del model  # VGG-16's weights are 550 MB, and the session has its own
    histograms = collect_histograms(graph, images.sources, preprocess, progress=progress)
    values = {name: method.range(histogram, symmetric=symmetric) for name, histogram in histograms.items()}
    if entry is not None:
        _write(entry, key, values)
    return Ranges(values, method.name, _parameters(method), symmetric, len(images.sources))


def _parameters(method: Calibrator) -> dict[str, float]:
    return {name: float(value) for name, value in dataclasses.asdict(method).items()}


def _key(
    model: onnx.ModelProto,
    images: CalibrationImages,
    preprocess: Preprocess,
    method: Calibrator,
    *,
    symmetric: bool,
    names: list[str],
) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "graph": hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest(),
        "preprocess": dataclasses.asdict(preprocess),
        "images": images.digest(),
        "method": method.name,
        "parameters": _parameters(method),
        "symmetric": symmetric,
        "tensors": names,
        "versions": {name: _version(name) for name in ("edgecls", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def check_cache(folder: str | os.PathLike[str]) -> None:
    """Make the folder of a cache, and refuse one that cannot be written to: before the minutes of calibration.

    Raises:
        OutputError: says why.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: the calibration cache cannot be written: {error.strerror}", _OTHER_CACHE
        ) from error


def _read(entry: Path, key: dict[str, Any], names: list[str]) -> dict[str, tuple[float, float]]:
    """Return an entry's ranges; nothing if it is not there, and nothing with a warning if it is not to be trusted."""
    if not entry.is_file():
        return {}
    try:
        document = json.loads(entry.read_bytes())
        same = json.loads(json.dumps(key)) == document["key"] and _digest(document["ranges"]) == document["sha256"]
        values = {name: (float(low), float(high)) for name, (low, high) in document["ranges"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        same, values = False, {}
    if same and list(values) == names:
        return values
    _log.warning("%s: is damaged or belongs to another calibration: measured anew", entry)
    return {}


def _write(entry: Path, key: dict[str, Any], values: dict[str, tuple[float, float]]) -> None:
    document = {"key": key, "ranges": values, "sha256": _digest(values)}
    try:
        with whole_file(entry, force=True) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n")
    except OutputError as error:
        raise OutputError(error.cause, _OTHER_CACHE) from error
