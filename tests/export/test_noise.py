from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecls_export.activations import ObservedGraph
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.int8 import int8_from_fp32, prepare
from edgecls_export.noise import rank_by_noise
from edgecls_runtime import Preprocess
from edgecls_runtime.preprocess import load

PREPROCESS = Preprocess(resize_size=36, crop_size=(32, 32))


@pytest.fixture
def quantized(graph: onnx.ModelProto, images: CalibrationImages, tmp_path: Path):
    """Return what quantizes the graph with ranges changed: (float graph, integer graph)."""
    source, prepared, target = (tmp_path / name for name in ("fp32.onnx", "prepared.onnx", "int8.onnx"))
    onnx.save_model(graph, source)
    prepare(source, prepared, scheme="cpu")

    def quantize(**wider: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        ranges = dict(calibrate(prepared, images, preprocess=PREPROCESS).values)
        for name, factor in wider.items():
            ranges[name] = (ranges[name][0] * factor, ranges[name][1] * factor)
        int8_from_fp32(prepared, target, ranges, scheme="cpu")
        return onnx.load(prepared), onnx.load(target)

    return quantize


def test_the_layer_that_was_spoilt_comes_first(quantized, images: CalibrationImages) -> None:
    ranking = rank_by_noise(*quantized(excited=60.0), images.sources, PREPROCESS)
    assert ranking[0].node == "project_node"
    assert ranking[0].sqnr_db < 15 < ranking[1].sqnr_db
    assert [layer.sqnr_db for layer in ranking] == sorted(layer.sqnr_db for layer in ranking)
    assert {layer.node for layer in ranking} == {
        f"{name}_node" for name in ("stem", "expand", "depthwise", "excite", "project", "head")
    }


def test_the_ratio_is_that_of_a_direct_computation(quantized, images: CalibrationImages) -> None:
    """The stem's twin by hand: its input and its weights rounded, its output beside the float one's."""
    model, integer = quantized()
    found = {layer.node: layer.sqnr_db for layer in rank_by_noise(model, integer, images.sources, PREPROCESS)}
    values = {item.name: onnx.numpy_helper.to_array(item) for item in integer.graph.initializer}
    made = {node.output[0]: node for node in integer.graph.node}
    stem = next(node for node in integer.graph.node if node.name == "stem_node")
    activation, weight = made[stem.input[0]], made[stem.input[1]]
    scale, zero = (values[name].astype(np.float64) for name in activation.input[1:3])
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for item in rounded.graph.initializer:
        if item.name == "stem.w":
            codes, steps = values[weight.input[0]], values[weight.input[1]]
            item.CopyFrom(onnx.numpy_helper.from_array(codes.astype(np.float32) * steps[:, None, None, None], "stem.w"))
    signal = noise = 0.0
    for image in images.sources:
        batch = load(image, PREPROCESS)[None]
        codes = np.clip(np.rint(batch / scale) + zero, 0, 255)
        right = ObservedGraph(model, ["stem"]).run(batch)["stem"].astype(np.float64)
        wrong = ObservedGraph(rounded, ["stem"]).run(((codes - zero) * scale).astype(np.float32))["stem"]
        signal, noise = signal + (right**2).sum(), noise + ((right - wrong) ** 2).sum()
    assert found["stem_node"] == pytest.approx(10 * np.log10(signal / noise), abs=0.05)


def test_a_graph_without_integers_has_no_ranking(graph: onnx.ModelProto, images: CalibrationImages) -> None:
    assert rank_by_noise(graph, graph, images.sources, PREPROCESS) == ()
