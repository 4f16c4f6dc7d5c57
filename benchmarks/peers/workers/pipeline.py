"""transformers' image-classification pipeline on optimum's ONNX Runtime model.

As documented: `AutoImageProcessor.from_pretrained(folder)`, which loads the processor that the folder was saved with.
Those of published MobileNetV2 folders are of the class on numpy and Pillow, and it stays that one but for
`use_fast=True`. Tuned is what was quickest here: the processor on torchvision, which gains nothing from more threads,
and no ONNX Runtime thread that spins in its way.
"""

from __future__ import annotations

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline


def load(files, threads, *, precision, tuned=False):
    torch.set_num_threads(1 if tuned else threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if tuned:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    model = ORTModelForImageClassification.from_pretrained(
        files["transformers"], file_name=f"{precision}.onnx", session_options=options
    )
    processor = AutoImageProcessor.from_pretrained(files["transformers"], **({"use_fast": True} if tuned else {}))
    classify = pipeline("image-classification", model=model, image_processor=processor)
    return lambda path: [int(found["label"]) for found in classify(path)]
