"""NVIDIA's own parser and compiler take what the exporter makes for them. Needs no GPU: it builds ahead of time."""

from __future__ import annotations

import collections
from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch", reason="export needs the training packages")
pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'")

from edgecls import models
from edgecls_export import EngineOptions, EngineReport, engine_from_onnx
from edgecls_export.activations import largest_magnitudes
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import drawn_images
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_export.fp32 import onnx_from_torch
from edgecls_export.int8 import int8_from_fp32, prepare
from edgecls_runtime import Preprocess, engine_file

FIRST_CLASS = ("alexnet", "vgg16", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
ADA, BLACKWELL = "8.9", "12.0"

# What TensorRT's parser makes of an ONNX operator: the type of the layer that does its work.
LAYERS = {
    "CONVOLUTION": ("Conv",),
    "MATRIX_MULTIPLY": ("Gemm",),
    "ACTIVATION": ("Relu", "Clip", "HardSwish", "HardSigmoid"),
    "POOLING": ("MaxPool", "AveragePool"),
    "REDUCE": ("ReduceMean",),
    "QUANTIZE": ("QuantizeLinear",),
    "DEQUANTIZE": ("DequantizeLinear",),
    "CAST": ("Cast",),
}


# What the layers that multiply are called in a finished engine: Myelin's words for convolutions and matrix products.
MULTIPLIERS = {"correlation", "gemm", "runtime_fusion"}


def build(path: Path, *multiplied: str) -> EngineReport:
    """Build for both generations of GPUs; every layer must be there, and the files must say what they are.

    Args:
        path: of the ONNX file.
        multiplied: dtypes that its convolutions and linear layers shall take, all of them.
    """
    nodes = onnx.load(path, load_external_data=False).graph.node
    operators = collections.Counter(node.op_type for node in nodes)
    weighted = sorted(node.name for node in nodes if node.op_type in ("Conv", "Gemm"))
    engine = path.with_suffix(".engine")
    for capability in (ADA, BLACKWELL):
        report = engine_from_onnx(
            path, engine, options=EngineOptions(flavour="tensorrt_rtx", compute_capabilities=(capability,)), force=True
        )
        assert engine_file.read(engine) == report.sidecar
        assert report.sidecar.compute_capabilities == (capability,)
        assert report.sidecar.plan_bytes == engine.stat().st_size > 100_000
        for layer, wanted in LAYERS.items():
            made = sum(count for name, count in report.layers.items() if name.split()[0] == layer)
            assert made == sum(operators[name] for name in wanted), layer
        # What the inspector would say of the finished engine: nothing was lost (but a reshape, and the pooling of 6x6
        # to 6x6), and each layer with weights is one of the engine's, in the type that the file gives it.
        computed = {name for layer in report.engine_layers for name in layer.nodes}
        assert {node.op_type for node in nodes if node.name not in computed} <= {"Reshape", "AveragePool"}
        multipliers = [layer for layer in report.engine_layers if layer.kind in MULTIPLIERS]
        assert sorted(name for layer in multipliers for name in layer.nodes if name in weighted) == weighted
        assert {layer.inputs for layer in multipliers} == {(dtype,) for dtype in multiplied}
        assert all(set(layer.inputs) <= set(layer.constants) for layer in multipliers), "weights of the same type"
    engine.unlink()
    return report


def dtypes(report: EngineReport, *layers: str) -> set[str]:
    """The dtypes that layers of some types make."""
    return {name.split()[1] for name in report.layers if name.split()[0] in layers}


@pytest.mark.parametrize("arch", FIRST_CLASS)
def test_every_precision_builds_with_its_own_types(arch: str, tmp_path: Path) -> None:
    preprocess, images = Preprocess(), drawn_images(2)
    source, other = tmp_path / "fp32.onnx", tmp_path / "other.onnx"
    onnx_from_torch(models.build(arch, num_classes=10, image_size=224).eval(), source, crop_size=(224, 224))
    single = build(source, "float32")
    assert dtypes(single, *LAYERS) == {"float32"}
    assert {(*layer.inputs, *layer.outputs) for layer in single.engine_layers} <= {("float32", "float32"), ()}

    fp16_from_fp32(source, other)
    half = build(other, "float16")
    assert dtypes(half, "CONVOLUTION", "MATRIX_MULTIPLY", "ACTIVATION", "POOLING", "REDUCE") == {"float16"}
    assert half.layers["CAST float32"] == 1, "the cast behind the logits"
    for at, name in (("inputs", "the picture"), ("outputs", "the logits")):
        assert sum("float32" in getattr(layer, at) for layer in half.engine_layers) == 1, name
    if arch == "mobilenet_v3_small":  # random weights fade away: some layers stay in float32, and casts lie between
        kept = fp16_from_fp32(source, other, largest=largest_magnitudes(source, images.sources, preprocess)).kept
        assert kept
        assert dtypes(build(other, "float16", "float32"), "CONVOLUTION", "ACTIVATION") == {"float16", "float32"}

    prepare(source, other, scheme="tensorrt")
    ranges = calibrate(other, images, preprocess=preprocess, symmetric=True)
    quantized = int8_from_fp32(other, source, ranges.values, scheme="tensorrt")
    assert quantized.kept == ()
    integer = build(source, "int8")
    assert integer.layers["QUANTIZE int8"] == len(quantized.quantized)
    assert dtypes(integer, "QUANTIZE") == {"int8"}
    assert dtypes(integer, "DEQUANTIZE", "CONVOLUTION", "MATRIX_MULTIPLY") == {"float32"}
    for path in tmp_path.iterdir():  # VGG-16's fill a gigabyte
        path.unlink()
