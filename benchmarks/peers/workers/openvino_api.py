"""OpenVINO's own API as its benchmark_app uses it for latency: one request, and the picture's pixels go in as they are.

Its `PrePostProcessor` takes uint8 pixels and normalizes them within the graph.
"""

from __future__ import annotations

import sys

from by_hand import CROP, MEAN, STD, best_five, centre

sys.modules["openvino.tools.ovc"] = None  # the converter, which reports its own import to its makers
import openvino  # noqa: E402


def load(files, threads, *, precision, computes_in=None):
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "PERFORMANCE_HINT_NUM_REQUESTS": 1, "INFERENCE_NUM_THREADS": threads}
    if computes_in:
        settings["INFERENCE_PRECISION_HINT"] = computes_in
    steps = openvino.preprocess.PrePostProcessor(core.read_model(files[precision]))
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().tensor().set_shape([1, CROP, CROP, 3])
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    mean, scale = (255 * MEAN).tolist(), (255 * STD).tolist()
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(scale)
    compiled = core.compile_model(steps.build(), "CPU", settings)
    own = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if not computes_in and own == "f32":
        raise RuntimeError("on this CPU its own choice of precision is f32 too: see the row above")
    request = compiled.create_infer_request()

    def top5(path):
        pixels = centre(path)[None]
        logits = request.infer([pixels], share_inputs=True, share_outputs=True)[0][0]
        return best_five(logits)

    return top5
