"""PyTorch with torchvision's own transforms, run in each of its ways."""

from __future__ import annotations

import torch
from PIL import Image
from torchvision import models


def load(files, threads, *, way, channels_last=False):
    torch.set_num_threads(threads)
    model = models.mobilenet_v2()
    model.load_state_dict(torch.load(files["weights"], weights_only=True))
    model.eval()
    transform = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    with torch.inference_mode():
        if way == "compile":
            model = torch.compile(model)
        elif way == "compile-tuned":
            import torch._inductor.config as inductor

            inductor.freezing = True  # weights become constants: folded batch norm, packed layouts
            model = torch.compile(model, mode="max-autotune")
        elif way == "torchscript":
            example = torch.zeros(1, 3, 224, 224)
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, example)))

    def top5(path):
        with torch.inference_mode():
            batch = transform(Image.open(path).convert("RGB"))[None].to(memory_format=layout)
            return model(batch)[0].softmax(0).topk(5).indices.tolist()

    return top5
