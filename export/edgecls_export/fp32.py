"""PyTorch to ONNX in float32."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import onnx
import torch
from google.protobuf.message import EncodeError

from edgecls_runtime.errors import ExportError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["DEFAULT_OPSET", "onnx_from_torch", "reason"]

DEFAULT_OPSET = 18
"""What torch's exporter speaks natively, and every engine has kernels for.

The CUDA provider lacks kernels of newer versions (ReduceMax-20, Resize-19), and older versions need a conversion.
"""

_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)

_LARGEST_PROTOBUF = 2**31 - 1  # bytes; https://protobuf.dev/programming-guides/proto-limits/


def onnx_from_torch(
    model: torch.nn.Module,
    path: str | os.PathLike[str],
    *,
    crop_size: tuple[int, int],
    batch_size: int | None = None,
    opset: int = DEFAULT_OPSET,
) -> None:
    """Write a classifier in eval mode as one ONNX file, without external data.

    Args:
        model: float32 [N, 3, H, W] to logits float32 [N, classes].
        path: of the file, written over.
        crop_size: pixels, (height, width) of the input.
        batch_size: fixed number of pictures a run; None leaves it free.
        opset: version of the default operator set.

    The input is called ``input`` [batch, 3, H, W], the output ``logits`` [batch, classes].

    Raises:
        ExportError: torch cannot express the model in this opset, or it is over 2 GB.
    """
    # A traced size of 1 would be taken for a constant, so the free axis is traced with 2.
    example = torch.zeros(batch_size or 2, 3, *crop_size, device=_device(model))
    free = {0: torch.export.Dim("batch", min=1)} if batch_size is None else None
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=(free,) if free else None,
                input_names=["input"],
                output_names=["logits"],
                opset_version=opset,
                verbose=False,
            )
        proto = program.model_proto
    except Exception as error:  # torch.onnx raises its own, torch.export's and plain Python's errors
        raise ExportError(
            f"export to opset {opset}: torch cannot convert the model: {reason(error)}",
            _remedy(model, error),
        ) from error
    _check_opset(proto, opset)
    _strip(proto)
    _check_size(proto)
    onnx.checker.check_model(proto)
    onnx.save_model(proto, path)


def _device(model: torch.nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def _remedy(model: torch.nn.Module, error: Exception) -> str:
    if isinstance(error, ImportError) and (error.name or "").startswith("onnxscript"):
        return "Torch wants another onnxscript than is installed: pip install --upgrade onnxscript"
    wrapped = "module" if isinstance(model, _PARALLEL) else "_orig_mod"  # the latter is torch.compile's
    if hasattr(model, wrapped):
        return f"Export what {type(model).__name__} wraps: model.{wrapped}"
    return f"Try --opset {DEFAULT_OPSET}, or rewrite what torch.export does not support."


def _check_size(proto: onnx.ModelProto) -> None:
    try:
        size = proto.ByteSize()
    except EncodeError:  # protobuf's own refusal, which does not say how large it is
        size = max(_LARGEST_PROTOBUF + 1, sum(len(item.raw_data) for item in proto.graph.initializer))
    if size > _LARGEST_PROTOBUF:
        raise ExportError(
            f"the model is {size:,} bytes, and one ONNX file holds {_LARGEST_PROTOBUF:,}",
            "Export a smaller architecture.",
        )


def _check_opset(proto: onnx.ModelProto, opset: int) -> None:
    # torch keeps its own version, with no more than a log line, where it cannot convert to the one asked for.
    got = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if got != opset:
        raise ExportError(f"export to opset {opset}: torch could only make opset {got}", f"Ask for --opset {got}.")


def _strip(proto: onnx.ModelProto) -> None:
    """Drop what torch notes down for itself: stack traces with paths of this machine, and half of a small file."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's talk about its own internals; what it gets wrong, the parity gate finds."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def reason(error: Exception) -> str:
    """Return the line that says most: the innermost cause's first."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
