"""LiteRT (once TensorFlow Lite), converted by litert-torch with channels last; XNNPACK computes, as by default."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from by_hand import MEAN, STD, best_five, centre


def load(files, threads, *, own_threads=False):
    interpreter = Interpreter(f"{files['litert']}/model.tflite", num_threads=None if own_threads else threads)
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def top5(path):
        pixels = centre(path)[None]
        interpreter.set_tensor(entry, (pixels / np.float32(255) - MEAN) / STD)
        interpreter.invoke()
        logits = interpreter.get_tensor(out)[0]
        return best_five(logits)

    return top5
