from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgecls_export.pipeline import ModelCard
from edgecls_runtime import Preprocess
from edgecls_runtime.manifest import Source


@pytest.fixture
def network() -> nn.Module:
    """A classifier that is in nobody's zoo: 3x32x32 to five classes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(8, 5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return model


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        labels=("ant", "bee", "cat", "dog", "eel"),
        preprocess=Preprocess(resize_size=36, crop_size=(32, 32)),
        arch="custom",
        source=Source(weights="random", sha256="0" * 64),
        metrics={"acc@1": 20.0},
    )


@pytest.fixture
def pictures() -> list[tuple[str, np.ndarray]]:
    from edgecls_runtime.golden import draw_picture

    return [(f"golden {number}", draw_picture(number)) for number in range(7)]
