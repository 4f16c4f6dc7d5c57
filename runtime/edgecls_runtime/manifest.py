"""The contract: what an exported model says about itself, in one JSON document inside the file.

The document rides in the ONNX file's ``metadata_props`` under the key ``edgecls``. Its version is
``major.minor``: a reader refuses another major version, and ignores unknown fields only if the document's minor
version is newer than its own. Everything else that is missing, ill-typed or unknown is a `ManifestError`.
"""

from __future__ import annotations

import binascii
import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgecls_runtime import onnx_file
from edgecls_runtime.errors import ManifestError
from edgecls_runtime.preprocess import Preprocess  # noqa: TC001 - the reader resolves the annotations

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["MANIFEST_KEY", "MANIFEST_VERSION", "Golden", "Manifest", "Source", "TopK", "read", "write"]

MANIFEST_KEY = "edgecls"
MANIFEST_VERSION = "1.2"
MAX_MANIFEST_BYTES = 16 * 2**20
"""Largest manifest that is read: 200 times that of a thousand ImageNet classes."""

MAX_GOLDEN_PICTURES = 16
"""Golden pictures at most; the exporter takes 4."""

Precision = Literal["fp32", "fp16", "int8"]
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the weights came from.

    Attributes:
        weights: a file name, a name of torchvision's (``MobileNet_V2_Weights.IMAGENET1K_V2``) or ``random``.
        sha256: over the names, shapes, dtypes and values of the state dict.
    """

    weights: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The right answers to pictures that every device can draw for itself (`edgecls_runtime.golden`).

    PyTorch's in float32; below that the artifact's own, given by the machine that proved it against PyTorch
    (`edgecls_runtime.tolerance` says why).

    Attributes:
        contract_sha256: `Manifest.contract_sha256` at export.
        pixels_sha256: of each picture's uint8 [H, W, 3] pixels after resize and crop.
        logits_f32_base64: little-endian float32 [pictures, classes].
    """

    contract_sha256: str
    pixels_sha256: tuple[str, ...]
    logits_f32_base64: str

    def logits(self) -> NDArray[np.float32]:
        """Return float32 [pictures, classes]."""
        flat = np.frombuffer(binascii.a2b_base64(self.logits_f32_base64, strict_mode=True), "<f4")
        return flat.reshape(len(self.pixels_sha256), -1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The best classes, which a graph names itself beside its logits: for programs that want no more.

    Attributes:
        k: number of classes.
        scores_name: output float32 [N, k], best first: probabilities as ``activation`` makes them of the logits, over
            all classes.
        indices_name: output int64 [N, k], of the labels; equal logits go by index.
    """

    k: int
    scores_name: str = "scores"
    indices_name: str = "indices"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an exported model says about itself.

    Attributes:
        arch: name of the architecture.
        precision: of weights and arithmetic.
        target: the engine that the graph was shaped for; ``any`` if it suits all.
        labels: the classes' names, in the order of the outputs.
        activation: what turns logits into scores.
        thresholds: for ``sigmoid``, the score from which each label counts; None otherwise.
        preprocess: what turns a picture into the input.
        input_name, output_name: of the graph; the output is that of the logits.
        top_k: further outputs; None if there are none.
        batch_size: fixed number of pictures a run; None if it is free.
        opset: version of the default operator set.
        graph_sha256: `edgecls_runtime.onnx_file.graph_sha256` at export.
        source: where the weights came from.
        metrics: what training measured, by name (``acc@1`` in percent).
        calibration: of INT8; None otherwise. This and ``parity`` are for readers, not for running: any JSON object,
            which `edgecls_export.provenance` writes and reads.
        float_layers: of FP16 and INT8: nodes that stay in float32, each with its reason.
        parity: proof against PyTorch.
        golden: answers to check on the device.
        tools: versions of the packages that made the file.
    """

    arch: str
    precision: Precision
    target: str = "any"
    labels: tuple[str, ...]
    activation: Activation = "softmax"
    thresholds: tuple[float, ...] | None = None
    preprocess: Preprocess
    input_name: str = "input"
    output_name: str = "logits"
    top_k: TopK | None = None
    batch_size: int | None = None
    opset: int
    graph_sha256: str
    source: Source
    metrics: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    float_layers: tuple[str, ...] = ()
    parity: dict[str, Any] | None = None
    golden: Golden | None = None
    tools: dict[str, str] = field(default_factory=dict)

    def contract_sha256(self) -> str:
        """Return the SHA-256 of what turns a picture into an input and an output into names."""
        import hashlib

        preprocess = dataclasses.asdict(self.preprocess)
        if self.preprocess.input_layout == "NCHW-float":
            del preprocess["input_layout"]  # new in 1.2: what did not change keeps its digest
        parts = (list(self.labels), self.activation, self.thresholds, preprocess)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the document that `from_json` reads."""
        document = {"manifest_version": MANIFEST_VERSION, **dataclasses.asdict(self)}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, where: str = "manifest") -> Manifest:
        """Read a document strictly.

        Raises:
            ManifestError: says which field is wrong, and what was found there.
        """
        if len(text) > MAX_MANIFEST_BYTES:
            raise _bad(where, f"is {len(text):,} characters long, over the limit of {MAX_MANIFEST_BYTES:,}")
        try:
            document = json.loads(text, parse_constant=_no_constant)
            newer = _check_version(document, where)
            manifest: Manifest = from_document(cls, document, where, ignore_unknown=newer)
        except (ValueError, RecursionError) as error:
            raise _bad(where, f"is not valid JSON: {error}") from error
        _check_consistency(manifest, where)
        return manifest


def read(path: str | os.PathLike[str]) -> Manifest | None:
    """Read the manifest of an ONNX file; None if it carries none.

    Raises:
        ModelError: the file cannot be read.
        ManifestError: its manifest is damaged.
    """
    text = onnx_file.read_header(path).metadata.get(MANIFEST_KEY)
    return None if text is None else Manifest.from_json(text, where=f"{path}: manifest")


def write(manifest: Manifest, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy an ONNX file with this manifest inside.

    Raises:
        ModelError: the source is not a whole ONNX file.
        OSError: the target cannot be written.
    """
    onnx_file.write_metadata(source, target, key=MANIFEST_KEY, value=manifest.to_json())


def from_document(cls: type[Any], document: object, where: str, *, ignore_unknown: bool = False) -> Any:
    """Build a dataclass from parsed JSON, every field checked against its annotation.

    Raises:
        ManifestError: says which field is wrong, and what was found there.
    """
    if not isinstance(document, dict):
        raise _bad(where, f"is {_show(document)}, not an object")
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    unknown = [name for name in document if name not in fields]
    if unknown and not ignore_unknown:
        raise _bad(where, f"has an unknown field {unknown[0]!r}")
    values = {}
    for name, item in fields.items():
        if name in document:
            values[name] = _value(hints[name], document[name], f"{where}: {name}", ignore_unknown)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise _bad(where, f"lacks the field {name!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise _bad(where, str(error)) from error


def _value(hint: Any, value: object, where: str, ignore_unknown: bool) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_document(typing.cast("type[Any]", hint), value, where, ignore_unknown=ignore_unknown)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        listed = [option for option in options if typing.get_origin(option) is tuple]
        return _value(listed[0] if listed and isinstance(value, list) else options[0], value, where, ignore_unknown)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _bad(where, f"is {_show(value)}, not one of {', '.join(arguments)}")
        return value
    if origin is tuple:
        count = None if arguments[-1] is Ellipsis else len(arguments)
        if not isinstance(value, list) or (count is not None and len(value) != count):
            raise _bad(where, f"is {_show(value)}, not a list" + (f" of {count}" if count else ""))
        if set(map(type, value)) <= {arguments[0]}:
            return tuple(value)  # a thousand labels, at once
        return tuple(_value(arguments[0], item, f"{where}[{i}]", ignore_unknown) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise _bad(where, f"is {_show(value)}, not an object")
        return {key: _value(arguments[1], item, f"{where}[{key}]", ignore_unknown) for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _bad(where, f"is {_show(value)}, too large for a number") from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _bad(where, f"is {_show(value)}, not of type {hint.__name__}")
    return value


def _check_version(document: object, where: str) -> bool:
    """Refuse another major version; return whether the document's minor version is newer than ours."""
    version = document.pop("manifest_version", None) if isinstance(document, dict) else None
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise _bad(where, f"has no readable manifest_version ({_show(version)})")
    major, minor = (int(part) for part in parts)
    our_major, our_minor = (int(part) for part in MANIFEST_VERSION.split("."))
    if major != our_major:
        raise ManifestError(
            f"{where}: is of version {version}; this edgecls reads {our_major}.x",
            "Export the model again with this edgecls, or install the edgecls that made it (see its `tools`).",
        )
    return minor > our_minor


def _check_consistency(manifest: Manifest, where: str) -> None:
    classes = len(manifest.labels)
    if classes == 0:
        raise _bad(where, "labels: is empty")
    for index, label in enumerate(manifest.labels):
        if not label.isprintable():  # a label is printed on terminals: no escape codes, no line breaks
            raise _bad(where, f"labels[{index}]: {label!r} holds a control character")
    if (manifest.thresholds is not None) != (manifest.activation == "sigmoid"):
        raise _bad(where, f"thresholds: go with activation sigmoid alone (activation is {manifest.activation})")
    if manifest.thresholds is not None and len(manifest.thresholds) != classes:
        raise _bad(where, f"thresholds: has {len(manifest.thresholds)} values for {classes} labels")
    if manifest.top_k is not None and not 1 <= manifest.top_k.k <= classes:
        raise _bad(where, f"top_k: k is {manifest.top_k.k}, not from 1 to {classes}")
    golden = manifest.golden
    if golden is None:
        return
    try:
        size = len(binascii.a2b_base64(golden.logits_f32_base64, strict_mode=True))
    except ValueError as error:
        raise _bad(where, f"golden: logits_f32_base64: is not base64 ({error})") from error
    pictures = len(golden.pixels_sha256)
    if not 1 <= pictures <= MAX_GOLDEN_PICTURES or size != 4 * pictures * classes:
        raise _bad(where, f"golden: logits_f32_base64: {size} bytes for {pictures} pictures of {classes} classes")


def _bad(where: str, what: str) -> ManifestError:
    return ManifestError(f"{where}: {what}", "The file was damaged or edited by hand: export the model again.")


def _show(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
