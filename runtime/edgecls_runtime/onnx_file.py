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
    from collections.abc import Iterator
    from typing import Self

__all__ = ["OnnxHeader", "TensorInfo", "graph_sha256", "read_header", "write_metadata"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_IR_VERSION, _MODEL_PRODUCER, _MODEL_PRODUCER_VERSION = 1, 2, 3
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA = 8, 13
# By message, the fields in which tensors lie, at whatever depth; from onnx.proto as the numbers above.
_HOLDERS = {
    "model": {25: "function"},  # and the graph
    "function": {7: "node", 11: "attribute"},
    "graph": {_GRAPH_NODE: "node", _GRAPH_INITIALIZER: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_KEEP_VALUES = ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}

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
        last_op: type of the node that makes the values of the first output.
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
    with _OnnxFile(path) as file:
        model, graph = file.model, file.graph
        # "" is the default one
        opsets = [opset.number(2) for opset in model.messages(_MODEL_OPSET) if not opset.text(1)]
        inputs = [_tensor(info) for info in graph.messages(_GRAPH_INPUT)]
        outputs = [_tensor(info) for info in graph.messages(_GRAPH_OUTPUT)]
        if len(inputs) > 1:
            names = {weight.text(_TENSOR_NAME) for weight in graph.messages(_GRAPH_INITIALIZER)}
            inputs = [info for info in inputs if info.name not in names]
        try:
            places = tuple(dict.fromkeys([*_locations(file, graph, "graph"), *_locations(file, model, "model")]))
        except RecursionError as error:
            raise file.damaged("graphs within graphs, too deep to follow") from error
        header = OnnxHeader(
            ir_version=model.number(_MODEL_IR_VERSION),
            producer=f"{model.text(_MODEL_PRODUCER)} {model.text(_MODEL_PRODUCER_VERSION)}".strip(),
            opset=opsets[-1] if opsets else 0,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            last_op=_maker(file, outputs[0].name) if outputs else "",
            metadata={entry.text(1): entry.text(2) for entry in model.messages(_MODEL_METADATA)},
            external_files=places,
        )
    _check_external_files(os.fspath(path), header.external_files)
    return header


def graph_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of the graph: nodes and weights as stored, without the metadata around them.

    Raises:
        ModelError: as `read_header`.
    """
    import hashlib

    with _OnnxFile(path) as file:
        return hashlib.sha256(file.view[file.graph.start : file.graph.end]).hexdigest()


def write_metadata(source: str | os.PathLike[str], target: str | os.PathLike[str], *, key: str, value: str) -> None:
    """Copy an ONNX file with one metadata entry set, every other byte as it was.

    Raises:
        ModelError: the source is not a whole ONNX file.
        OSError: the target cannot be written.
    """
    with _OnnxFile(source) as file, open(target, "wb") as out:
        previous = 0
        for number, _, start, end in file.walk(0, len(file.view)):
            if not (number == _MODEL_METADATA and _Message(file, start, end).text(1) == key):
                out.write(file.view[previous:end])
            previous = end
        entry = _length_delimited(1, key.encode()) + _length_delimited(2, value.encode())
        out.write(_length_delimited(_MODEL_METADATA, entry))


class _OnnxFile:
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
        except (OSError, ValueError) as error:  # the latter of a path with a NUL
            cause = f"{self.where}: cannot be read: {getattr(error, 'strerror', None) or error}"
            raise ModelError(cause, "Check the file, and this machine.") from error
        self.view = memoryview(self._map)
        try:
            self.model = _Message(self, 0, len(self.view))
            graphs = self.model.messages(_MODEL_GRAPH)
            if len(graphs) != 1:
                raise self.damaged(f"{len(graphs)} graphs in it")
        except BaseException:
            self.__exit__()
            raise
        (self.graph,) = graphs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.view.release()
        self._map.close()

    def walk(self, start: int, end: int) -> Iterator[_Field]:
        """Walk the fields of the message at [start, end)."""
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
                raise self.damaged(f"wire type {wire} at byte {position}")
            if position > end:
                if (
                    self.view[0] != _MODEL_IR_VERSION << 3
                ):  # every writer begins with the version; a stray file does not
                    raise self.damaged(f"{position:,} bytes announced, {end:,} are there")
                raise ModelError(
                    f"{self.where}: is cut short: {position:,} bytes announced, {end:,} are there",
                    "Copy or export the file again.",
                )
            yield tag >> 3, value, begin, position

    def text(self, start: int, end: int) -> str:
        """Return a string field."""
        try:
            return str(self.view[start:end], "utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"text that is not UTF-8 at byte {start}") from error

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        if position < end and (byte := self.view[position]) < 0x80:  # most are a single byte
            return byte, position + 1
        result = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise self.damaged(f"a number runs over the end at byte {end}")
            byte = self.view[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, position
        raise self.damaged(f"a number of over 10 bytes at byte {position}")

    def damaged(self, what: str) -> ModelError:
        """Say that the bytes are not ONNX's."""
        return ModelError(
            f"{self.where}: is not a whole ONNX file (starts with {bytes(self.view[:8])!r}; {what})",
            "Copy or export the file again; TensorFlow, TFLite and PyTorch files need a conversion to ONNX.",
        )


class _Message:
    """The fields of a message at [start, end), by their number; what lies in them is read when it is asked for."""

    def __init__(self, file: _OnnxFile, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._file = file
        self._fields: dict[int, list[_Field]] = {}
        for field in file.walk(start, end):
            self._fields.setdefault(field[0], []).append(field)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def spans(self, number: int) -> list[tuple[int, int]]:
        """Return where the fields of a number lie."""
        return [(start, end) for _, _, start, end in self._fields.get(number, ())]

    def messages(self, number: int) -> list[_Message]:
        """Return the fields of a number that are messages."""
        return [_Message(self._file, *span) for span in self.spans(number)]

    def texts(self, number: int) -> list[str]:
        """Return the fields of a number that are texts."""
        return [self._file.text(*span) for span in self.spans(number)]

    def text(self, number: int) -> str:
        """Return a text; empty if it is not there."""
        return (self.texts(number) or [""])[-1]

    def number(self, number: int) -> int:
        """Return a number; 0 if it is not there."""
        return self._fields[number][-1][1] if number in self else 0


def _tensor(info: _Message) -> TensorInfo:
    """Read a ``ValueInfoProto``."""
    dtype, shape = "not a tensor", None
    for tensor in [tensor for kind in info.messages(2) for tensor in kind.messages(1)]:  # not a sequence, a map, ...
        code = tensor.number(1)
        dtype = _DTYPES.get(code, f"element type {code}")
        for axes in tensor.messages(2):
            # A negative length, 64 bits in two's complement, is none.
            shape = tuple(
                axis.number(1) if 1 in axis and axis.number(1) < 1 << 63 else axis.text(2) or None
                for axis in axes.messages(1)
            )
    return TensorInfo(info.text(1), dtype, shape)


def _maker(file: _OnnxFile, output: str) -> str:
    """Return the type of the node that makes a tensor's values; what only reshapes or converts them does not count."""
    for span in reversed(file.graph.spans(_GRAPH_NODE)):
        node = _Message(file, *span)
        if output in node.texts(_NODE_OUTPUT):
            operator = node.text(_NODE_OP_TYPE)
            if operator not in _KEEP_VALUES:
                return operator
            output = (node.texts(_NODE_INPUT) or [""])[0]
    return ""


def _locations(file: _OnnxFile, message: _Message, kind: str) -> Iterator[str]:
    """Yield where the tensors lie that are not in the file: engines follow them wherever they find them."""
    if kind == "tensor":
        entries = message.messages(_TENSOR_EXTERNAL_DATA)
        yield from (entry.text(2) for entry in entries if entry.text(1) == "location")
        return
    for number, inner in _HOLDERS[kind].items():
        for start, end in message.spans(number):
            # Files have thousands of nodes and small tensors; of those only the few that may tell a place are walked.
            if end - start > 4096 or b"location" in bytes(file.view[start:end]):
                yield from _locations(file, _Message(file, start, end), inner)


def _check_external_files(path: str, locations: tuple[str, ...]) -> None:
    folder = os.path.dirname(path)  # where engines look, whatever the path is a link to
    # Stores of models by their digests link both the file and its data into another folder.
    own = (os.path.realpath(folder), os.path.dirname(os.path.realpath(path)))
    for location in locations:
        file = os.path.join(folder, location)
        if "\0" in location or not any(os.path.commonpath([home, os.path.realpath(file)]) == home for home in own):
            raise ModelError(
                f"{path}: keeps weights in {location!r}, outside its own folder",
                "Do not run a model that reads foreign files; ask its maker for a single-file model.",
            )
        if not os.path.isfile(file):
            raise ModelError(
                f"{path}: keeps weights in {location!r}, which is missing beside it",
                f"Copy {location} into {folder or '.'}, or save the model as one file.",
            )


def _length_delimited(number: int, payload: bytes) -> bytes:
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(payload)) + payload


def _to_varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _to_varint(value >> 7)
