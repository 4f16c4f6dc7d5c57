"""Read what surrounds the weights of an ONNX file, without the onnx package and without loading the weights.

An ONNX file is one protobuf message (``ModelProto``). Walking its outermost fields takes microseconds, whatever
its size, finds a file that is cut short before any engine sees it, and serves every engine alike. Field
numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from edgecls_runtime.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

__all__ = ["OnnxHeader", "TensorInfo", "graph_sha256", "read_header", "write_metadata"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_IR_VERSION, _MODEL_PRODUCER, _MODEL_PRODUCER_VERSION = 1, 2, 3
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_OUTPUT, _NODE_OP_TYPE = 2, 4
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA = 8, 13
_ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}

_Field: TypeAlias = "tuple[int, int, int, int]"  # number, value if it is a varint, start, end


class TensorInfo(NamedTuple):
    """Name, element type and shape of an input or output; an int is a fixed axis, a name a free one, None unknown."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def __str__(self) -> str:
        axes = "unknown shape" if self.shape is None else "[" + ", ".join(str(axis or "?") for axis in self.shape) + "]"
        return f"{self.name}: {self.dtype} {axes}"


class OnnxHeader(NamedTuple):
    """What surrounds the weights of an ONNX file.

    Attributes:
        opset: version of the default operator set; 0 if the file names none.
        inputs: without the initializers that old files also list as inputs.
        last_op: type of the node that makes the first output.
        external_files: locations, relative to the file, of tensors that lie outside it.
    """

    ir_version: int
    producer: str
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    last_op: str
    metadata: dict[str, str]
    external_files: tuple[str, ...]


def read_header(path: str | os.PathLike[str]) -> OnnxHeader:
    """Read the header of an ONNX file and check that the tensors it keeps elsewhere are there.

    Raises:
        ModelError: not there, not ONNX, cut short, or its external data is missing or outside its folder.
    """
    with _OnnxBytes(path) as file:
        graph, metadata, opset, ir_version, producer = file.graph, {}, 0, 0, ["", ""]
        for number, value, start, end in file.fields():
            if number == _MODEL_IR_VERSION:
                ir_version = value
            elif number in (_MODEL_PRODUCER, _MODEL_PRODUCER_VERSION):
                producer[number - _MODEL_PRODUCER] = file.text(start, end)
            elif number == _MODEL_OPSET:
                version = {field: (value, start, end) for field, value, start, end in file.fields(start, end)}
                if 1 not in version or version[1][1] == version[1][2]:  # domain "" is the default one
                    opset = version.get(2, (0, 0, 0))[0]
            elif number == _MODEL_METADATA:
                key, entry = file.entry(start, end)
                metadata[key] = entry

        spans: dict[int, list[tuple[int, int]]] = {}
        for number, _, start, end in file.fields(*graph):
            spans.setdefault(number, []).append((start, end))
        inputs = [_tensor(file, *span) for span in spans.get(_GRAPH_INPUT, [])]
        outputs = [_tensor(file, *span) for span in spans.get(_GRAPH_OUTPUT, [])]
        weights = spans.get(_GRAPH_INITIALIZER, [])
        if len(inputs) > 1:
            names = {file.text(begin, stop) for begin, stop in file.subfields(weights, _TENSOR_NAME)}
            inputs = [info for info in inputs if info.name not in names]
        # Quantized files have thousands of small ones; of those only the few that may lie elsewhere are walked.
        large = [span for span in weights if span[1] - span[0] > 4096 or b"location" in bytes(file.view[slice(*span)])]
        entries = [file.entry(begin, stop) for begin, stop in file.subfields(large, _TENSOR_EXTERNAL_DATA)]
        header = OnnxHeader(
            ir_version=ir_version,
            producer=" ".join(part for part in producer if part),
            opset=opset,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            last_op=_maker(file, spans.get(_GRAPH_NODE, []), outputs[0].name) if outputs else "",
            metadata=metadata,
            external_files=tuple(dict.fromkeys(value for key, value in entries if key == "location")),
        )
    _check_external_files(os.fspath(path), header.external_files)
    return header


def graph_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the graph: nodes and weights as stored, without the metadata around them.

    Raises:
        ModelError: as `read_header`.
    """
    import hashlib

    with _OnnxBytes(path) as file:
        start, end = file.graph
        return hashlib.sha256(file.view[start:end]).hexdigest()


def write_metadata(source: str | os.PathLike[str], target: str | os.PathLike[str], *, key: str, value: str) -> None:
    """Copy an ONNX file with one metadata entry set, every other byte as it was.

    Raises:
        ModelError: the source is not a whole ONNX file.
        OSError: the target cannot be written.
    """
    with _OnnxBytes(source) as file, open(target, "wb") as out:
        previous = 0
        for number, _, start, end in file.fields():
            if not (number == _MODEL_METADATA and file.entry(start, end)[0] == key):
                out.write(file.view[previous:end])
            previous = end
        entry = _length_delimited(1, key.encode()) + _length_delimited(2, value.encode())
        out.write(_length_delimited(_MODEL_METADATA, entry))


class _OnnxBytes:
    """A mapped ONNX file and the walk over its protobuf fields."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.where = os.fspath(path)
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise ModelError(f"{self.where}: is empty (0 bytes)", "Export or copy the model again.")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise ModelError(
                f"{self.where}: no such file", "Check the path, or make it with: edgecls export ARCH"
            ) from error
        except IsADirectoryError as error:
            raise ModelError(f"{self.where}: is a folder, not a model", "Give the .onnx file in it.") from error
        except OSError as error:
            raise ModelError(f"{self.where}: cannot be read: {error.strerror}", "Check the file.") from error
        self.view = memoryview(self._map)
        try:
            self.graph = self._find_graph()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.view.release()
        self._map.close()

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[_Field]:
        """Walk the fields of the message at [start, end)."""
        view = self.view
        end = len(view) if end is None else end
        position = start
        while position < end:
            tag, position = self._varint(position, end)
            wire = tag & 7
            value, begin = 0, position
            if wire == _VARINT:
                value, position = self._varint(position, end)
            elif wire == _BYTES:
                length, begin = self._varint(position, end)
                position = begin + length
            elif wire in (_FIXED64, _FIXED32):
                position += 8 if wire == _FIXED64 else 4
            else:
                raise self._damaged(f"wire type {wire} at byte {position}")
            if position > end:
                if view[0] != _MODEL_IR_VERSION << 3:  # every writer begins with the version; a stray file does not
                    raise self._damaged(f"{position:,} bytes announced, {end:,} are there")
                raise ModelError(
                    f"{self.where}: is cut short: {position:,} bytes announced, {end:,} are there",
                    "Copy or export the file again.",
                )
            yield tag >> 3, value, begin, position

    def subfields(self, spans: Iterable[tuple[int, int]], wanted: int) -> Iterator[tuple[int, int]]:
        """Walk the fields of one number in several messages."""
        for span in spans:
            for number, _, start, end in self.fields(*span):
                if number == wanted:
                    yield start, end

    def text(self, start: int, end: int) -> str:
        """Return a string field."""
        try:
            return str(self.view[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"text that is not UTF-8 at byte {start}") from error

    def entry(self, start: int, end: int) -> tuple[str, str]:
        """Return a ``StringStringEntryProto``."""
        parts = {number: self.text(begin, stop) for number, _, begin, stop in self.fields(start, end)}
        return parts.get(1, ""), parts.get(2, "")

    def _find_graph(self) -> tuple[int, int]:
        graphs = [(start, end) for number, _, start, end in self.fields() if number == _MODEL_GRAPH]
        if len(graphs) != 1:
            raise self._damaged(f"{len(graphs)} graphs in it")
        return graphs[0]

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        if position < end and (byte := self.view[position]) < 0x80:  # most are a single byte
            return byte, position + 1
        result = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise self._damaged(f"a number runs over the end at byte {end}")
            byte = self.view[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, position
        raise self._damaged(f"a number of over 10 bytes at byte {position}")

    def _damaged(self, what: str) -> ModelError:
        return ModelError(
            f"{self.where}: is not a whole ONNX file (starts with {bytes(self.view[:8])!r}; {what})",
            "Copy or export the file again; TensorFlow, TFLite and PyTorch files need a conversion to ONNX.",
        )


def _tensor(file: _OnnxBytes, start: int, end: int) -> TensorInfo:
    """Read a ``ValueInfoProto``."""
    name, dtype, shape = "", "", None
    for number, _, begin, stop in file.fields(start, end):
        if number == 1:
            name = file.text(begin, stop)
        elif number == 2:
            for kind, _, begin_type, stop_type in file.fields(begin, stop):
                if kind == 1:  # tensor_type; sequences, maps and the like are no classifier's
                    dtype, shape = _tensor_type(file, begin_type, stop_type)
    return TensorInfo(name, dtype or "not a tensor", shape)


def _tensor_type(file: _OnnxBytes, start: int, end: int) -> tuple[str, tuple[int | str | None, ...] | None]:
    dtype, shape = "undefined", None
    for number, value, begin, stop in file.fields(start, end):
        if number == 1:
            dtype = _ELEMENT_TYPES.get(value, f"element type {value}")
        elif number == 2:
            shape = tuple(_axis(file, *span) for axis, _, *span in file.fields(begin, stop) if axis == 1)
    return dtype, shape


def _axis(file: _OnnxBytes, start: int, end: int) -> int | str | None:
    for number, value, begin, stop in file.fields(start, end):
        if number == 1:
            return value
        if number == 2:
            return file.text(begin, stop) or None
    return None


def _maker(file: _OnnxBytes, nodes: list[tuple[int, int]], output: str) -> str:
    """Return the type of the node that makes a tensor."""
    for span in reversed(nodes):
        outputs, op_type = [], ""
        for number, _, start, end in file.fields(*span):
            if number == _NODE_OUTPUT:
                outputs.append(file.text(start, end))
            elif number == _NODE_OP_TYPE:
                op_type = file.text(start, end)
        if output in outputs:
            return op_type
    return ""


def _check_external_files(path: str, locations: tuple[str, ...]) -> None:
    folder = os.path.dirname(os.path.realpath(path))
    for location in locations:
        file = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath([folder, file]) != folder:
            raise ModelError(
                f"{path}: keeps weights in {location!r}, outside its own folder",
                "Do not run a model that reads foreign files; ask its maker for a single-file model.",
            )
        if not os.path.isfile(file):
            raise ModelError(
                f"{path}: keeps weights in {location!r}, which is missing beside it",
                f"Copy {location} into {folder}, or save the model as one file.",
            )


def _length_delimited(number: int, payload: bytes) -> bytes:
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(payload)) + payload


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
