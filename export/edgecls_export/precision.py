"""What an export can be asked for: float32, half precision, 8-bit integers; and how each is made of float32."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import onnx

from edgecls_export.activations import largest_magnitudes
from edgecls_export.bias_correction import correct_biases, measure_shifts
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import drawn_images
from edgecls_export.equalization import equalize
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_export.graph import check_names
from edgecls_export.int8 import SCHEMES, int8_from_fp32, prepare
from edgecls_runtime.errors import ExportError
from edgecls_runtime.manifest import Calibration

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgecls_export.calibration_images import CalibrationImages
    from edgecls_export.calibrators import Calibrator
    from edgecls_runtime.manifest import Precision as PrecisionName
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["Converted", "Fp16", "Fp32", "Int8", "Precision", "Workshop"]

BIAS_CORRECTION_IMAGES = 128
"""The mean of a channel over 128 pictures is known to a few percent of its standard deviation; more gained nothing."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What a conversion works with.

    Attributes:
        graph: the float32 export, which stays as it is.
        folder: for files on the way.
        preprocess: what turns a picture into the input.
        images: pictures of the parity gate.
        progress: called with the name of each step as it begins.
        counted: called with the number of pictures done and their total, within a step.
    """

    graph: Path
    folder: Path
    preprocess: Preprocess
    images: Sequence[ImageSource]
    progress: Callable[[str], None]
    counted: Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion has to say for the manifest.

    Attributes:
        target: the engine that the graph was shaped for.
        calibration: of INT8.
        float_layers: nodes that stay in float32.
        notes: what the user should know.
    """

    target: str = "any"
    calibration: Calibration | None = None
    float_layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fp32:
    """As PyTorch computes."""

    name: ClassVar[PrecisionName] = "fp32"

    def convert(self, workshop: Workshop, path: Path) -> Converted:
        """Write the graph."""
        shutil.copyfile(workshop.graph, path)
        return Converted()


@dataclass(frozen=True, kw_only=True)
class Fp16:
    """Half the size, and twice the speed where the hardware computes in half.

    Attributes:
        io_fp16: input and output are float16 too.
        keep_float: names of nodes that shall stay in float32.
        images: pictures to look for activations that half cannot hold; those of the parity gate if None.
    """

    name: ClassVar[PrecisionName] = "fp16"
    io_fp16: bool = False
    keep_float: tuple[str, ...] = ()
    images: CalibrationImages | None = None

    def convert(self, workshop: Workshop, path: Path) -> Converted:
        """Write the graph.

        Raises:
            ImageError: a picture cannot be read.
            ExportError: the graph cannot be converted.
        """
        workshop.progress("measure activations")
        images = workshop.images if self.images is None else self.images.sources
        report = fp16_from_fp32(
            workshop.graph,
            path,
            io_fp16=self.io_fp16,
            keep_float=self.keep_float,
            largest=largest_magnitudes(workshop.graph, images, workshop.preprocess),
        )
        kept = tuple(map(str, report.kept))
        notes = (f"{len(kept)} of {len(kept) + report.half} nodes stay in float32: {kept[0]}",) if kept else ()
        return Converted(float_layers=kept, notes=notes)


@dataclass(frozen=True, kw_only=True)
class Int8:
    """A quarter of the size, and the fastest where the processor multiplies integers.

    Attributes:
        target: one of `edgecls_export.int8.SCHEMES`.
        images: for calibration; pictures drawn by the project if None, which the notes regret.
        method: how ranges are chosen; the scheme's own if None.
        exclude: names of nodes that shall stay in float.
        bias_correction: correct the means of the layers' outputs.
        equalize: equalize the weights of layers in a row first.
        cache: folder of remembered ranges.
    """

    name: ClassVar[PrecisionName] = "int8"
    target: str = "cpu"
    images: CalibrationImages | None = None
    method: Calibrator | None = None
    exclude: tuple[str, ...] = ()
    bias_correction: bool = True
    equalize: bool = False
    cache: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.target not in SCHEMES:
            raise ExportError(f"target {self.target!r}: is unknown", f"Choose one of: {', '.join(SCHEMES)}")

    def convert(self, workshop: Workshop, path: Path) -> Converted:
        """Write the graph.

        Raises:
            ImageError: a picture cannot be read.
            ExportError: the graph cannot be converted.
            OutputError: the cache cannot be written.
        """
        images = drawn_images() if self.images is None else self.images
        prepared = workshop.folder / "prepared.onnx"
        prepare(workshop.graph, prepared, scheme=self.target)
        check_names(onnx.load(prepared), self.exclude)  # before the minutes of calibration
        pairs = 0
        if self.equalize:
            workshop.progress("equalize")
            equalized, equalization = equalize(onnx.load(prepared))
            pairs = len(equalization.pairs)
            onnx.save_model(equalized, prepared)
        workshop.progress("calibrate")
        ranges = calibrate(
            prepared,
            images,
            preprocess=workshop.preprocess,
            method=self.method or SCHEMES[self.target].method,
            symmetric=SCHEMES[self.target].symmetric,
            cache=self.cache,
            progress=workshop.counted,
        )
        workshop.progress("quantize")
        report = int8_from_fp32(prepared, path, ranges.values, scheme=self.target, exclude=self.exclude)
        corrected_on = images.sources[:BIAS_CORRECTION_IMAGES] if self.bias_correction else ()
        if corrected_on:
            workshop.progress("correct biases")
            floats = onnx.load(prepared)
            shifts = measure_shifts(
                floats, onnx.load(path), corrected_on, workshop.preprocess, progress=workshop.counted
            )
            onnx.save_model(correct_biases(floats, shifts), prepared)
            report = int8_from_fp32(prepared, path, ranges.values, scheme=self.target, exclude=self.exclude)
        prepared.unlink()
        return Converted(
            target=self.target,
            calibration=Calibration(
                method=ranges.method,
                parameters=dict(ranges.parameters),
                images=ranges.images,
                images_sha256=images.digest(),
                image_set=images.origin,
                scheme=self.target,
                quantized_layers=len(report.quantized),
                bias_correction=len(corrected_on),
                equalized_pairs=pairs,
            ),
            float_layers=report.kept,
            notes=images.warnings,
        )


Precision: TypeAlias = Fp32 | Fp16 | Int8
