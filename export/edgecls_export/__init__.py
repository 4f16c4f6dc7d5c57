"""Turn any PyTorch picture classifier into one ONNX file that explains itself, proven against PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["ExportReport", "ModelCard", "export_onnx"]

if TYPE_CHECKING:
    from edgecls_export.pipeline import ExportReport, ModelCard, export_onnx


def __getattr__(name: str) -> object:
    """Resolve the public names on first use (PEP 562): `edgecls_export.drawn` alone needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgecls_export import pipeline

    return getattr(pipeline, name)
