"""Write the tiny models beside this file: python tests/models/make_tiny_models.py

A few KB each, checked in, so that the runtime's tests need no onnx. tests/export/test_tiny_models.py holds
them against this script.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgecls_export.embedding import Embedding, embed_file
from edgecls_export.golden_outputs import golden_from_reference
from edgecls_runtime import Manifest, Preprocess, manifest, onnx_file
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.manifest import Source

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "edgecls"  # what `edgecls doctor` runs
LABELS = ("ant", "bee", "cat", "dog", "eel")
PREPROCESS = Preprocess(resize_size=36, crop_size=(32, 32))


def main(folder: Path = HERE, shipped: Path = SHIPPED) -> None:
    network = classifier("batch")
    onnx.save(network, folder / "foreign.onnx")
    onnx.save(classifier("batch", last="Softmax"), folder / "foreign_softmax.onnx")
    onnx.save(classifier("batch", classes_axis=None), folder / "unknown_classes.onnx")
    onnx.save(classifier("batch", rank=3), folder / "rank3.onnx")
    onnx.save(classifier("batch", nan=True), folder / "nan.onnx")
    onnx.save(two_inputs(), folder / "two_inputs.onnx")
    onnx.save(
        classifier("batch"),
        folder / "external.onnx",
        save_as_external_data=True,
        location="external.data",
        size_threshold=0,
    )
    (folder / "external.data").unlink()  # the model whose weights got lost
    own(network, folder / "tiny.onnx")
    pictures = [(str(number), draw_picture(number)) for number in range(4)]
    for name, top_k in (("pixels", None), ("embedded", 3)):
        embed_file(folder / "tiny.onnx", folder / f"{name}.onnx", Embedding(top_k=top_k), pictures, force=True)
    own(classifier(4), folder / "fixed4.onnx", batch_size=4)
    own(network, folder / "multilabel.onnx", activation="sigmoid", thresholds=(0.5, 0.5, 0.5, 0.5, 0.99))
    own(network, shipped / "self_test_fp32.onnx")
    own(integers(), shipped / "self_test_int8.onnx", precision="int8")


def classifier(
    batch: int | str,
    *,
    last: str | None = None,
    classes_axis: int | None = len(LABELS),
    rank: int = 4,
    nan: bool = False,
) -> onnx.ModelProto:
    """A strided convolution, ReLU, global average pooling and a linear layer: 3x32x32 to five classes."""
    rng = np.random.default_rng(7)
    weights = {
        "conv": rng.normal(0, 0.4, (6, 3, 5, 5)),
        "linear": rng.normal(0, 1.5, (6, len(LABELS))),
        "bias": rng.normal(0, 0.2, len(LABELS)),
    }
    if nan:
        weights["bias"][2] = np.nan
    end = "logits" if last is None else "raw"
    nodes = [
        helper.make_node("Conv", ["input", "conv"], ["a"], strides=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "linear", "bias"], [end]),
    ]
    if last is not None:
        nodes.append(helper.make_node(last, [end], ["logits"], axis=1))
    if rank == 3:  # takes [3, 32, 32], one picture without a batch axis
        nodes.insert(0, helper.make_node("Unsqueeze", ["picture", "axes"], ["input"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                "picture" if rank == 3 else "input", TensorProto.FLOAT, [3, 32, 32] if rank == 3 else [batch, 3, 32, 32]
            )
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes_axis])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        + ([numpy_helper.from_array(np.array([0]), "axes")] if rank == 3 else []),
    )
    if classes_axis is None:  # a slice whose length only a run can tell
        graph.node[-1].output[0] = "all"
        graph.node.append(helper.make_node("NonZero", ["all"], ["indices"]))
        graph.node.append(helper.make_node("Cast", ["indices"], ["logits"], to=TensorProto.FLOAT))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def integers() -> onnx.ModelProto:
    """An INT8 convolution, uint8 times int8 as `--target cpu` makes it, with the largest weights there are.

    Two bright pixels times 127 are more than 16 bits hold, so a CPU without VNNI answers something else.
    """
    signs = np.ones((len(LABELS), 3, 8, 8))
    for label in range(1, len(LABELS)):  # halves and quarters of the window against one another
        rows, columns = np.indices((8, 8)) >> (2 if label < 3 else 1)
        signs[label, :] = 1 - 2 * ((rows if label % 2 else columns) % 2)
    constants = {
        "weights": (127 * signs).astype(np.int8),
        "weight_scale": np.float32(1 / 512),
        "weight_zero": np.int8(0),
        "scale": np.float32(4.8 / 255),  # ImageNet's normalization leaves -2.1 to 2.6
        "zero": np.uint8(112),
        "output_scale": np.float32(0.9),
        "output_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "scale", "zero"], ["b"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"]),
        helper.make_node("Conv", ["b", "w"], ["c"], strides=[4, 4]),
        helper.make_node("QuantizeLinear", ["c", "output_scale", "output_zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "output_scale", "output_zero"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # 19 is the oldest that onnx's own evaluator quantizes in.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def two_inputs() -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "two", infos[:2], infos[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def own(model: onnx.ModelProto, path: Path, **fields: object) -> None:
    """Write a model with the manifest that an export would give it; the answers come from onnx's own evaluator."""
    bare = path.with_suffix(".bare")
    onnx.save(model, bare)
    document = Manifest(
        arch="tiny",
        labels=LABELS,
        preprocess=PREPROCESS,
        opset=model.opset_import[0].version,
        graph_sha256=onnx_file.graph_sha256(bare),
        source=Source(weights="make_tiny_models.py", sha256="0" * 64),
        **{"precision": "fp32", **fields},  # type: ignore[arg-type]
    )
    evaluator = ReferenceEvaluator(model)
    golden = golden_from_reference(lambda batch: evaluator.run(None, {"input": batch})[0], document)
    manifest.write(dataclasses.replace(document, golden=golden), bare, path)
    bare.unlink()


if __name__ == "__main__":
    main()
