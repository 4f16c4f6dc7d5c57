"""Vary the pictures that are learnt from. What is measured on goes through `edgecls_runtime.preprocess` alone.

========== ================================================================================================
preset     what it does
========== ================================================================================================
none       the device's own preprocess, nothing else
light      random crop of at least half the picture, mirror
standard   random crop of at least a quarter, mirror, brightness, contrast and saturation by up to a fifth
strong     random crop of at least 8 %, mirror, TrivialAugment, random erasing, MixUp or CutMix
========== ================================================================================================

Small data sets and short fine-tuning want ``light`` or ``standard``; ``strong`` is for long trainings.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from edgecls_runtime.preprocess import normalize, resize_and_crop

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from torch import Tensor

    from edgecls_runtime.preprocess import Preprocess

__all__ = ["PRESETS", "Augmentation", "mixer", "picture_transform"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Say how pictures are varied; every field off is the preset ``none``.

    Attributes:
        name: of the preset that this began as.
        crop_scale: smallest share of the picture's area that a random crop keeps (Szegedy et al. 2014, "Going
            Deeper with Convolutions"); None resizes and crops as the device does.
        flip: probability of a mirror image.
        jitter: largest relative change of brightness, contrast and saturation.
        policy: automatic augmentation: RandAugment (Cubuk et al. 2019) or TrivialAugment (Müller & Hutter 2021).
        erasing: probability that a rectangle is blanked out (Zhong et al. 2017).
        mixup: alpha of MixUp (Zhang et al. 2017), 0 for none.
        cutmix: alpha of CutMix (Yun et al. 2019), 0 for none; a batch gets one of the two.
    """

    name: str = "none"
    crop_scale: float | None = None
    flip: float = 0.0
    jitter: float = 0.0
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale is {self.crop_scale}, must lie over 0 and at most at 1")
        if not (0 <= self.flip <= 1 and 0 <= self.erasing <= 1 and 0 <= self.jitter < 1):
            raise ValueError(f"flip {self.flip}, erasing {self.erasing} and jitter {self.jitter} must lie from 0 to 1")
        if self.mixup < 0 or self.cutmix < 0:
            raise ValueError(f"mixup {self.mixup} and cutmix {self.cutmix} must not be negative")


PRESETS = {
    preset.name: preset
    for preset in (
        Augmentation(),
        Augmentation(name="light", crop_scale=0.5, flip=0.5),
        Augmentation(name="standard", crop_scale=0.25, flip=0.5, jitter=0.2),
        Augmentation(
            name="strong",
            crop_scale=0.08,
            flip=0.5,
            policy="trivialaugment",
            erasing=0.1,
            mixup=0.2,
            cutmix=1.0,
        ),
    )
}


@functools.lru_cache(maxsize=4)
def picture_transform(augmentation: Augmentation, preprocess: Preprocess) -> Callable[[Image.Image], Tensor]:
    """Return what turns a decoded RGB picture into float32 [3, H, W], drawing from torch's generator."""
    interpolation = InterpolationMode(preprocess.interpolation)
    steps: list[v2.Transform] = []
    if augmentation.crop_scale is not None:
        scale = (augmentation.crop_scale, 1.0)
        steps.append(v2.RandomResizedCrop(preprocess.crop_size, scale=scale, interpolation=interpolation))
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.jitter:
        jitter = augmentation.jitter
        steps.append(v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter))
    if augmentation.policy == "randaugment":
        steps.append(v2.RandAugment(interpolation=interpolation))
    elif augmentation.policy == "trivialaugment":
        steps.append(v2.TrivialAugmentWide(interpolation=interpolation))
    vary = v2.Compose(steps) if steps else None
    erase = v2.RandomErasing(augmentation.erasing) if augmentation.erasing else None

    def transform(image: Image.Image) -> Tensor:
        if augmentation.crop_scale is None:
            pixels = resize_and_crop(image, preprocess)
            if vary is not None:
                pixels = np.asarray(vary(v2.functional.to_pil_image(pixels)))
        else:
            pixels = np.asarray(vary(image)) if vary is not None else np.asarray(image)
        tensor = torch.from_numpy(normalize(pixels, preprocess))
        return tensor if erase is None else erase(tensor)

    return transform


def mixer(augmentation: Augmentation) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Return what mixes a batch: pictures float32 [N, 3, H, W] and targets float32 [N, classes]; None for nothing."""
    mixers = [
        kind(alpha=alpha) for kind, alpha in ((v2.MixUp, augmentation.mixup), (v2.CutMix, augmentation.cutmix)) if alpha
    ]
    return v2.RandomChoice(mixers) if mixers else None
