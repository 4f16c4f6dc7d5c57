"""Turn any PyTorch picture classifier into ONNX files that explain themselves, proven against PyTorch.

And those into TensorRT engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "CalibrationImages",
    "EmbeddedFile",
    "Embedding",
    "EngineOptions",
    "EngineReport",
    "ExportReport",
    "Fp16",
    "Fp32",
    "Int8",
    "ModelCard",
    "embed_file",
    "engine_from_onnx",
    "export_all",
    "export_onnx",
    "pick_images",
    "triton_from_onnx",
]

if TYPE_CHECKING:
    from edgecls_export.calibration_images import CalibrationImages, pick_images
    from edgecls_export.embedding import EmbeddedFile, Embedding, embed_file
    from edgecls_export.engine import EngineReport, engine_from_onnx
    from edgecls_export.engine_options import EngineOptions
    from edgecls_export.pipeline import ExportReport, ModelCard, export_all, export_onnx
    from edgecls_export.precision import Fp16, Fp32, Int8
    from edgecls_export.triton import triton_from_onnx

# Resolved on first use (PEP 562): `edgecls_export.drawn` alone needs no torch. What is not here is the pipeline's.
_HOME = {
    "CalibrationImages": "calibration_images",
    "pick_images": "calibration_images",
    "EmbeddedFile": "embedding",
    "Embedding": "embedding",
    "embed_file": "embedding",
    "EngineOptions": "engine_options",
    "EngineReport": "engine",
    "engine_from_onnx": "engine",
    "triton_from_onnx": "triton",
    "Fp16": "precision",
    "Fp32": "precision",
    "Int8": "precision",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'pipeline')}"), name)
