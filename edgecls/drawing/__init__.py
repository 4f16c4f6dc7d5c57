"""Charts without a plotting package: shapes, drawn once, rendered as SVG for pages and as PNG by Pillow."""

from __future__ import annotations

from edgecls.drawing.figure import Figure

__all__ = ["Figure"]
