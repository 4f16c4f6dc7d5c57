"""How often a checkpoint or an exported model is right: `figures.evaluate`, and what it works with."""

from __future__ import annotations

__all__: list[str] = []
