"""timm: its own model and its own preprocess (bicubic), in PyTorch eager."""

from __future__ import annotations

import timm
import torch
from PIL import Image


def load(files, threads):
    torch.set_num_threads(threads)
    model = timm.create_model("mobilenetv2_100", pretrained=False)
    # The same layers in the same order under other names.
    theirs = torch.load(files["weights"], weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), theirs.values(), strict=True)))
    model.eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)

    def top5(path):
        with torch.inference_mode():
            return model(transform(Image.open(path).convert("RGB"))[None]).softmax(-1).topk(5).indices[0].tolist()

    return top5
