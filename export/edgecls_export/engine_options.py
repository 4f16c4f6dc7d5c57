"""What an engine can be asked to be, and what of it the installed TensorRT cannot make it: refused, never ignored."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from edgecls_export.gpu import Gpu, find_gpu
from edgecls_export.tensorrt_package import TensorRT, open_package
from edgecls_runtime.errors import ExportError, ProviderError

if TYPE_CHECKING:
    import os

    from edgecls_runtime.engine_file import BatchProfile, Flavour

__all__ = ["HIGHEST_LEVEL", "Builder", "EngineOptions", "open_builder"]

HIGHEST_LEVEL = 5
"""Of ``builder_optimization_level``; TensorRT takes more and does the same."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an engine shall be.

    Attributes:
        flavour: package that builds it; None takes the one that is installed.
        batch: number of pictures a run; None takes 1 to 8, best 1, or what the file fixes.
        compute_capabilities: GPU generations to build for, ahead of time, as ``8.9``; none for this machine's GPU.
        workspace_mib: scratch memory that a layer may use; None leaves the limit to TensorRT.
        builder_level: how long to search for fast kernels, 0 to 5; None leaves it to TensorRT (3).
        tf32: let float32 layers round their inputs to 10 bits of mantissa.
        timing_cache: folder that keeps kernel times between builds.
        version_compatible: the plan also runs on later versions of the same major one.
        hardware_compatible: the plan also runs on other GPUs, from Ampere on.
        refittable: weights may be exchanged in the plan.
        strip_plan: weights stay out of the plan, and must be put in before it runs.
    """

    flavour: Flavour | None = None
    batch: BatchProfile | None = None
    compute_capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    builder_level: int | None = None
    tf32: bool = False
    timing_cache: str | os.PathLike[str] | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    strip_plan: bool = False

    def __post_init__(self) -> None:
        if self.builder_level is not None and not 0 <= self.builder_level <= HIGHEST_LEVEL:
            raise ValueError(f"builder_level is {self.builder_level}, not 0 to {HIGHEST_LEVEL}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise ValueError(f"workspace_mib is {self.workspace_mib}, not at least 1")

    def command_line(self) -> str:
        """Return the options of ``edgecls export`` that ask for the same."""
        words = []
        for field in fields(self):
            value, option = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value is True:
                words.append(option)
            elif field.name == "compute_capabilities":
                words += ["--compute-capability", ",".join(value)] if value else []
            elif field.name == "batch" and value is not None:
                words += [option, f"{value.min},{value.opt},{value.max}"]
            elif field.name == "flavour" and value is not None:
                words += [option, value.replace("_", "-")]
            elif value is not None and value is not False:
                words += [option, str(value)]
        return shlex.join(words)


@dataclass(frozen=True)
class Builder:
    """Who builds, and where: the package, and this machine's GPU (None: without one, ahead of time)."""

    package: TensorRT
    gpu: Gpu | None


def open_builder(options: EngineOptions) -> Builder:
    """Find package and GPU, and check that they can make what is asked for: before minutes of work.

    Raises:
        MissingDependencyError: the package is not installed.
        ProviderError: there is no GPU, and ahead of time is not asked for or cannot do it.
        ExportError: this package cannot do what an option asks for.
    """
    package = open_package(options.flavour, ahead_of_time=bool(options.compute_capabilities))
    if package.flavour == "tensorrt_rtx":
        _check_rtx(package, options)
    else:
        _check_native(package, options)
    gpu = find_gpu()
    if gpu is None and not options.compute_capabilities:
        raise ProviderError(
            f"{package}: this machine has no GPU to build the engine on and for",
            "Build it on the device; or here, ahead of time: --flavour tensorrt-rtx --compute-capability 8.9 "
            "(RTX GPUs; pip install 'edgecls[tensorrt-rtx]')",
        )
    if gpu is None and (options.refittable or options.strip_plan):
        raise ProviderError(
            f"{package}: needs a GPU for {'--refittable' if options.refittable else '--strip-plan'}, and there is none",
            "Leave the option out, or build on a machine with a GPU.",
        )
    return Builder(package, gpu)


def _check_rtx(package: TensorRT, options: EngineOptions) -> None:
    for asked, option, why in (
        (options.version_compatible, "--version-compatible", "its package has no lean runtime to put into the plan"),
        (options.hardware_compatible, "--hardware-compatible", "a plan runs on every GPU that it was built for"),
        (options.timing_cache is not None, "--timing-cache", "it chooses kernels on the device, and times none here"),
    ):
        if asked:
            remedy = "Leave it out" + (": --compute-capability 8.6,8.9,12.0 names GPUs." if "GPU" in why else ".")
            raise ExportError(f"{package}: cannot heed {option}: {why}", remedy)
    known = _capabilities(package)
    for asked_for in options.compute_capabilities:
        if asked_for not in known:
            raise ProviderError(
                f"{package}: cannot build for compute capability {asked_for}",
                f"It builds for {', '.join(known)}: https://developer.nvidia.com/cuda-gpus lists the GPUs.",
            )


def _check_native(package: TensorRT, options: EngineOptions) -> None:
    if options.compute_capabilities:
        raise ExportError(
            f"{package}: builds on the GPU itself, and cannot heed --compute-capability",
            "Leave it out; or build RTX engines ahead of time: --flavour tensorrt-rtx",
        )
    for asked, enumeration, member in (
        (options.version_compatible, "BuilderFlag", "VERSION_COMPATIBLE"),
        (options.hardware_compatible, "HardwareCompatibilityLevel", "AMPERE_PLUS"),
        (options.refittable, "BuilderFlag", "REFIT"),
        (options.strip_plan, "BuilderFlag", "STRIP_PLAN"),
    ):
        if asked and not hasattr(getattr(package.module, enumeration, None), member):
            raise ExportError(f"{package}: has no {enumeration}.{member}", "Leave the option out.")


def _capabilities(package: TensorRT) -> list[str]:
    """Return what can be built for ahead of time: ``SM89`` is 8.9, ``SM120`` 12.0."""
    names = [name[2:] for name in package.module.ComputeCapability.__members__ if name[2:].isdecimal()]
    return [f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int)]
