"""x86 without VNNI adds two products of uint8 and int8 in 16 bits, which saturate. Emulated, and on such a CPU seen.

This is where the bound on INT8's golden outputs comes from (`edgecls_runtime.tolerance`).
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from edgecls.weights import load_weights
from edgecls_export import Int8, ModelCard, export_onnx, pick_images
from edgecls_export.graph import attribute, constants
from edgecls_runtime import golden, manifest
from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgecls_runtime.machine import cpu_flags
from edgecls_runtime.manifest import Source

Array = np.ndarray[Any, Any]


def lost_by_saturation(rows: Array, weights: Array) -> Array:
    """What ``vpmaddubsw`` loses of uint8 [N, K] times int8 [K, M]: each pair of products ends at 32,767."""
    if rows.shape[1] % 2:
        rows, weights = np.pad(rows, ((0, 0), (0, 1))), np.pad(weights, ((0, 1), (0, 0)))
    lost = np.zeros((len(rows), weights.shape[1]), np.int32)
    for k in range(0, rows.shape[1], 2):
        pair = rows[:, k : k + 1] * weights[k] + rows[:, k + 1 : k + 2] * weights[k + 1]
        lost += np.clip(pair, -32768, 32767) - pair
    return lost


class Emulated:
    """A Q/DQ graph of MobileNetV2, node by node, with integers that saturate or do not."""

    def __init__(self, path: Path, *, saturating: bool) -> None:
        self.model, self.saturating = onnx.load(path), saturating
        self.constants = constants(self.model)

    def run(self, batch: Array) -> Array:
        values: dict[str, Any] = {**self.constants, "input": batch}
        integers: dict[str, tuple[Array, Array, Array]] = {}
        for node in self.model.graph.node:
            first, *rest = (values[name] for name in node.input)
            match node.op_type:
                case "QuantizeLinear":
                    result = np.clip(np.rint(first / rest[0]) + rest[1], 0, 255).astype(np.uint8)
                case "DequantizeLinear":
                    integers[node.output[0]] = (first, *rest)
                    shape = [1] * first.ndim
                    if np.size(rest[0]) > 1:
                        shape[int(attribute(node, "axis", 1))] = -1  # type: ignore[call-overload]
                    scale, zero = (np.reshape(value, shape if first.ndim else ()) for value in rest)
                    result = ((first.astype(np.float32) - zero) * scale).astype(np.float32)
                case "Conv":
                    result = self._conv(node, first, *rest) + self._lost(node, integers)
                case "Gemm":
                    result = first @ rest[0].T + rest[1] + self._lost(node, integers)
                case "Add":
                    result = first + rest[0]
                case "GlobalAveragePool":
                    result = first.mean((2, 3), keepdims=True)
                case "Reshape":
                    result = first.reshape(len(first), -1)
                case other:
                    raise AssertionError(other)
            values[node.output[0]] = result
        return np.asarray(values["logits"], np.float32)

    def _conv(self, node: onnx.NodeProto, *arrays: Array) -> Array:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0, 0, 0, 0])
        group: Any = attribute(node, "group", 1)
        return torch.conv2d(*tensors, stride=strides, padding=pads[:2], groups=group).numpy()  # type: ignore[call-overload,index,no-any-return]

    def _lost(self, node: onnx.NodeProto, integers: dict[str, tuple[Array, Array, Array]]) -> Array | float:
        if not self.saturating or attribute(node, "group", 1) != 1:  # depthwise kernels add in 32 bits
            return 0.0
        (x, x_scale, x_zero), (w, w_scale, _) = (integers[name] for name in node.input[:2])
        x, w = x.astype(np.int32), w.astype(np.int32)
        if node.op_type == "Gemm":
            return np.asarray(lost_by_saturation(x, w.T) * (x_scale * w_scale), np.float32)
        top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])  # type: ignore[misc]
        step: Any = attribute(node, "strides", [1, 1])
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=int(x_zero))
        windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, :: step[0], :: step[1]]
        count, _, height, width = windows.shape[:4]
        rows = windows.transpose(0, 2, 3, 4, 5, 1).reshape(count * height * width, -1)
        lost = lost_by_saturation(rows, w.transpose(2, 3, 1, 0).reshape(-1, len(w)))
        lost = lost.reshape(count, height, width, -1).transpose(0, 3, 1, 2)
        return np.asarray(lost * (x_scale * w_scale).reshape(1, -1, 1, 1), np.float32)


@pytest.mark.real_data
@pytest.mark.parametrize(("target", "found"), [("cpu", True), ("cpu-any", False)])
def test_verify_finds_saturation_and_seven_bits_prevent_it(
    target: str, found: bool, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_weights(real_data / "weights" / "mobilenet_v2_imagenet.pth", arch="mobilenet_v2")
    source = Source(weights=loaded.weights, sha256="0" * 64)
    card = ModelCard(labels=loaded.labels, preprocess=loaded.preprocess, arch="mobilenet_v2", source=source)
    images = pick_images(real_data / "imagenette" / "train", 64)
    path = tmp_path / "m.onnx"
    export_onnx(loaded.build(), path, card, precision=Int8(images=images, target=target))
    document = manifest.read(path)
    assert document is not None

    def verified(emulated: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(OnnxRuntimeBackend, "run", lambda self, batch: emulated(batch))
            result = golden.verify(path)
        print(f"\n{target}: {result.checks[-1]}")
        return bool(result)

    assert verified(Emulated(path, saturating=False).run), "an engine that rounds otherwise"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    simulated = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert verified(lambda batch: simulated.run(None, {"input": batch})[0]), "an engine that simulates in float"
    assert verified(Emulated(path, saturating=True).run) is not found
    plain = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    saturates = platform.machine() == "x86_64" and {"avx_vnni", "avx512_vnni"}.isdisjoint(cpu_flags())
    assert verified(lambda batch: plain.run(None, {"input": batch})[0]) is not (found and saturates)
    assert golden.verify(path), "the runtime's own sessions ask for exact sums"
