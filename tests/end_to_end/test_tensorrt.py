"""NVIDIA's own parser and compiler take what the exporter makes for them. Needs no GPU: it builds ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgecls import models
from edgecls_export.activations import largest_magnitudes
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import drawn_images
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_export.fp32 import onnx_from_torch
from edgecls_export.int8 import int8_from_fp32, prepare
from edgecls_runtime import Preprocess

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'"
)

FIRST_CLASS = ("alexnet", "vgg16", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def build(path: Path) -> list[Any]:
    """Parse a strongly typed graph and compile it for an Ada GPU; return the type that each layer makes."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    shape = tuple(network.get_input(0).shape)[1:]
    profile.set_shape("input", (1, *shape), (1, *shape), (8, *shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 0
    return [network.get_layer(index).get_output(0).dtype for index in range(network.num_layers)]


@pytest.mark.parametrize("arch", FIRST_CLASS)
def test_every_precision_parses_and_builds(arch: str, tmp_path: Path) -> None:
    preprocess, images = Preprocess(), drawn_images(2)
    source, half, integer = (tmp_path / f"{name}.onnx" for name in ("fp32", "fp16", "int8"))
    onnx_from_torch(models.build(arch, num_classes=10, image_size=224).eval(), source, crop_size=(224, 224))
    build(source)

    fp16_from_fp32(source, half)
    assert build(half).count(trt.float32) == 1, "the cast behind the logits"
    fp16_from_fp32(source, half, largest=largest_magnitudes(source, images.sources, preprocess))
    build(half)  # random weights fade away: some layers stay in float32, and casts lie between

    prepare(source, tmp_path / "prepared.onnx", scheme="tensorrt")
    ranges = calibrate(tmp_path / "prepared.onnx", images, preprocess=preprocess, symmetric=True)
    report = int8_from_fp32(tmp_path / "prepared.onnx", integer, ranges.values, scheme="tensorrt")
    assert report.kept == ()
    assert build(integer).count(trt.int8) >= len(report.quantized)
