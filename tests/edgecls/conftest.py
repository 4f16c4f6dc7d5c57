from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make small runs of torch fifty times slower."""
    torch = sys.modules.get("torch")  # the command line's tests also run where it is not
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Return what draws a small picture of noise, every one another unless `seed` says which; it makes folders, too."""
    numbers = itertools.count()

    def draw(path: Path, *, size: tuple[int, int] = (12, 10), seed: int | None = None, mode: str = "RGB") -> Path:
        generator = np.random.default_rng(next(numbers) if seed is None else 1000 + seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        if mode == "I;16":
            image = Image.fromarray(generator.integers(0, 65536, (size[1], size[0]), dtype=np.uint16))
        elif mode == "P":
            image = image.quantize(16)
        elif mode != "RGB":
            image = image.convert(mode)
        image.save(path)
        return path

    return draw


@pytest.fixture
def colours(tmp_path: Path) -> Callable[..., Path]:
    """Draw a folder of train/ and val/ with noisy pictures that are mostly red, green or blue."""

    def draw(name: str = "colours", *, train: int = 12, val: int = 6, classes: int = 3, size: int = 40) -> Path:
        random = np.random.default_rng(7)
        for split, count in (("train", train), ("val", val)):
            for channel, label in enumerate(("red", "green", "blue")[:classes]):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(0, 120, (size, size + number % 5, 3), np.uint8)
                    pixels[:, :, channel] += 110
                    Image.fromarray(pixels).save(folder / f"{number:03}.png")
        return tmp_path / name

    return draw


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes this machine one with so many GPUs, with or without an Apple one."""

    import torch

    def machine(*, cuda: int = 0, mps: bool = False, built: str | None = "12.8") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", built)

    return machine
