"""Pictures to measure on where none are given: as large, as detailed and as slow to decode as photos.

Noise of every scale with equal energy in each octave, as photos have (Field, Relations between the statistics of
natural images, 1987), with edges in it. Pillow draws in integers and Python's generator is the same everywhere, so two
machines with the same Pillow measure on the same bytes.
"""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageOps

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COUNT", "draw_jpegs"]

COUNT = 192
"""Together 20 MB, more than most caches hold, and 100 MB once decoded."""

_SIZES = ((500, 375), (500, 375), (500, 333), (375, 500))  # ImageNet's most frequent, about as frequent as there
_SCENE = (1000, 750)
_PICTURES_OF_A_SCENE = 24
_QUALITIES = (85, 92, 96, 96)


def draw_jpegs(count: int = COUNT) -> Iterator[bytes]:
    """Yield ``count`` different pictures, each a JPEG file."""
    for number in range(count):
        chance = random.Random(number)  # noqa: S311 - reproducible, not secret
        if number % _PICTURES_OF_A_SCENE == 0:
            scene = _draw_scene(chance)
        yield _encode(scene, chance)


def _encode(scene: Image.Image, chance: random.Random) -> bytes:
    """Cut a picture out of a scene, in a light and a quality of its own."""
    width, height = chance.choice(_SIZES)
    left, top = chance.randrange(_SCENE[0] - width), chance.randrange(_SCENE[1] - height)
    picture = scene.crop((left, top, left + width, top + height))
    if chance.random() < 0.5:
        picture = ImageOps.mirror(picture)
    dark, bright = chance.randrange(0, 60), chance.randrange(160, 256)
    picture = picture.point([dark + (bright - dark) * value // 255 for value in range(256)] * 3)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=chance.choice(_QUALITIES), subsampling=chance.choice(("4:4:4", "4:2:0")))
    return encoded.getvalue()


def _draw_scene(chance: random.Random) -> Image.Image:
    """Lay surfaces over one another, each of two colours and with the texture of one of two noises."""
    textures = [_noise(chance) for _ in range(2)]
    scene = _tint(chance, textures[0])
    for number in range(80):
        radius = chance.randint(10, 200 // (1 + number // 10) + 20)
        left, top = chance.randint(-radius, _SCENE[0] - radius), chance.randint(-radius, _SCENE[1] - radius)
        size = 2 * radius, 2 * radius
        mask = Image.new("L", size)
        if chance.random() < 0.5:
            corners = [(chance.randrange(size[0]), chance.randrange(size[1])) for _ in range(chance.randint(3, 6))]
            ImageDraw.Draw(mask).polygon(corners, fill=255)
        else:
            ImageDraw.Draw(mask).ellipse((0, radius // 2, size[0], radius * 3 // 2), fill=255)
        start = chance.randrange(_SCENE[0] - size[0]), chance.randrange(_SCENE[1] - size[1])
        texture = chance.choice(textures).crop((*start, start[0] + size[0], start[1] + size[1]))
        scene.paste(_tint(chance, texture), (left, top), mask)
    return scene


def _noise(chance: random.Random) -> Image.Image:
    """Add gray noise octave by octave, each with the same share."""
    total = Image.new("L", _SCENE)
    for octave in range(2, 11):
        size = (1 << octave, 3 << octave >> 2)
        noise = Image.frombytes("L", size, chance.randbytes(size[0] * size[1]))
        total = Image.blend(total, noise.resize(_SCENE, Image.Resampling.BICUBIC), 1 / (octave - 1))
    return ImageOps.autocontrast(total, cutoff=1)


def _tint(chance: random.Random, texture: Image.Image) -> Image.Image:
    """Put a dark and a light colour in the places of black and white."""
    dark, light = (tuple(chance.randrange(lowest, lowest + 128) for _ in range(3)) for lowest in (0, 128))
    return ImageOps.colorize(texture, dark, light)
