"""What the runtime makes of ONNX files that others wrote; here, because writing them takes the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_runtime import Classifier, onnx_file
from edgecls_runtime.errors import ModelError
from edgecls_runtime.golden import draw_picture

Axis = int | str


def write(
    path: Path, nodes: Sequence[onnx.NodeProto], *, shape: Sequence[Axis] = ("n", 3, 8, 8), classes: int = 3
) -> Path:
    """Write a graph from ``input``, whose nodes begin at ``pooled``, float32 [n, 3], to ``output``."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input", "axes"], ["pooled"], keepdims=0), *nodes],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", classes])],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.array([0, -1], np.int64), "shape"),
            numpy_helper.from_array(np.array([-1, 3], np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save_model(model, path)
    return path


def chain(*operators: str, **attributes: int) -> list[onnx.NodeProto]:
    """Return nodes one behind the other, from ``pooled`` to ``output``."""
    names = ["pooled", *(f"{operator}_{n}" for n, operator in enumerate(operators[1:])), "output"]
    return [
        helper.make_node(
            operator,
            [names[n], *(["shape"] if operator == "Reshape" else [])],
            [names[n + 1]],
            **(attributes if operator == "Cast" else {}),
        )
        for n, operator in enumerate(operators)
    ]


def elsewhere() -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    return tensor


def constant() -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["weight"], value=elsewhere())


def branch() -> onnx.NodeProto:
    graph = helper.make_graph([constant()], "b", [], [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3])])
    return helper.make_node("If", ["condition"], ["chosen"], then_branch=graph, else_branch=graph)


def in_sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(elsewhere())


def in_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="d").node.append(constant())


PLACES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "initializer": lambda model: model.graph.initializer.append(elsewhere()),
    "constant": lambda model: model.graph.node.append(constant()),
    "branch": lambda model: model.graph.node.append(branch()),
    "sparse": in_sparse,
    "function": in_function,
}


@pytest.mark.parametrize("place", PLACES)
def test_tensors_kept_elsewhere_are_found_wherever_they_are_named(tmp_path: Path, place: str) -> None:
    """OpenVINO takes such a location for an address in memory, and reads there."""
    model = onnx.load(write(tmp_path / "m.onnx", chain("Identity")))
    PLACES[place](model)
    onnx.save_model(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="keeps weights in .*_ORT_MEM_ADDR_"):
        Classifier.load(tmp_path / "m.onnx")


def test_graphs_within_graphs_without_end_are_refused(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path / "m.onnx", chain("Identity")))
    inner = branch().SerializeToString()
    for _ in range(400):  # an attribute that is a graph (6) of one node (1), in a node (5)
        for number in (1, 6, 5):
            inner = onnx_file._length_delimited(number, inner)
    start = onnx_file._length_delimited(7, onnx_file._length_delimited(1, inner))
    (tmp_path / "deep.onnx").write_bytes(onnx_file._to_varint(8) + b"\x0a" + start)
    with pytest.raises(ModelError, match="graphs within graphs, too deep to follow"):
        onnx_file.read_header(tmp_path / "deep.onnx")
    assert onnx_file.read_header(tmp_path / "m.onnx").ir_version == model.ir_version


def test_a_store_of_links_is_followed_as_the_engines_do(tmp_path: Path) -> None:
    """Caches by digest link the model and its data, each from where its name is to where its bytes are."""
    model = onnx.load(write(tmp_path / "m.onnx", chain("Identity")))
    for folder in ("blobs", "snapshot"):
        (tmp_path / folder).mkdir()
    weight = numpy_helper.from_array(np.zeros(1000, np.float32), "weight")
    model.graph.initializer.append(weight)
    onnx.save_model(model, tmp_path / "blobs" / "aa", save_as_external_data=True, location="m.data", size_threshold=64)
    (tmp_path / "blobs" / "m.data").rename(tmp_path / "blobs" / "bb")
    (tmp_path / "snapshot" / "m.onnx").symlink_to(tmp_path / "blobs" / "aa")
    with pytest.raises(ModelError, match="which is missing beside it"):
        Classifier.load(tmp_path / "snapshot" / "m.onnx")
    (tmp_path / "snapshot" / "m.data").symlink_to(tmp_path / "blobs" / "bb")
    Classifier.load(tmp_path / "snapshot" / "m.onnx").close()
    (tmp_path / "snapshot" / "m.data").unlink()
    (tmp_path / "snapshot" / "m.data").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="outside its own folder"):
        Classifier.load(tmp_path / "snapshot" / "m.onnx")


@pytest.mark.parametrize("behind", [("Identity",), ("Cast",), ("Reshape",), ("Cast", "Identity")])
def test_scores_that_the_graph_makes_are_seen_behind_what_keeps_them(tmp_path: Path, behind: tuple[str, ...]) -> None:
    path = write(tmp_path / "m.onnx", chain("Softmax", *behind, to=TensorProto.FLOAT))
    model = Classifier.load(path)
    assert model.activation == "identity"
    assert sum(item.score for item in model.predict(draw_picture(0))) == pytest.approx(1)


def test_a_single_output_is_a_score_of_its_own(tmp_path: Path) -> None:
    """Softmax would make it 100 %, whatever is in the picture."""
    nodes = [helper.make_node("ReduceMean", ["pooled", "one"], ["output"], keepdims=1)]
    model = onnx.load(write(tmp_path / "m.onnx", nodes, classes=1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    onnx.save_model(model, tmp_path / "m.onnx")
    classifier = Classifier.load(tmp_path / "m.onnx", labels=["cat"])
    assert classifier.activation == "sigmoid"
    assert "one output: sigmoid over the outputs" in classifier.assumptions
    scores = {classifier.predict(draw_picture(number))[0].score for number in range(3)}
    assert len(scores) == 3


@pytest.mark.parametrize("rows", ["fewer", "none of its own"])
def test_answers_that_are_not_one_a_picture_are_refused(tmp_path: Path, rows: str) -> None:
    nodes = [helper.make_node("ReduceMean", ["pooled", "first"], ["output"], keepdims=1)]
    if rows == "none of its own":
        nodes = [helper.make_node("Concat", ["pooled", "pooled"], ["output"], axis=0)]
    model = onnx.load(write(tmp_path / "m.onnx", nodes))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    onnx.save_model(model, tmp_path / "m.onnx")
    classifier = Classifier.load(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"answered 3 pictures with [16] rows of outputs"):
        classifier.predict_batch([draw_picture(0)] * 3)
    with pytest.raises(ModelError, match=r"answered 3 pictures with [16] rows of outputs"):
        list(classifier.predict_stream([draw_picture(0)] * 3, batch_size=3))


@pytest.mark.parametrize("shape", [(1, 3, 0, 0), (0, 3, 8, 8), ("n", 3, 1_000_000, 1_000_000)])
def test_sizes_that_no_picture_has_are_refused(tmp_path: Path, shape: tuple[Axis, ...]) -> None:
    with pytest.raises(ModelError, match="is not a picture classifier: takes input"):
        Classifier.load(write(tmp_path / "m.onnx", chain("Identity"), shape=shape))


def test_a_negative_length_is_none(tmp_path: Path) -> None:
    """Some exporters write -1 for what is free."""
    header = onnx_file.read_header(write(tmp_path / "m.onnx", chain("Identity"), shape=(-1, 3, 8, 8)))
    assert header.inputs[0].shape == (None, 3, 8, 8)


def test_a_newer_opset_is_told_in_a_sentence(tmp_path: Path) -> None:
    """ONNX Runtime's own words begin with a function's C++ signature."""
    model = onnx.load(write(tmp_path / "m.onnx", chain("Identity")))
    model.opset_import[0].version = 99
    onnx.save_model(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m.onnx: onnxruntime cannot load it: ONNX Runtime only \*guarantees\*"):
        Classifier.load(tmp_path / "m.onnx")
