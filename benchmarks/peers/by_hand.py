"""What one writes by hand around an engine without preprocess: torchvision's, and the five best classes."""

from __future__ import annotations

import numpy as np
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
RESIZE, CROP = 256, 224


def decoded_and_resized(path):
    """Return the picture with its shorter side at 256 pixels."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    size = int(RESIZE * image.width / short), int(RESIZE * image.height / short)
    return image.resize(size, Image.Resampling.BILINEAR)


def centre(path):
    """Return the pixels that the model looks at, uint8 [224, 224, 3]."""
    image = decoded_and_resized(path)
    left, top = round((image.width - CROP) / 2), round((image.height - CROP) / 2)
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


def best_five(logits):
    """Return the five best classes, from scores that add up to one."""
    powers = np.exp(logits - logits.max())
    return np.argsort(-(powers / powers.sum()))[:5]
