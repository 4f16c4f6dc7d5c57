"""What `edgecls export` is told about precision, turned into what the exporter takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls_runtime.errors import DataError

from .param_types import NumberRange, ParamType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls_export.calibration_images import CalibrationImages
    from edgecls_export.calibrators import Calibrator
    from edgecls_export.precision import Precision

__all__ = [
    "PRECISIONS",
    "EvaluationPictures",
    "asked_precisions",
    "calibration_pictures",
    "evaluation_pictures",
    "make_precision",
    "precision_options",
]

PRECISIONS = ("fp32", "fp16", "int8")

_FOR_FP16 = ("io_fp16",)
_FOR_INT8 = (
    *("target", "calibration_cache", "method", "bias_correction", "equalize"),
    *("max_drop", "eval_data", "eval_labels_from", "class_map"),
)
_FOR_BOTH = ("calibration", "calibration_images", "keep_float")


class _Precisions(ParamType[tuple[str, ...]]):
    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Take precisions separated by commas."""
        names = tuple(part.strip() for part in str(value).split(","))
        for name in names:
            if name not in PRECISIONS:
                self.fail(f"{name!r} is not one of {', '.join(PRECISIONS)}", param, ctx)
        if len(set(names)) < len(names):
            self.fail(f"{value!r} names one twice", param, ctx)
        return names


def precision_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of FP16 and INT8."""
    for option in reversed(
        (
            click.option("--fp16", is_flag=True, help="Half precision: half the size."),
            click.option("--int8", is_flag=True, help="8-bit integers: a quarter of the size."),
            click.option(
                "--precision", type=_Precisions(), metavar="LIST", help="Several files at once, say fp32,fp16,int8."
            ),
            click.option("--io-fp16", is_flag=True, help="fp16: input and output in half, too."),
            click.option("--keep-float", multiple=True, metavar="NODE", help="Leave this node in float32. Repeatable."),
            click.option(
                "--target",
                type=click.Choice(["cpu", "cpu-any", "cuda", "tensorrt"]),
                default="cpu",
                show_default=True,
                help="int8: the engine; cpu-any is quick and right on x86 without VNNI, too.",
            ),
            click.option(
                "--calibration",
                type=click.Path(path_type=Path),
                help="Pictures as the model meets them: int8's ranges, fp16's largest values.  [default: drawn ones]",
            ),
            click.option(
                "--calibration-images",
                type=click.IntRange(min=1),
                default=512,
                show_default=True,
                help="How many of them.",
            ),
            click.option("--calibration-cache", type=click.Path(path_type=Path), help="int8: remembers ranges."),
            click.option(
                "--method",
                type=click.Choice(["minmax", "percentile", "entropy", "mse"]),
                help="int8: how ranges are chosen.  [default: the target's]",
            ),
            click.option(
                "--bias-correction/--no-bias-correction", default=True, show_default=True, help="int8: correct means."
            ),
            click.option("--equalize", is_flag=True, help="int8: cross-layer equalization first."),
            click.option(
                "--max-drop",
                type=NumberRange(0, 100),
                metavar="POINTS",
                help="int8: what may be lost on --eval-data; noisy layers stay in float to meet it.",
            ),
            click.option(
                "--eval-data", type=click.Path(path_type=Path), help="Labelled pictures (or unlabelled: agreement)."
            ),
            click.option(
                "--eval-labels-from", type=click.Choice(["folder", "name"]), default="folder", show_default=True
            ),
            click.option("--class-map", metavar="FILE.json", help="Folders' names of --eval-data in the model's."),
        )
    ):
        command = option(command)
    return command


def asked_precisions(ctx: click.Context) -> tuple[str, ...]:
    """Return the precisions that were asked for, and refuse options that none of them heeds."""
    options = ctx.params
    flags = tuple(name for name in ("fp16", "int8") if options[name])
    if len(flags) + bool(options["precision"]) > 1:
        raise click.UsageError("--fp16, --int8 and --precision: give one; for several files --precision fp16,int8.")
    names: tuple[str, ...] = options["precision"] or flags or ("fp32",)
    for heeding, heeded in ((("fp16",), _FOR_FP16), (("int8",), _FOR_INT8), (("fp16", "int8"), _FOR_BOTH)):
        for name in heeded:
            given = ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
            if given and not set(heeding) & set(names):
                whom = f"{heeding[0]}, which is not" if len(heeding) == 1 else "fp16 and int8, and neither is"
                raise click.UsageError(f"--{name.replace('_', '-')} is for {whom} asked for.")
    if (options["max_drop"] is None) != (options["eval_data"] is None) and len(names) == 1:
        raise click.UsageError("--max-drop and --eval-data go together.")
    if options["max_drop"] is not None and options["eval_data"] is None:
        raise click.UsageError("--max-drop needs --eval-data.")
    return names


def calibration_pictures(options: dict[str, Any], measured: EvaluationPictures | None) -> CalibrationImages | None:
    """Draw the pictures of ``--calibration``; None if there is none.

    Raises:
        CalibrationError: they cannot be used.
    """
    from edgecls_export import pick_images

    if options["calibration"] is None:
        return None
    held_out = () if measured is None else measured.images
    return pick_images(options["calibration"], options["calibration_images"], evaluation=held_out)


def make_precision(
    name: str, options: dict[str, Any], images: CalibrationImages | None, measured: EvaluationPictures | None
) -> Precision:
    """Return the exporter's description of a precision, from options, pictures to calibrate on and to measure on.

    Raises:
        OutputError: the cache cannot be written to.
    """
    from edgecls_export import Fp16, Fp32, Int8
    from edgecls_export.budget import Budget
    from edgecls_export.calibration import check_cache
    from edgecls_export.calibrators import Entropy, MinMax, Mse, Percentile

    methods: dict[str, Calibrator] = {
        "minmax": MinMax(),
        "entropy": Entropy(),
        "mse": Mse(),
        "percentile": Percentile(),
    }
    if name == "fp32":
        return Fp32()
    if name == "fp16":
        return Fp16(io_fp16=options["io_fp16"], keep_float=options["keep_float"], images=images)
    if options["calibration_cache"] is not None:
        check_cache(options["calibration_cache"])
    budget = None
    if options["max_drop"] is not None and measured is not None:
        budget = Budget(
            max_drop=options["max_drop"], images=measured.images, targets=measured.targets, origin=measured.origin
        )
    return Int8(
        target=options["target"],
        images=images,
        method=None if options["method"] is None else methods[options["method"]],
        exclude=options["keep_float"],
        bias_correction=options["bias_correction"],
        equalize=options["equalize"],
        cache=options["calibration_cache"],
        budget=budget,
    )


@dataclass(frozen=True)
class EvaluationPictures:
    """What ``--eval-data`` names: pictures, the index of each one's class if they have labels, and where they are."""

    images: tuple[Path, ...]
    targets: tuple[int, ...] | None
    origin: str


def evaluation_pictures(options: dict[str, Any], labels: tuple[str, ...], task: str) -> EvaluationPictures | None:
    """Find the pictures of ``--eval-data``; None if there is none.

    Raises:
        DataError: they cannot be used.
    """
    data: Path | None = options["eval_data"]
    if data is None:
        return None
    from edgecls.evaluation.data import find_evaluation_data, read_class_map, unlabelled_pictures

    unlabelled = unlabelled_pictures(data, labels_from=options["eval_labels_from"])
    if unlabelled is not None:
        return EvaluationPictures(unlabelled, None, str(data))
    if task == "multilabel":
        raise DataError(
            f"{data}: acc@1 is not what a model of several labels is measured by",
            "Give a folder of pictures without labels: agreement with float32 is measured then.",
        )
    class_map = options["class_map"]
    found = find_evaluation_data(
        data,
        labels,
        labels_from=options["eval_labels_from"],
        class_map=None if class_map is None else read_class_map(class_map, labels),
    )
    return EvaluationPictures(
        tuple(sample.path for sample in found.samples),
        tuple(sample.targets[0] for sample in found.samples),
        str(data),
    )
