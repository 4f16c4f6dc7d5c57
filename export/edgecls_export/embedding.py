"""An ONNX classifier to one that programs in C++, Java or C# embed with less: pixels in, the best classes out.

======== ========================================== ==================================================================
where    nodes                                      what they compute
======== ========================================== ==================================================================
in front Cast, Transpose, Div, Sub, Div             uint8 [N, H, W, 3] to ``(pixel / 255 - mean) / std``, in the very
                                                    order of torch and of `edgecls_runtime.preprocess.normalize`
behind   TopK of the logits; Softmax and            scores float32 [N, k] and indices int64 [N, k], best first, beside
         GatherElements, or Sigmoid                 the logits
======== ========================================== ==================================================================

Resize and crop stay outside: no two engines agree on a resize, and the crop's pixels are what can be checked.

Nothing is folded into the first convolution: it pads with zeros that are normalized already, and its rounding would be
another. Where an engine divides as IEEE 754 says (ONNX Runtime on a CPU), the floats are those of the runtime bit for
bit; OpenVINO multiplies by the reciprocal and lies 2 ulp off. A table of the 256 values would be exact everywhere, but
neither of its forms is quick on both engines (``benchmarks/embedding.py``). In INT8 files it would spare one
QuantizeLinear, and no more.

The logits stay an output. By them parity, golden outputs, `evaluate` and `compare` measure such a file as any other;
who embeds it asks for scores and indices alone.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecls_export import parity
from edgecls_export.file_sets import check_no_engine
from edgecls_runtime import golden, manifest, onnx_file
from edgecls_runtime.backends.onnxruntime import import_onnxruntime
from edgecls_runtime.classifier import Classifier
from edgecls_runtime.errors import ExportError, ManifestError, ParityError
from edgecls_runtime.manifest import TopK
from edgecls_runtime.output import whole_file
from edgecls_runtime.preprocess import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["EmbeddedFile", "Embedding", "embed_file", "embed_preprocess"]


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What a graph shall do beyond the network: normalize, and name the best classes.

    Attributes:
        top_k: number of classes that it names; None for logits alone.
    """

    top_k: int | None = None

    def check(self, classes: int) -> None:
        """Refuse more classes than there are.

        Raises:
            ExportError: says how many there are.
        """
        if self.top_k is not None and not 1 <= self.top_k <= classes:
            raise ExportError(
                f"top-k: the best {self.top_k} of {classes} classes are asked for", f"Ask for 1 to {classes}."
            )


@dataclass(frozen=True)
class EmbeddedFile:
    """What `embed_file` made, and how far its logits lie from those of the file that it was made of."""

    path: Path
    manifest: Manifest
    size_bytes: int
    seconds: float
    max_relative_diff: float
    images: int

    def __str__(self) -> str:
        document = self.manifest
        size = f"{self.size_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        return (
            f"{self.path}: {document.arch} {document.precision}, {size}\n"
            f"parity: {self.images} pictures against the file that it was made of: "
            f"max |diff| {self.max_relative_diff:.2g} of max |logit|"
        )


def embed_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    embedding: Embedding,
    images: Sequence[tuple[str, ImageSource]],
    *,
    force: bool = False,
) -> EmbeddedFile:
    """Embed the preprocess of a finished file, in whatever precision it is; without torch.

    Its parity report and golden outputs stay: the new file must answer the pictures as the old one does, and compute
    the golden outputs.

    Args:
        source: file of edgecls.
        target: file to write.
        embedding: what to embed.
        images: names and pictures that both answer.
        force: overwrite the target.

    Raises:
        OutputError: the target exists, or cannot be written.
        ModelError: the source cannot be read.
        ManifestError: it carries no manifest, or no golden outputs.
        ExportError: it is embedded already, or there are not so many classes.
        ParityError: the two do not agree. As with every error, no file is left.
        VerificationError: the old or the new file does not compute the golden outputs.
    """
    started, where = time.monotonic(), os.fspath(source)
    check_no_engine(target)
    document = manifest.read(source)
    if document is None or document.golden is None:
        raise ManifestError(
            f"{where}: carries no {'golden outputs' if document else 'manifest'}: nobody knows what it should compute",
            "Embed a file of edgecls: edgecls export ARCH|CHECKPOINT --embed-preprocess",
        )
    golden.verify(source).require()
    target = Path(target)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(whole_file(target, force=force))
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        made = Path(stack.enter_context(folder)) / "embedded.onnx"
        changed = embed_preprocess(source, made, document, embedding)
        answers = replace(document.golden, contract_sha256=changed.contract_sha256())
        changed = replace(changed, golden=answers)
        manifest.write(changed, made, temporary)
        with Classifier.load(source) as old, Classifier.load(temporary) as new:
            agreement = parity.compare(
                old.run, new, images, preprocess=old.preprocess, image_set="pictures that both answer"
            )
        parity.require(agreement, "fp32")  # whatever the precision: behind the input the graph is the same
        replace(golden.verify(temporary), path=str(target)).require()
        size, seconds = temporary.stat().st_size, time.monotonic() - started
    return EmbeddedFile(target, changed, size, seconds, agreement.max_relative_diff, agreement.images)


def embed_preprocess(
    source: str | os.PathLike[str], target: str | os.PathLike[str], document: Manifest, embedding: Embedding
) -> Manifest:
    """Write an ONNX classifier as one that takes pixels, and names the best classes if asked to.

    Args:
        source: one ONNX file, in any precision, whose input is normalized float32 pictures.
        target: file to write, written over; without a manifest.
        document: manifest of the source.
        embedding: what to embed.

    Returns:
        The manifest of what was written.

    Raises:
        ExportError: the source does so already, or takes or returns something else; or there are not so many classes.
        ParityError: this machine's ONNX Runtime does not compute the runtime's floats, bit for bit.
    """
    where = os.fspath(source)
    embedding.check(len(document.labels))
    model = onnx.load(source)
    _check_plain(model, document, where)
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {item.name for item in model.graph.initializer}
    pixels = _fresh("pixels", taken)
    front = _front(document.preprocess, pixels, document.input_name, taken)
    _check_exact(front, document.preprocess)
    _put_in_front(model, front)
    top_k = None
    if embedding.top_k is not None:
        names = [_fresh(name, taken) for name in ("scores", "indices")]
        top_k = TopK(k=embedding.top_k, scores_name=names[0], indices_name=names[1])
        _put_behind(model, document, top_k, taken)
    del model.metadata_props[:]  # the source's manifest
    onnx.checker.check_model(model)
    onnx.save_model(model, target)
    return replace(
        document,
        preprocess=document.preprocess.replace(input_layout="NHWC-uint8"),
        input_name=pixels,
        top_k=top_k,
        graph_sha256=onnx_file.graph_sha256(target),
    )


def _check_plain(model: onnx.ModelProto, document: Manifest, where: str) -> None:
    if document.preprocess.input_layout != "NCHW-float" or document.top_k is not None:
        raise ExportError(
            f"{where}: has its preprocess embedded already", "Embed the file that it was made of, or export it again."
        )
    for kind, infos in (("takes", model.graph.input), ("returns", model.graph.output)):
        tensor = infos[0].type.tensor_type
        rank = len(tensor.shape.dim)
        if tensor.elem_type != TensorProto.FLOAT or rank != (4 if kind == "takes" else 2):
            dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise ExportError(
                f"{where}: {kind} {infos[0].name}: {dtype} of {rank} axes; float32 "
                f"{'[N, 3, H, W]' if kind == 'takes' else '[N, classes]'} is what can be embedded",
                "Export it again without --io-fp16, and with one score a class.",
            )


def _front(preprocess: Preprocess, pixels: str, result: str, taken: set[str]) -> onnx.GraphProto:
    """Return the nodes that normalize as a graph of their own, from pixels [N, ?, ?, 3] to float32 [N, 3, ?, ?]."""
    cast, planes, unit, centred = (
        _fresh(f"preprocess_{part}", taken) for part in ("cast", "planes", "unit", "centred")
    )
    constants = {
        _fresh("preprocess_255", taken): np.float32(255),
        _fresh("preprocess_mean", taken): np.array(preprocess.mean, np.float32).reshape(3, 1, 1),
        _fresh("preprocess_std", taken): np.array(preprocess.std, np.float32).reshape(3, 1, 1),
    }
    white, mean, std = constants
    nodes = [  # the Cast comes first because TensorRT takes uint8 nowhere else
        helper.make_node("Cast", [pixels], [cast], name=cast, to=TensorProto.FLOAT),
        helper.make_node("Transpose", [cast], [planes], name=planes, perm=[0, 3, 1, 2]),
        helper.make_node("Div", [planes, white], [unit], name=unit),
        helper.make_node("Sub", [unit, mean], [centred], name=centred),
        helper.make_node("Div", [centred, std], [result], name=f"{centred}_std"),
    ]
    return helper.make_graph(
        nodes,
        "preprocess",
        [helper.make_tensor_value_info(pixels, TensorProto.UINT8, [None, None, None, 3])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [None, 3, None, None])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )


def _check_exact(front: onnx.GraphProto, preprocess: Preprocess) -> None:
    """Hold every value that a pixel can have, in every channel, against the runtime's own arithmetic."""
    model = helper.make_model(front, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session: Any = import_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels: NDArray[np.uint8] = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    (found,) = session.run(None, {front.input[0].name: pixels[None]})
    different = int((found[0] != normalize(pixels, preprocess)).sum())
    if different:
        raise ParityError(
            f"preprocess: on this machine ONNX Runtime computes {different} of 768 normalized values otherwise than "
            "the runtime",
            "No file was written. Please report the processor and the version of onnxruntime.",
        )


def _put_in_front(model: onnx.ModelProto, front: onnx.GraphProto) -> None:
    graph = model.graph
    axes = graph.input[0].type.tensor_type.shape.dim
    batch, _, height, width = (axis.dim_value or axis.dim_param or None for axis in axes)
    pixels = helper.make_tensor_value_info(front.input[0].name, TensorProto.UINT8, [batch, height, width, 3])
    graph.input[0].CopyFrom(pixels)
    nodes = [*front.node, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(front.initializer)


def _put_behind(model: onnx.ModelProto, document: Manifest, top_k: TopK, taken: set[str]) -> None:
    graph, logits = model.graph, document.output_name
    count, best, every = (_fresh(f"top_k_{part}", taken) for part in ("k", "logits", "scores"))
    graph.initializer.append(numpy_helper.from_array(np.array([top_k.k], np.int64), count))
    # Of the logits, as the runtime does: scores that round to the same 0 or 1 would lose their order.
    graph.node.append(
        helper.make_node("TopK", [logits, count], [best, top_k.indices_name], name=top_k.indices_name, axis=1)
    )
    if document.activation == "sigmoid":
        graph.node.append(helper.make_node("Sigmoid", [best], [top_k.scores_name], name=top_k.scores_name))
    else:
        graph.node.append(helper.make_node("Softmax", [logits], [every], name=every, axis=1))
        names = [every, top_k.indices_name]
        graph.node.append(
            helper.make_node("GatherElements", names, [top_k.scores_name], name=top_k.scores_name, axis=1)
        )
    axis = graph.output[0].type.tensor_type.shape.dim[0]
    shape = [axis.dim_value or axis.dim_param or None, top_k.k]
    graph.output.extend(
        [
            helper.make_tensor_value_info(top_k.scores_name, TensorProto.FLOAT, shape),
            helper.make_tensor_value_info(top_k.indices_name, TensorProto.INT64, shape),
        ]
    )


def _fresh(name: str, taken: set[str]) -> str:
    """Return a name that no tensor has yet, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
