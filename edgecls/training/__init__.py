"""From a folder of pictures to a checkpoint: `loop.train`, and what it works with."""

from __future__ import annotations

__all__: list[str] = []
