"""Pillow and onnxruntime without anything: the least that a picture costs, and the script that one writes by hand."""

from __future__ import annotations

import numpy as np
import onnxruntime
from by_hand import CROP, MEAN, STD, best_five, centre, decoded_and_resized


def load(files, threads, *, precision, whole):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(files[precision], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    nothing = np.zeros((1, 3, CROP, CROP), np.float32)

    def the_least(path):
        """Decode, resize, run: what nobody can do without. What comes out is of no use."""
        decoded_and_resized(path)
        session.run(None, {name: nothing})

    def script(path):
        batch = np.ascontiguousarray(((centre(path) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1))[None]
        (logits,) = session.run(None, {name: batch})
        return best_five(logits[0])

    return script if whole else the_least
