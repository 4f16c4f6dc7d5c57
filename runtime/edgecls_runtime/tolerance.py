"""How far a device may stray from the golden outputs: one table, a reason for each row.

Golden outputs ask whether a device computes what the exporting machine proved. In float32 that is PyTorch's answer.
Below, PyTorch lies so far off (INT8: a tenth of the largest logit on single pictures) that a bound around it would hide
what ``verify`` is for, integers that saturate on a CPU without VNNI; so there the reference is what the artifact itself
computed once it had passed parity (`edgecls_export.tolerance`), and the bound need only cover how engines round.
"""

from __future__ import annotations

__all__ = ["MAX_GOLDEN_DIFF"]

MAX_GOLDEN_DIFF = {
    # Engines differ in the order of additions alone: 1e-6 was measured on the five first-class architectures, so 1e-4
    # is a broken graph, not noise.
    "fp32": 1e-4,
    # 11 bits of mantissa, rounded after each of some hundred nodes: MobileNetV2 lies 0.003 off on photos and 0.005 on
    # drawn pictures. The rest is room for engines that add in half instead of float32.
    "fp16": 0.02,
    # Integer kernels against the same graph simulated in float differ by up to 0.038 (MobileNetV2) and 0.056 (V3): a
    # rounding that falls the other way travels through 50 layers. 16-bit sums that saturate, as on x86 without VNNI,
    # differ by 0.17 and 0.09 (emulated).
    "int8": 0.08,
    # From here on: what an engine was asked to compute in, where that is less than the file holds.
    # 8 bits of mantissa, where half has 11. Measured with OpenVINO on AMX: MobileNetV2 0.025, VGG-16 0.008,
    # MobileNetV3-small 0.007, AlexNet 0.003 (the last three with random weights), with the best class of one golden
    # picture in four changed at most. INT8 files keep their integers and their own bound.
    "bf16": 0.05,
    # As an fp16 file's. Measured: MobileNetV2 0.003, VGG-16 and AlexNet 0.001. What half cannot hold fails here:
    # OpenVINO converts weights and scales without looking, so INT8 files lie 0.6 and more off, and random weights with
    # logits of 1e-9 vanish.
    "f16": 0.02,
    # 10 bits of mantissa in products, as half has, with float32's range and sums: an fp16 file's bound, not measured
    # yet. A TensorRT engine's that was built with it.
    "tf32": 0.02,
}
"""Largest ``max |difference| / max |golden logit|`` over the golden pictures.

By the file's precision, and by what the engine was asked to compute in
(`edgecls_runtime.backends.settings.SessionSettings`): the larger of the two counts. A precision without a row cannot be
verified.
"""
