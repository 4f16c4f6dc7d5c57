from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


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
    import numpy as np
    from PIL import Image

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
