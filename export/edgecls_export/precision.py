"""What an export can be asked for: float32, half precision, 8-bit integers; and how each is made of float32."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import onnx

from edgecls_export.activations import largest_magnitudes
from edgecls_export.bias_correction import correct_biases, measure_shifts
from edgecls_export.budget import Judge, spend
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import drawn_images
from edgecls_export.equalization import equalize
from edgecls_export.fp16 import LARGEST, fp16_from_fp32
from edgecls_export.graph import check_names
from edgecls_export.int8 import SCHEMES, int8_from_fp32, prepare
from edgecls_export.likeness import Likeness
from edgecls_export.noise import rank_by_noise
from edgecls_export.provenance import AccuracyBudget, Calibration
from edgecls_export.tolerance import TOLERANCES
from edgecls_runtime.errors import ExportError, ParityError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgecls_export.budget import Budget
    from edgecls_export.calibration import Ranges
    from edgecls_export.calibration_images import CalibrationImages
    from edgecls_export.calibrators import Calibrator
    from edgecls_export.int8 import Int8Report
    from edgecls_runtime.manifest import Precision as PrecisionName
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["Converted", "Fp16", "Fp32", "Int8", "Precision", "Workshop"]

COMPARED_IMAGES = 32
"""What a step gains shows in a mean over some dozens."""

NOISE_IMAGES = 32
"""Each picture gives a layer thousands of values to sum over."""

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
        largest = largest_magnitudes(workshop.graph, images, workshop.preprocess, progress=workshop.counted)
        report = fp16_from_fp32(workshop.graph, path, io_fp16=self.io_fp16, keep_float=self.keep_float, largest=largest)
        kept = tuple(map(str, report.kept))
        reached = max(largest.values(), default=0)
        notes = [f"activations reach {reached:.3g} on {len(images)} pictures; half ends at {LARGEST:,.0f}"]
        if kept:
            notes.append(f"{len(kept)} of {len(kept) + report.half} nodes stay in float32: {kept[0]}")
        return Converted(float_layers=kept, notes=tuple(notes))


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
        budget: what may be lost; then as few layers as possible stay in float to meet it.
    """

    name: ClassVar[PrecisionName] = "int8"
    target: str = "cpu"
    images: CalibrationImages | None = None
    method: Calibrator | None = None
    exclude: tuple[str, ...] = ()
    bias_correction: bool = True
    equalize: bool = False
    cache: str | os.PathLike[str] | None = None
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if self.target not in SCHEMES:
            raise ExportError(f"target {self.target!r}: is unknown", f"Choose one of: {', '.join(SCHEMES)}")

    def convert(self, workshop: Workshop, path: Path) -> Converted:
        """Write the graph.

        Raises:
            ImageError: a picture cannot be read.
            ExportError: the graph cannot be converted, or the budget cannot be met.
            ParityError: rewritten for the target, the float32 graph computes something else.
            OutputError: the cache cannot be written.
        """
        images = drawn_images() if self.images is None else self.images
        prepared = workshop.folder / "prepared.onnx"
        prepare(workshop.graph, prepared, scheme=self.target)
        # Before the minutes of calibration: does all that the user names exist, and can it be read?
        check_names(onnx.load(prepared), self.exclude)
        judge = None if self.budget is None else Judge(self.budget, workshop.preprocess)
        likeness = Likeness(workshop.graph, images.sources[:COMPARED_IMAGES], workshop.preprocess)
        self._check_rewrite(likeness.difference(prepared))
        gains: list[str] = []
        equalization = None
        if self.equalize:
            workshop.progress("calibrate without equalization")
            ranges = self._calibrate(prepared, images, workshop)
            int8_from_fp32(prepared, path, ranges.values, scheme=self.target, exclude=self.exclude)
            before = likeness.of(path)
            workshop.progress("equalize")
            equalized, equalization = equalize(onnx.load(prepared))
            onnx.save_model(equalized, prepared)
            del equalized
        workshop.progress("calibrate")
        ranges = self._calibrate(prepared, images, workshop)
        workshop.progress("quantize")
        corrected = workshop.folder / "corrected.onnx"
        shifts: dict[str, NDArray[np.float32]] = {}

        def quantize(kept: tuple[str, ...]) -> Int8Report:
            """Write the graph with these layers in float, the biases of the others corrected."""
            model = onnx.load(prepared)
            correct_biases(model, {name: shift for name, shift in shifts.items() if name not in kept})
            onnx.save_model(model, corrected)
            del model
            return int8_from_fp32(corrected, path, ranges.values, scheme=self.target, exclude=(*self.exclude, *kept))

        report = quantize(())
        if not report.quantized:
            raise ExportError(
                f"INT8 for {self.target}: {len(report.kept)} of {len(report.kept)} layers with weights stay in float: "
                "nothing is left for integers",
                "Exclude fewer layers, or export fp32 or fp16.",
            )
        like = likeness.of(path)
        if equalization is not None:
            gains.append(f"{equalization}: {likeness.measure} {before:.5f} -> {like:.5f}")
        corrected_on = images.sources[:BIAS_CORRECTION_IMAGES] if self.bias_correction else ()
        if corrected_on:
            workshop.progress("correct biases")
            floats, integers = onnx.load(prepared), onnx.load(path)
            shifts = measure_shifts(floats, integers, corrected_on, workshop.preprocess, progress=workshop.counted)
            del floats, integers  # VGG-16's are 700 MB
            report = quantize(())
            gains.append(f"biases corrected: {likeness.measure} {like:.5f} -> {likeness.of(path):.5f}")
        spent: AccuracyBudget | None = None
        costly: tuple[str, ...] = ()
        if judge is not None:
            workshop.progress("spend the accuracy budget")
            ranking = rank_by_noise(
                onnx.load(prepared),
                onnx.load(path),
                images.sources[:NOISE_IMAGES],
                workshop.preprocess,
                progress=workshop.counted,
            )
            spent, costly = self._spend(judge, workshop.graph, path, [layer.node for layer in ranking], quantize)
            report = quantize(costly)
        prepared.unlink()
        corrected.unlink()
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
                bias_correction=len(corrected_on) if shifts else 0,
                equalized_pairs=0 if equalization is None else len(equalization.pairs),
                budget=spent,
            ),
            float_layers=tuple(f"{name}: {self._reason(name, report, costly)}" for name in report.kept),
            notes=(*images.warnings, *_notes(report, gains, spent)),
        )

    def _check_rewrite(self, difference: float) -> None:
        """Refuse a rewrite that is another function: INT8's wide bounds would not notice."""
        allowed = TOLERANCES["fp32"].max_relative_diff
        if difference > allowed:  # of NaN, which the weights make, calibration tells more
            raise ParityError(
                f"INT8 for {self.target}: rewritten in operators for integers, the float32 graph's logits differ by "
                f"{difference:.3g} of the largest, over {allowed:g}",
                "No file was written. Please report the architecture.",
            )

    def _calibrate(self, prepared: Path, images: CalibrationImages, workshop: Workshop) -> Ranges:
        return calibrate(
            prepared,
            images,
            preprocess=workshop.preprocess,
            method=self.method or SCHEMES[self.target].method,
            symmetric=SCHEMES[self.target].symmetric,
            cache=self.cache,
            progress=workshop.counted,
        )

    def _reason(self, layer: str, report: Int8Report, costly: tuple[str, ...]) -> str:
        """Say why a layer stays in float."""
        if layer in self.exclude:
            return "was asked for"
        if layer in costly:
            return "costs accuracy in integers"
        return "would be no quicker in integers" if layer in report.front else "cannot be quantized"

    def _spend(
        self,
        judge: Judge,
        graph: Path,
        path: Path,
        ranking: Sequence[str],
        quantize: Callable[[tuple[str, ...]], Int8Report],
    ) -> tuple[AccuracyBudget, tuple[str, ...]]:
        """Return what the budget came to, and the layers that it leaves in float."""
        budget, baseline = judge.budget, judge.score(graph)

        def score_with(kept: tuple[str, ...]) -> float:
            quantize(kept)
            return judge.score(path)

        # With more than half of its layers in float a file has neither INT8's size nor its speed.
        search = spend(ranking, score_with, baseline=baseline, max_drop=budget.max_drop, most=len(ranking) // 2)
        if not search.met:
            best = search.best
            raise ExportError(
                f"INT8 for {self.target} cannot meet the budget: {judge.measure} {baseline:.2f} % falls by "
                f"{best.drop:.2f} points with {len(best.float_layers)} of {len(ranking)} layers in float, the best of "
                f"{len(search.trials)} attempts; {budget.max_drop:g} are allowed",
                "Calibrate on more pictures, or such as the model meets; try another --method; or raise --max-drop.",
            )
        spent = AccuracyBudget(
            max_drop=budget.max_drop,
            measure=judge.measure,
            images=len(budget.images),
            image_set=budget.origin,
            fp32=baseline,
            int8=search.best.score,
            tried=search.trials,
        )
        return spent, search.best.float_layers


def _notes(report: Int8Report, gains: list[str], spent: AccuracyBudget | None) -> list[str]:
    notes = []
    if report.front:
        notes.append(f"{len(report.front)} layers at the front stay in float32: in integers they would be no quicker")
    return [*notes, *gains, *(f"tried: {trial}" for trial in (spent.tried if spent else ()))]


Precision: TypeAlias = Fp32 | Fp16 | Int8
