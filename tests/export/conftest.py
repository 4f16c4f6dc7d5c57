from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.pipeline import ModelCard
from edgecls_runtime import Preprocess
from edgecls_runtime.backends.onnxruntime import EXACT_INTEGERS
from edgecls_runtime.manifest import Source
from edgecls_runtime.preprocess import load


@pytest.fixture
def network() -> nn.Module:
    """A classifier that is in nobody's zoo: 3x32x32 to five classes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(8, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return model


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        labels=("ant", "bee", "cat", "dog", "eel"),
        preprocess=Preprocess(resize_size=36, crop_size=(32, 32)),
        arch="custom",
        source=Source(weights="random", sha256="0" * 64),
        metrics={"acc@1": 20.0},
    )


@pytest.fixture
def pictures() -> list[tuple[str, np.ndarray]]:
    from edgecls_runtime.golden import draw_picture

    return [(f"golden {number}", draw_picture(number)) for number in range(7)]


@pytest.fixture
def graph() -> onnx.ModelProto:
    """A MobileNet in small, float32 [N, 3, 32, 32] to five classes.

    Convolutions full, depthwise and pointwise, ReLU6, a residual, HardSwish, squeeze-excite, pooling, a linear layer.
    """
    random = np.random.default_rng(3)
    weights: dict[str, np.ndarray] = {"low": np.float32(0), "high": np.float32(6), "axes": np.array([2, 3])}

    def weigh(name: str, *shape: int) -> list[str]:
        weights[f"{name}.w"] = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        weights[f"{name}.b"] = random.normal(0, 0.2, shape[0]).astype(np.float32)
        return [f"{name}.w", f"{name}.b"]

    def conv(name: str, source: str, *shape: int, **attributes: object) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, *weigh(name, *shape)], [name], name=f"{name}_node", **attributes)

    nodes = [
        conv("stem", "input", 8, 3, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["stem", "low", "high"], ["stem6"], name="stem6_node"),
        conv("expand", "stem6", 16, 8, 1, 1),
        helper.make_node("Relu", ["expand"], ["expanded"], name="relu_node"),
        conv("depthwise", "expanded", 16, 1, 3, 3, group=16, pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["depthwise"], ["swish"], name="swish_node"),
        helper.make_node("ReduceMean", ["swish", "axes"], ["squeezed"], name="squeeze_node", keepdims=1),
        conv("excite", "squeezed", 16, 16, 1, 1),
        helper.make_node("HardSigmoid", ["excite"], ["gate"], name="gate_node", alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["swish", "gate"], ["excited"], name="excited_node"),
        conv("project", "excited", 8, 16, 1, 1),
        helper.make_node("Add", ["project", "stem6"], ["residual"], name="add_node"),
        helper.make_node("ReduceMean", ["residual", "axes"], ["pooled"], name="pool_node", keepdims=0),
        helper.make_node("Gemm", ["pooled", *weigh("head", 5, 8)], ["logits"], name="head_node", transB=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 5])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def fronted() -> onnx.ModelProto:
    """Float32 [N, 3, 32, 32] to five classes; the front has few channels and few of the weights, as MobileNetV3's."""
    random = np.random.default_rng(5)
    weights: dict[str, np.ndarray] = {"axes": np.array([2, 3])}

    def conv(name: str, source: str, *shape: int, **attributes: object) -> onnx.NodeProto:
        weights[f"{name}.w"] = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        return helper.make_node("Conv", [source, f"{name}.w"], [name], name=f"{name}_node", **attributes)

    weights["head.w"] = random.normal(0, 0.1, (5, 400)).astype(np.float32)
    nodes = [
        conv("stem", "input", 8, 3, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("HardSwish", ["stem"], ["stem_swish"], name="stem_swish_node"),
        conv("depthwise", "stem_swish", 8, 1, 3, 3, group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["depthwise"], ["relu"], name="relu_node"),
        conv("project", "relu", 8, 8, 1, 1),
        helper.make_node("Add", ["project", "stem_swish"], ["residual"], name="add_node"),
        conv("expand", "residual", 400, 8, 1, 1),
        helper.make_node("HardSwish", ["expand"], ["swish"], name="swish_node"),
        conv("shrink", "swish", 8, 400, 1, 1),  # of few channels again, but far from the front
        conv("widen", "shrink", 400, 8, 1, 1),
        helper.make_node("ReduceMean", ["widen", "axes"], ["pooled"], name="pool_node", keepdims=0),
        helper.make_node("Gemm", ["pooled", "head.w"], ["logits"], name="head_node", transB=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "fronted",
            [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 5])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def graph_path(graph: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "float32.onnx"
    onnx.save(graph, path)
    return path


@pytest.fixture
def images(pictures: list[tuple[str, np.ndarray]]) -> CalibrationImages:
    """Seven pictures for calibration."""
    return CalibrationImages(
        origin="golden pictures",
        sources=tuple(picture for _, picture in pictures),
        digests=tuple(hashlib.sha256(picture.tobytes()).hexdigest() for _, picture in pictures),
    )


@pytest.fixture
def run() -> Callable[[str | Path | onnx.ModelProto, np.ndarray], np.ndarray]:
    """Run a graph on ONNX Runtime's CPU provider."""

    def run_graph(model: str | Path | onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
        content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(*EXACT_INTEGERS)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])

    return run_graph


@pytest.fixture
def batch(pictures: list[tuple[str, np.ndarray]], card: ModelCard) -> np.ndarray:
    """The seven pictures as the small graph takes them."""
    return np.stack([load(picture, card.preprocess) for _, picture in pictures])
