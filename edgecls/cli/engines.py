"""What `edgecls export` is told about TensorRT and Triton, and what it does about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecls_runtime.errors import ExportError, OutputError

from .bars import share_bar
from .param_types import ParamType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls_export.engine_options import EngineOptions
    from edgecls_runtime.engine_file import BatchProfile

__all__ = ["Serving", "asked_serving", "check_model_file", "tensorrt_options"]

_FOR_TENSORRT = (
    *("flavour", "compute_capability", "workspace_mib", "builder_level", "tf32", "timing_cache"),
    *("version_compatible", "hardware_compatible", "refittable", "strip_plan"),
)
_FOR_MODEL_FILE = (
    "source",
    "output",
    "force",
    "fp16",
    "int8",
    "precision",
    "tensorrt",
    "triton",
    "batch",
    *_FOR_TENSORRT,
)


class _Batch(ParamType["BatchProfile"]):
    name = "N|MIN,BEST,MAX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> BatchProfile:
        """Take one number, or three that rise."""
        from edgecls_runtime.engine_file import BatchProfile

        parts = str(value).split(",")
        if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is neither one number nor three, as 1,8,32", param, ctx)
        numbers = [int(part) for part in parts] * (3 // len(parts))
        try:
            return BatchProfile(min=numbers[0], opt=numbers[1], max=numbers[2])
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Capabilities(ParamType[tuple[str, ...]]):
    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Take versions separated by commas."""
        parts = tuple(part.strip() for part in str(value).split(","))
        for part in parts:
            if not re.fullmatch(r"[1-9][0-9]?\.[0-9]", part):
                self.fail(f"{part!r} is no compute capability, as 8.9", param, ctx)
        if len(set(parts)) < len(parts):
            self.fail(f"{value!r} names one twice", param, ctx)
        return parts


def tensorrt_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of TensorRT and Triton."""
    for option in reversed(
        (
            click.option("--tensorrt", is_flag=True, help="Build a TensorRT engine of each file, too."),
            click.option(
                "--batch",
                type=_Batch(),
                metavar=_Batch.name,
                help="tensorrt, triton: pictures a run.  [default: 1,1,8 for engines]",
            ),
            click.option(
                "--flavour",
                type=click.Choice(["tensorrt", "tensorrt-rtx"]),
                help="tensorrt: the package that builds.  [default: the installed one]",
            ),
            click.option(
                "--compute-capability",
                type=_Capabilities(),
                metavar="LIST",
                help="tensorrt-rtx: build ahead of time, without a GPU, for these GPUs, say 8.6,8.9.",
            ),
            click.option("--workspace-mib", type=click.IntRange(min=1), help="tensorrt: scratch memory of a layer."),
            click.option(
                "--builder-level",
                type=click.IntRange(0, 5),
                help="tensorrt: how long to search for kernels.  [default: 3]",
            ),
            click.option("--tf32", is_flag=True, help="tensorrt: let float32 round its products' inputs to 10 bits."),
            click.option("--timing-cache", metavar="DIR", help="tensorrt: keeps kernels' times for the next build."),
            click.option("--version-compatible", is_flag=True, help="tensorrt: runs on later minor versions, too."),
            click.option("--hardware-compatible", is_flag=True, help="tensorrt: runs on other GPUs from Ampere on."),
            click.option("--refittable", is_flag=True, help="tensorrt: weights may be exchanged."),
            click.option("--strip-plan", is_flag=True, help="tensorrt: leave the weights out of the plan."),
            click.option(
                "--triton", type=click.Path(path_type=Path), metavar="REPO", help="Put it into a Triton repository."
            ),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Serving:
    """What shall be made of ONNX files.

    Attributes:
        engine: options of the engines; None if none is asked for.
        batch: what ``--batch`` says.
        triton: repository; None if none is asked for.
        force: overwrite.
    """

    engine: EngineOptions | None
    batch: BatchProfile | None
    triton: Path | None
    force: bool

    def check(self, engines: list[Path], *, with_onnx: bool = False) -> None:
        """Find out before minutes of conversion whether packages, GPU and places are there.

        Args:
            engines: that shall be built, or whose names the models in the repository shall have.
            with_onnx: the ONNX files of the engines shall be made beside them.

        Raises:
            EdgeclsError: says what is not.
        """
        if self.engine is not None:
            from edgecls_export.engine import check_engine_target
            from edgecls_export.engine_options import open_builder

            for engine in engines:
                check_engine_target(engine, force=self.force)
                file = engine.with_suffix(".onnx")
                if with_onnx and file.exists() and not self.force:
                    raise OutputError(
                        f"{file}: exists already, and the engine's ONNX file is to lie there",
                        f"Build from it: edgecls export {file} --tensorrt; or overwrite it with --force.",
                    )
            flavour = open_builder(self.engine).package.flavour
        if self.triton is not None:
            from edgecls_export.triton import check_flavour, check_repository

            check_repository(self.triton, [engine.stem for engine in engines], force=self.force)
            if self.engine is not None:
                check_flavour(flavour)

    def make(self, onnx: Path, engine: Path) -> None:
        """Build the engine, fill the repository, and print what was made."""
        if self.engine is not None:
            from edgecls_export.engine import engine_from_onnx

            click.echo(f"{engine}: build ...", err=True)
            with share_bar("building") as progress:
                report = engine_from_onnx(onnx, engine, options=self.engine, force=self.force, progress=progress)
            click.echo(report)
        if self.triton is not None:
            from edgecls_export.triton import triton_from_onnx

            built = None if self.engine is None else engine
            batch = self.batch if built is None else None
            click.echo(triton_from_onnx(onnx, self.triton, engine=built, batch=batch, force=self.force))


def asked_serving(ctx: click.Context) -> Serving:
    """Return what was asked for, and refuse options that nothing heeds."""
    given, options = _given(ctx), ctx.params
    if not options["tensorrt"]:
        for name in _FOR_TENSORRT:
            if name in given:
                raise click.UsageError(f"--{name.replace('_', '-')} goes with --tensorrt.")
        if "batch" in given and options["triton"] is None:
            raise click.UsageError("--batch goes with --tensorrt or --triton; --batch-size fixes an ONNX file's.")
    elif "target" in given and options["target"] != "tensorrt":
        raise click.UsageError(f"--target {options['target']} contradicts --tensorrt.")
    fixed, batch = options["batch_size"], options["batch"]
    if fixed is not None and batch is not None and (batch.min, batch.max) != (fixed, fixed):
        raise click.UsageError(f"--batch-size {fixed} fixes what --batch leaves between {batch.min} and {batch.max}.")
    if options["compute_capability"] and options["flavour"] == "tensorrt":
        raise click.UsageError("--compute-capability is for --flavour tensorrt-rtx: tensorrt builds on the GPU.")
    return Serving(
        engine=_engine_options(options) if options["tensorrt"] else None,
        batch=options["batch"],
        triton=options["triton"],
        force=options["force"],
    )


def check_model_file(ctx: click.Context, source: Path, precisions: tuple[str, ...]) -> None:
    """Refuse what a finished ONNX file cannot heed.

    Raises:
        ExportError: it is of another precision than asked for.
        ModelError: it cannot be read.
    """
    for name in _given(ctx):
        if name not in _FOR_MODEL_FILE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with an ARCH or CHECKPOINT; {source} is finished.")
    if not (ctx.params["tensorrt"] or ctx.params["triton"]):
        raise click.UsageError(
            f"{source} is an ONNX file already: --tensorrt builds an engine, --triton serves it. Other precisions are "
            "made of what it was exported from, an ARCH or CHECKPOINT."
        )
    from edgecls_runtime import manifest

    document = manifest.read(source)
    if {"fp16", "int8", "precision"} & _given(ctx) and (document is None or precisions != (document.precision,)):
        found = "does not say its precision" if document is None else f"is {document.precision}"
        raise ExportError(
            f"{source}: {found}, and {', '.join(precisions)} was asked for: an engine has the types of its file",
            "Leave the precision out; or convert: edgecls export ARCH|CHECKPOINT --tensorrt "
            f"--{'precision ' if len(precisions) > 1 or precisions == ('fp32',) else ''}{','.join(precisions)}",
        )


def _engine_options(options: dict[str, Any]) -> EngineOptions:
    from edgecls_export.engine_options import EngineOptions

    flavour = options["flavour"]
    return EngineOptions(
        flavour=None if flavour is None else flavour.replace("-", "_"),
        batch=options["batch"],
        compute_capabilities=options["compute_capability"] or (),
        **{name: options[name] for name in _FOR_TENSORRT if name not in ("flavour", "compute_capability")},
    )


def _given(ctx: click.Context) -> set[str]:
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in ctx.params if ctx.get_parameter_source(name) == source}
