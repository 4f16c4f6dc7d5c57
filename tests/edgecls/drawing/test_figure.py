from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgecls.drawing.figure import DARK, LIGHT, RAMP, SERIES, cut, text_width

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB; https://doi.org/10.1109/TVCG.2009.113
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# https://bottosson.github.io/posts/oklab/
TO_LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
TO_LMS += [[0.0883024619, 0.2817188376, 0.6299787005]]
TO_LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
TO_LAB += [[0.0259040371, 0.7827717662, -0.8086757660]]


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    dark, light = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("eyes", EYES)
def test_every_two_series_can_be_told_apart(theme: dict[str, str], eyes: str) -> None:
    seen = [np.clip(np.array(EYES[eyes]) @ linear(theme[role]), 0, 1) for role in SERIES]
    places = [np.array(TO_LAB) @ np.cbrt(np.array(TO_LMS) @ colour) for colour in seen]
    distances = [float(np.linalg.norm(one - other)) for one, other in itertools.combinations(places, 2)]
    assert min(distances) > 0.1  # five times what is just noticeable


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_contrast_is_what_wcag_asks_for(theme: dict[str, str]) -> None:
    for role in ("ink", "muted", "good", "bad", "unsure"):  # text
        assert contrast(theme[role], theme["paper"]) >= 4.5, role
    for role in SERIES:  # graphics
        assert contrast(theme[role], theme["paper"]) >= 3.0, role
    for step, role in enumerate(RAMP):
        assert contrast(theme[role], theme["on_deep" if step > 3 else "on_pale"]) >= 4.5, role


def test_themes_have_the_same_roles() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_texts_are_cut_in_their_middle() -> None:
    assert cut("short", 200, 12) == "short"
    long = "mobilenet_v2-int8.onnx, batch 1, 2 threads"
    shown = cut(long, 150, 12)
    assert text_width(shown, 12) <= 150
    start, end = shown.split("…")
    assert long.startswith(start)
    assert long.endswith(end)
    assert abs(len(start) - len(end)) <= 1
