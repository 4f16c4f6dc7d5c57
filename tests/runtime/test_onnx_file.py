from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgecls_runtime import onnx_file
from edgecls_runtime.errors import ModelError
from edgecls_runtime.manifest import MANIFEST_KEY
from edgecls_runtime.onnx_file import TensorInfo


def test_header(models: Path) -> None:
    header = onnx_file.read_header(models / "tiny.onnx")
    assert header.inputs == (TensorInfo("input", "float32", ("batch", 3, 32, 32)),)
    assert header.outputs == (TensorInfo("logits", "float32", ("batch", 5)),)
    assert (header.ir_version, header.opset, header.last_op) == (10, 18, "Gemm")
    assert list(header.metadata) == [MANIFEST_KEY]
    assert header.external_files == ()
    assert str(header.inputs[0]) == "input: float32 [batch, 3, 32, 32]"


def test_the_last_operator_is_the_one_that_makes_the_output(models: Path) -> None:
    assert onnx_file.read_header(models / "foreign_softmax.onnx").last_op == "Softmax"


def test_missing_external_data_is_named(models: Path) -> None:
    with pytest.raises(ModelError, match=r"keeps weights in 'external.data', which is missing beside it\nCopy"):
        onnx_file.read_header(models / "external.onnx")


def test_external_data_beside_the_model_is_accepted(models: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes((models / "external.onnx").read_bytes())
    (tmp_path / "external.data").touch()
    assert onnx_file.read_header(tmp_path / "m.onnx").external_files == ("external.data",)


def test_external_data_outside_the_folder_is_refused(models: Path, tmp_path: Path) -> None:
    content = (models / "external.onnx").read_bytes()
    (tmp_path / "inner").mkdir()
    (tmp_path / "ternal.data").touch()  # "../ternal.data" is there, and as long as the name it replaces plus one
    (tmp_path / "inner" / "m.onnx").write_bytes(content.replace(b"external.data", b"../ernal.data"))
    (tmp_path / "ernal.data").touch()
    with pytest.raises(ModelError, match="outside its own folder"):
        onnx_file.read_header(tmp_path / "inner" / "m.onnx")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"This is a text, not a model.\n", "is not a whole ONNX file .starts with b'This is '"),
        (b"\x80\x04\x95pickle", "is not a whole ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a whole ONNX file"),
        (bytes(100), "is not a whole ONNX file"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=cause):
        onnx_file.read_header(tmp_path / "m.onnx")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        onnx_file.read_header(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        onnx_file.read_header(tmp_path)


def test_a_file_cut_anywhere_before_its_metadata_is_refused(models: Path, tmp_path: Path) -> None:
    content = (models / "foreign.onnx").read_bytes()
    for length in range(1, len(content) - 20, 13):  # the last fields, after the graph, may be left out
        (tmp_path / "m.onnx").write_bytes(content[:length])
        with pytest.raises(ModelError):
            onnx_file.read_header(tmp_path / "m.onnx")


def test_a_half_file_says_how_much_is_missing(models: Path, tmp_path: Path) -> None:
    content = (models / "foreign.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is cut short: 2,[0-9]{3} bytes announced, 1,107 are there"):
        onnx_file.read_header(tmp_path / "m.onnx")


def test_damage_never_raises_anything_else(models: Path, tmp_path: Path) -> None:
    """Flip bytes at random: the reader either answers or raises a ModelError."""
    content = (models / "tiny.onnx").read_bytes()
    chance = random.Random(3)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            onnx_file.read_header(tmp_path / "m.onnx")
            onnx_file.graph_sha256(tmp_path / "m.onnx")
        except ModelError:
            refused += 1
    assert refused > 20


def test_the_graph_digest_sees_one_bit_of_a_weight_and_nothing_outside(models: Path, tmp_path: Path) -> None:
    tiny, foreign = onnx_file.graph_sha256(models / "tiny.onnx"), onnx_file.graph_sha256(models / "foreign.onnx")
    assert tiny == foreign  # the same graph, with and without a manifest
    content = bytearray((models / "foreign.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m.onnx").write_bytes(content)
    assert onnx_file.graph_sha256(tmp_path / "m.onnx") != foreign


def test_metadata_is_replaced_and_every_other_byte_kept(models: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1.onnx", "2.onnx", "3.onnx"))
    onnx_file.write_metadata(models / "foreign.onnx", first, key="a", value="x" * 300)
    onnx_file.write_metadata(first, second, key="b", value="é")
    onnx_file.write_metadata(second, third, key="a", value="")
    assert onnx_file.read_header(third).metadata == {"b": "é", "a": ""}
    assert third.read_bytes().startswith((models / "foreign.onnx").read_bytes())
    assert first.stat().st_size > third.stat().st_size


def test_a_path_that_no_file_can_have(models: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: embedded null byte"):
        onnx_file.read_header("m\0.onnx")
    with pytest.raises(ModelError, match="outside its own folder"):
        onnx_file._check_external_files(str(models / "tiny.onnx"), ("w\0",))
