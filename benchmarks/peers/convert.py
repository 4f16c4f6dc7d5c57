"""What a peer needs instead of our files: ENVIRONMENT/bin/python convert.py TARGET FOLDER '{"fp32": ..., ...}'

Runs in the peers' torch environment. The numbers stay those of the files: the same weights under other names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def transformers(folder: Path, files: dict[str, str]) -> None:
    """Write a model folder as the hub has it; the ONNX files are ours but for the input's name, which optimum fixes."""
    import onnx
    from transformers import MobileNetV2Config, MobileNetV2ImageProcessor

    labels = {index: str(index) for index in range(1000)}
    MobileNetV2Config(id2label=labels, label2id={label: index for index, label in labels.items()}).save_pretrained(
        folder
    )
    MobileNetV2ImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    for precision in ("fp32", "int8"):
        model = onnx.load(files[precision])
        (entry,) = model.graph.input
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                if name == entry.name:
                    node.input[position] = "pixel_values"
        entry.name = "pixel_values"
        onnx.save(model, folder / f"{precision}.onnx")


def ncnn(folder: Path, files: dict[str, str]) -> None:
    import pnnx
    import torch

    pnnx.export(_model(files), str(folder / "model.pt"), torch.zeros(1, 3, 224, 224), fp16=False)


def litert(folder: Path, files: dict[str, str]) -> None:
    import litert_torch
    import torch

    model = litert_torch.to_channel_last_io(_model(files), args=[0])
    litert_torch.convert(model, (torch.zeros(1, 224, 224, 3),)).export(str(folder / "model.tflite"))


def _model(files):
    import torch
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2()
    model.load_state_dict(torch.load(files["weights"], weights_only=True))
    return model.eval()


if __name__ == "__main__":
    {"transformers": transformers, "ncnn": ncnn, "litert": litert}[sys.argv[1]](
        Path(sys.argv[2]), json.loads(sys.argv[3])
    )
