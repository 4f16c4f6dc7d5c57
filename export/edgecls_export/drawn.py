"""Pictures with the statistics of photos, drawn from a seed: for parity and calibration without a data set.

A classifier answers noise or flat colour with activations unlike those for photos. So these pictures are built of
what photos are built of: things that hide each other, with sizes by a power law (which alone yields the spectrum
of photos: Lee, Mumford, Huang, *Occlusion Models for Natural Images*, 2001), surfaces with 1/f texture (Field,
*Relations between the Statistics of Natural Images*, 1987), stripes and checks, light from one side, shadows,
defocus, sensor noise, colour casts, and exposures from near-dark to near-bright.

The same seed gives the same pictures on one machine with one NumPy and one Pillow. Elsewhere a pixel may differ
by a level or so: the FFT and the sines round as the CPU's vector units do. Where pixels must be the same
everywhere, use `edgecls_runtime.golden`.

``python -m edgecls_export.drawn calibration_data`` writes them to a folder.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from edgecls_runtime.errors import EdgeclsError, OutputError
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["GENERATOR_VERSION", "draw_pictures", "write_folder"]

GENERATOR_VERSION = 1
"""Raised when the same seed no longer draws the same pictures."""

Floats: TypeAlias = NDArray[np.float32]

_OVERSAMPLING = 3  # shapes are rasterized this much larger, then averaged: antialiasing


@dataclass(frozen=True)
class _Mood:
    """How a picture is exposed: each field is a range to choose from.

    ``black`` and ``white`` are the levels (0 to 1) that the scene's darkest and brightest percent are mapped to.
    """

    black: tuple[float, float] = (-0.1, 0.05)
    white: tuple[float, float] = (0.85, 1.1)
    saturation: tuple[float, float] = (0.4, 1.0)
    cast: float = 0.06


# Taken in turn, so that a few pictures already show them all.
_MOODS = (
    _Mood(),
    _Mood(saturation=(1.1, 1.6)),
    _Mood(black=(-0.3, -0.1), white=(1.1, 1.4)),  # hard light: shadows and highlights clip
    _Mood(saturation=(0.0, 0.0), cast=0.0),  # gray
    _Mood(),
    _Mood(black=(0.0, 0.02), white=(0.1, 0.25)),  # near-dark
    _Mood(black=(0.3, 0.5), white=(0.55, 0.75)),  # haze
    _Mood(black=(0.5, 0.75), white=(1.0, 1.1)),  # near-bright
    _Mood(cast=0.35),  # lamp light, or open shade
)


def draw_pictures(count: int = 64, *, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Draw pictures one by one; picture ``i`` depends on ``seed`` and ``i``, not on ``count``.

    Args:
        count: number of pictures.
        seed: another one draws other pictures.

    Yields:
        A name (``drawn-0000``) and an RGB picture of 160 to 480 pixels a side: landscape, portrait or square.
    """
    for index in range(count):
        yield f"drawn-{index:04d}", _picture(seed, index).copy()


def write_folder(
    folder: str | os.PathLike[str], *, count: int = 64, seed: int = 0, quality: int = 90, force: bool = False
) -> None:
    """Write the pictures as JPEG files, and a ``manifest.json`` with what made them and each file's SHA-256.

    Args:
        folder: is created where it is missing.
        count: number of pictures.
        seed: of `draw_pictures`.
        quality: of the JPEG files, 1 to 95.
        force: replace the drawn pictures of an earlier run.

    Raises:
        OutputError: the folder already holds drawn pictures (without ``force``), or cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    earlier = [*folder.glob("drawn-*.jpg"), *folder.glob(manifest.name)]
    if earlier and not force:
        raise OutputError(f"{folder}: already holds {min(earlier).name}", "Choose another folder, or add --force.")
    for path in earlier:
        path.unlink()
    digests = {}
    for name, picture in draw_pictures(count, seed=seed):
        with whole_file(folder / f"{name}.jpg") as temporary:
            picture.save(temporary, "JPEG", quality=quality, optimize=True)
            digests[f"{name}.jpg"] = hashlib.sha256(temporary.read_bytes()).hexdigest()
    made = {"count": count, "seed": seed, "quality": quality, "generator_version": GENERATOR_VERSION}
    # Last, so that a folder with a manifest is a whole one.
    with whole_file(manifest) as temporary:
        temporary.write_text(json.dumps({**made, "pictures": digests}, indent=2) + "\n")


@functools.lru_cache(maxsize=64)
def _picture(seed: int, index: int) -> Image.Image:
    """Draw one, and remember it: an export asks up to three times, for ranges, parity and the comparison at its end."""
    # What SeedSequence(seed).spawn(...)[index] is, without the ones before it.
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))
    return _draw(random, _MOODS[index % len(_MOODS)])


def _draw(random: np.random.Generator, mood: _Mood) -> Image.Image:
    """Compose a scene, background first."""
    scene = _Scene(random)
    composition = random.choice(["leaves", "still", "strokes", "lattice", "surface"], p=[0.3, 0.3, 0.15, 0.15, 0.1])
    if composition == "leaves":  # everything hides something: foliage, pebbles, a crowd
        for radius in _radii(random, (20, 60), 0.06, 0.6):
            scene.add(random.choice(["ellipse", "polygon", "blob", "box"]), radius)
    elif composition == "still":  # a few things in focus before a background that may not be
        for radius in _radii(random, (4, 16), 0.1, 0.5):
            scene.add(random.choice(["polygon", "blob", "stroke", "box"]), radius)
        scene.pixels = _blur(scene.pixels, random.uniform(0, 6))
        for radius in random.uniform(0.15, 0.42, random.integers(1, 5)).tolist():
            scene.add(random.choice(["ellipse", "polygon", "blob", "box"]), radius)
    elif composition == "strokes":  # grass, hair, twigs, wires
        for radius in _radii(random, (20, 60), 0.2, 0.8):
            scene.add("stroke", radius)
    elif composition == "lattice":  # windows, bricks, goods on a shelf
        kind = random.choice(["ellipse", "polygon", "blob", "box"])
        rows, columns = random.integers(2, 7, 2)
        for y, x in np.ndindex(rows, columns):
            centre = (x + random.normal(0.5, 0.05)) / columns, (y + random.normal(0.5, 0.05)) / rows
            scene.add(kind, random.uniform(0.4, 0.7) / max(rows, columns), centre)
    else:  # a surface seen close
        for radius in random.uniform(0.05, 0.4, random.integers(0, 3)).tolist():
            scene.add("blob", radius)
    return scene.develop(mood)


class _Scene:
    """A picture being drawn: linear light, float32 [3, H, W], about 0 to 1; light comes from one side."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.height, self.width = _choose_size(random)
        self.short = min(self.height, self.width)
        self.texture = _noise(random, (self.height, self.width), random.uniform(0.6, 1.2))
        angle = random.uniform(-np.pi, 0)  # from above, in image coordinates
        self.away = -np.array([np.cos(angle), np.sin(angle)])
        y = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self.width, dtype=np.float32)[None, :]
        self.light = -(x * np.float32(self.away[0]) + y * np.float32(self.away[1]))
        self.vignette = x**2 + y**2
        self.palette = _choose_palette(random)
        whole = (slice(0, self.height), slice(0, self.width))
        self.pixels = self._surface(whole, 1.0)
        if random.random() < 0.5:  # ground below a horizon
            horizon = int(self.height * random.uniform(0.35, 0.75))
            ground = (slice(horizon, self.height), whole[1])
            self.pixels[:, *ground] = self._surface(ground, 1.0)

    def add(self, kind: str, radius: float, centre: tuple[float, float] | None = None) -> None:
        """Put an object on top, which may cast a shadow.

        Args:
            kind: of `_outline`.
            radius: as a share of the shorter side.
            centre: (x, y) as shares of width and height; anywhere if None.
        """
        random = self.random
        size = float(radius * self.short)
        x, y = random.uniform(-0.05, 1.05, 2) if centre is None else centre
        points = _outline(random, kind) * size + (x * self.width, y * self.height)
        if random.random() < 0.5:
            reach = size * random.uniform(0.05, 0.25)
            where, mask = self._mask(points + reach * self.away, blur=reach / 2)
            self.pixels[:, *where] *= 1 - random.uniform(0.3, 0.7) * mask
        where, mask = self._mask(points)
        below = self.pixels[:, *where]
        opacity = 1.0 if random.random() < 0.85 else random.uniform(0.4, 0.9)
        below += opacity * mask * (self._surface(where, radius) - below)

    def develop(self, mood: _Mood) -> Image.Image:
        """Light the whole, expose it, and turn it into bytes."""
        random = self.random
        light = (1 + random.uniform(0, 0.4) * self.light) * (1 - random.uniform(0, 0.25) * self.vignette)
        pixels = self.pixels * light
        if random.random() < 0.1:  # the camera missed
            pixels = _blur(pixels, random.uniform(1, 3))
        gray = pixels.mean(axis=0)
        pixels = gray + random.uniform(*mood.saturation) * (pixels - gray)
        pixels *= 1 + random.uniform(-mood.cast, mood.cast, (3, 1, 1)).astype(np.float32)
        darkest, brightest = np.percentile(gray[::4, ::4], [1, 99]).astype(np.float32)
        pixels = ((pixels - darkest) / max(brightest - darkest, np.float32(1e-3))).clip(0, 1.5)
        curve = random.uniform(0, 1)  # from linear light (0) to about what files hold (1: sRGB is close to a root)
        pixels += curve * (np.sqrt(pixels) - pixels)
        black, white = random.uniform(*mood.black), random.uniform(*mood.white)
        pixels = black + (white - black) * pixels
        pixels += random.uniform(0, 0.015) * random.standard_normal(gray.shape, np.float32)
        return _to_image(pixels)

    def _surface(self, where: tuple[slice, slice], scale: float) -> Floats:
        """Paint a material over the rectangle ``where``: two colours, light, texture, maybe a pattern."""
        random = self.random
        first, second = self.palette[random.integers(0, len(self.palette), 2)]
        flip = random.integers(0, 2, 2)  # or equal places would always carry equal texture
        texture = self.texture[:: 1 - 2 * flip[0], :: 1 - 2 * flip[1]][where]
        if random.random() < 0.25:
            mix = self._pattern(where, scale)
        else:
            mix = 0.5 + 0.5 * self._wave(where, random.uniform(0.5, 2) * max(scale, 0.1))
        mix += random.uniform(0, 0.3) * texture
        shade = 1 + random.uniform(0, 0.3) * self.light[where] + random.uniform(0, 0.25) * texture
        surface: Floats = (first + mix * (second - first)) * shade
        return surface

    def _pattern(self, where: tuple[slice, slice], scale: float) -> Floats:
        """Stripes or checks with soft edges, 0 to 1."""
        period = scale * self.random.uniform(0.08, 0.5)
        wave = self._wave(where, period)
        if self.random.random() < 0.4:
            wave = wave * self._wave(where, period)
        pattern: Floats = np.clip(wave * self.random.uniform(1, 8), -1, 1) / 2 + 0.5
        return pattern

    def _wave(self, where: tuple[slice, slice], period: float) -> Floats:
        """A plane wave of random direction, -1 to 1; ``period`` as a share of the shorter side."""
        angle, phase = self.random.uniform(0, 2 * np.pi, 2)
        turns = 2 * np.pi / (period * self.short)
        y = np.arange(where[0].start, where[0].stop, dtype=np.float32)[:, None]
        x = np.arange(where[1].start, where[1].stop, dtype=np.float32)[None, :]
        along = x * np.float32(np.cos(angle) * turns) + y * np.float32(np.sin(angle) * turns)
        wave: Floats = np.sin(along + np.float32(phase))
        return wave

    def _mask(self, points: NDArray[np.float64], blur: float = 0) -> tuple[tuple[slice, slice], Floats]:
        """Fill a polygon: the rectangle of the picture that it touches, and its coverage there [h, w]."""
        margin = 1 + int(2 * blur)
        low = np.floor(points.min(axis=0)).astype(int) - margin
        high = np.ceil(points.max(axis=0)).astype(int) + margin
        left, top = np.clip(low, 0, (self.width - 1, self.height - 1))
        right, bottom = np.clip(high, (left + 1, top + 1), (self.width, self.height))
        large = Image.new("L", ((right - left) * _OVERSAMPLING, (bottom - top) * _OVERSAMPLING))
        corners = (points - (left, top)) * _OVERSAMPLING
        ImageDraw.Draw(large).polygon([(x, y) for x, y in corners.tolist()], fill=255)
        small = large.reduce(_OVERSAMPLING)
        if blur:
            small = small.filter(ImageFilter.GaussianBlur(blur))
        return (slice(top, bottom), slice(left, right)), np.asarray(small, np.float32) / np.float32(255)


def _choose_size(random: np.random.Generator) -> tuple[int, int]:
    """Return (height, width): two in five landscape, two in five portrait, the rest square."""
    long = int(random.integers(200, 481))
    short = max(160, int(long * random.uniform(0.56, 0.85)))
    square = int(random.integers(160, 361))
    sizes = [(short, long), (long, short), (square, square)]
    return sizes[random.choice(3, p=[0.4, 0.4, 0.2])]


def _choose_palette(random: np.random.Generator) -> Floats:
    """Return a few colours that go together, [5, 3, 1, 1]: hues around one, now and then its opposite."""
    near = random.uniform() + random.uniform(0.03, 0.3) * random.standard_normal(5)
    hues = near + random.choice([0, 0.5], 5, p=[0.8, 0.2])
    colors = [colorsys.hsv_to_rgb(hue % 1, *random.beta(2, 2, 2)) for hue in hues]
    return np.array(colors, np.float32).reshape(5, 3, 1, 1)


def _radii(random: np.random.Generator, count: tuple[int, int], smallest: float, largest: float) -> list[float]:
    """Draw radii with density r**-3, under which occlusion looks the same at every scale; ``count`` is a range."""
    share = random.uniform(size=random.integers(*count))
    radii = (largest**-2 + share * (smallest**-2 - largest**-2)) ** -0.5
    return [float(radius) for radius in radii]


def _noise(random: np.random.Generator, shape: tuple[int, int], exponent: float) -> Floats:
    """Gaussian noise whose amplitude spectrum falls as 1/f**exponent; mean 0, standard deviation 1."""
    spectrum = np.fft.rfft2(random.standard_normal(shape, np.float32))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf  # no constant part
    field = np.fft.irfft2(spectrum * frequency.astype(np.float32) ** -np.float32(exponent), shape)
    normal: Floats = (field / field.std()).astype(np.float32)
    return normal


def _outline(random: np.random.Generator, kind: str) -> NDArray[np.float64]:
    """Return the corners [n, 2] of a randomly turned shape of radius about 1 around the origin."""
    turn = random.normal(0, 0.1) if kind == "box" else random.uniform(0, 2 * np.pi)
    if kind == "stroke":  # a bent, tapering line: there on one side, back on the other
        x = np.linspace(-1, 1, 16)
        y = random.uniform(-0.4, 0.4) * (1 - x**2) + random.uniform(-0.2, 0.2) * x**3
        half_width = random.uniform(0.01, 0.06) * (1 - random.uniform(0, 0.45) * (x + 1))
        points = np.array([[*x, *x[::-1]], [*(y + half_width), *(y - half_width)[::-1]]])
    else:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        if kind == "box":
            angles = np.pi * np.array([0.25, 0.75, 1.25, 1.75])
        elif kind == "polygon":
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
        radii = np.ones_like(angles)
        if kind == "blob":
            for wave in range(1, 6):
                radii += random.uniform(0, 0.5 / wave) * np.cos(wave * angles + random.uniform(0, 2 * np.pi))
        points = radii * np.array([np.cos(angles), random.uniform(0.4, 1) * np.sin(angles)])
    turned: NDArray[np.float64] = (np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ points).T
    return turned


def _blur(pixels: Floats, sigma: float) -> Floats:
    blurred = _to_image(pixels).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred, np.float32).transpose(2, 0, 1) / np.float32(255)


def _to_image(pixels: Floats) -> Image.Image:
    """Turn float32 [3, H, W], 0 to 1, into a picture."""
    return Image.fromarray((pixels.transpose(1, 2, 0).clip(0, 1) * 255 + 0.5).astype(np.uint8))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--count", default=64, show_default=True, help="Number of pictures.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other pictures.")
@click.option("--quality", default=90, show_default=True, type=click.IntRange(1, 95), help="Of the JPEG files.")
@click.option("--force", is_flag=True, help="Replace the drawn pictures of an earlier run.")
def _main(folder: Path, count: int, seed: int, quality: int, force: bool) -> None:
    """Draw pictures for calibration and parity into FOLDER."""
    try:
        write_folder(folder, count=count, seed=seed, quality=quality, force=force)
    except (EdgeclsError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    _main()
