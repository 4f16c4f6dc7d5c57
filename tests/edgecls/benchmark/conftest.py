from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, ...]:
    """Five pictures of different sizes and kinds."""
    random = np.random.default_rng(3)
    paths = []
    for number, mode in enumerate(("RGB", "L", "RGBA", "CMYK", "RGB")):
        noise = random.integers(0, 256, (40 + 5 * number, 60 - 5 * number, 3), np.uint8)
        path = tmp_path / "pictures" / f"{number}.{'tiff' if mode == 'CMYK' else 'png'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise).convert(mode).save(path)
        paths.append(str(path))
    return tuple(paths)
