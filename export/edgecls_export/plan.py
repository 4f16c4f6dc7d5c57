"""An ONNX file to a plan: the types are those of the file, whatever the version of TensorRT.

The network is strongly typed: FP16 and INT8 are what the ONNX file says, casts and Q/DQ nodes included. TensorRT 11 and
TensorRT-RTX know no other way, and 10.x does the same when asked.
"""

from __future__ import annotations

import collections
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls_export.engine_layers import EngineLayer, read_layers
from edgecls_export.tensorrt_package import OTHER_TYPE, new_progress
from edgecls_export.timing_cache import TimingCache
from edgecls_runtime.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls_export.engine_options import Builder, EngineOptions
    from edgecls_runtime.engine_file import BatchProfile

__all__ = ["BuiltPlan", "build_plan"]

_log = logging.getLogger(__name__)

_MIB = 2**20
_OPERATORS = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md"
_FOR_TENSORRT = (
    "TensorRT wants symmetric int8 and a float bias: edgecls export ARCH|CHECKPOINT --tensorrt --int8 makes both files."
)
_REMEDIES = (
    ("workspace", "Raise --workspace-mib, or leave it out."),
    ("OutOfMemory", "Lower the largest batch of --batch, or --workspace-mib; or close what else uses the GPU."),
    ("out of memory", "Lower the largest batch of --batch, or --workspace-mib; or close what else uses the GPU."),
    ("ompute capability", "Choose a GPU that it supports; edgecls doctor says which versions are installed."),
)


@dataclass(frozen=True)
class BuiltPlan:
    """What was built.

    Attributes:
        layers: number of layers of the parsed network by type and dtype of the output, as ``CONVOLUTION float16``.
        engine_layers: what the builder made of them; none where TensorRT does not say.
        settings: of the builder, as it had them.
    """

    layers: dict[str, int]
    engine_layers: tuple[EngineLayer, ...]
    settings: dict[str, str]


def build_plan(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    builder: Builder,
    options: EngineOptions,
    profile: BatchProfile,
    progress: Callable[[str, float], object],
) -> BuiltPlan:
    """Write the plan of an ONNX file.

    Args:
        source: ONNX file of one input, whose first axis is the batch.
        target: file to write, written over.
        builder: from `edgecls_export.engine_options.open_builder`, with the same options.
        options: of the engine.
        profile: number of pictures a run, for an axis that the file leaves free.
        progress: called with the name of a phase and the share of the whole that is done.

    Raises:
        ExportError: TensorRT refuses the file, or cannot build; says which node, and what TensorRT said.
        OSError: the plan cannot be written.
    """
    trt, log = builder.package.module, builder.package.log
    with builder.package.listen() as said:
        try:
            maker = trt.Builder(log.logger)
        except TypeError as error:  # what the bindings make of a null pointer
            raise _failed(builder, "cannot begin", said.errors) from error
        network = maker.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log.logger)
        if not parser.parse_from_file(os.fspath(source)):
            refusals = [parser.get_error(index) for index in range(parser.num_errors)]
            raise _refused(source, builder, refusals, said.errors)
        for line in said.errors:
            if OTHER_TYPE in line:
                raise ExportError(f"{source}: {builder.package} would read other types: {line}", _FOR_TENSORRT)
        config = maker.create_builder_config()
        cache = _configure(trt, config, builder, options)
        _add_profile(maker, network, config, profile, source)
        monitor = new_progress(trt, _heeding(log, progress))
        config.progress_monitor = monitor
        said.errors.clear()  # a build that fails has its own
        plan = maker.build_serialized_network(network, config)
        if monitor.raised is not None:
            raise monitor.raised
        log.heed()
        if plan is None:
            raise _failed(builder, f"cannot build an engine of {source}", said.errors)
        with Path(target).open("wb") as file:
            file.write(plan)
        if cache is not None:
            cache.write(bytes(config.get_timing_cache().serialize()))
        for told in filter(None, map(_told, said.errors)):  # it succeeded all the same
            _log.warning("%s: %s", builder.package, told)
        built = BuiltPlan(_count_layers(network), read_layers(said.layers), _settings(trt, config))
        # TensorRT wants its objects destroyed in the reverse order of their making; locals go in any.
        del plan, config, parser, network, maker
        return built


def _heeding(log: Any, progress: Callable[[str, float], object]) -> Callable[[str, float], object]:
    """Raise in the next step of the build what was raised while TensorRT wrote its log."""

    def report(phase: str, share: float) -> None:
        log.heed()
        progress(phase, share)

    return report


def _configure(trt: Any, config: Any, builder: Builder, options: EngineOptions) -> TimingCache | None:
    flags = trt.BuilderFlag
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for whoever inspects the engine, as trtexec does
    (config.set_flag if options.tf32 else config.clear_flag)(flags.TF32)  # on by default, and not float32
    for asked, name in (
        (options.version_compatible, "VERSION_COMPATIBLE"),
        (options.refittable, "REFIT"),
        (options.strip_plan, "STRIP_PLAN"),
    ):
        if asked:
            config.set_flag(getattr(flags, name))
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    if options.builder_level is not None:
        config.builder_optimization_level = options.builder_level
    if builder.package.flavour == "tensorrt_rtx":
        _set_capabilities(trt, config, options.compute_capabilities)
    if options.timing_cache is None or builder.gpu is None:
        return None
    cache = TimingCache.of(
        options.timing_cache, flavour=builder.package.flavour, version=builder.package.version, gpu=builder.gpu
    )
    if not config.set_timing_cache(config.create_timing_cache(cache.read()), False):
        raise ExportError(
            f"{cache.path}: {builder.package} does not take this timing cache", f"Delete it: rm '{cache.path}'"
        )
    return cache


def _set_capabilities(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    names = [f"SM{capability.replace('.', '')}" for capability in capabilities] or ["CURRENT"]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise ExportError(
                f"compute capability {name}: TensorRT-RTX refuses it among {', '.join(names)}",
                "Build one engine for each of them.",
            )


def _add_profile(maker: Any, network: Any, config: Any, profile: BatchProfile, source: str | os.PathLike[str]) -> None:
    image = network.get_input(0)
    batch, *rest = tuple(image.shape)
    if batch != -1:
        return  # fixed: the file says it all
    shapes = maker.create_optimization_profile()
    shapes.set_shape(image.name, *((count, *rest) for count in (profile.min, profile.opt, profile.max)))
    if config.add_optimization_profile(shapes) < 0:
        raise ExportError(
            f"{source}: TensorRT refuses the profile of {profile} pictures a run", "Choose another --batch."
        )


def _count_layers(network: Any) -> dict[str, int]:
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return dict(collections.Counter(f"{layer.type.name} {_dtype(layer.get_output(0).dtype)}" for layer in layers))


def _dtype(dtype: Any) -> str:
    name = str(dtype).rpartition(".")[2]
    return {"FLOAT": "float32", "HALF": "float16"}.get(name, name.lower())


def _settings(trt: Any, config: Any) -> dict[str, str]:
    flags = [name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)]
    return {
        "builder_flags": ",".join(sorted(flags)),
        "builder_level": str(config.builder_optimization_level),
        "workspace_mib": str(config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) // _MIB),
    }


def _refused(source: str | os.PathLike[str], builder: Builder, found: list[Any], errors: list[str]) -> ExportError:
    """Say which node TensorRT's parser refuses, and where in its own source."""
    if not found:
        return _failed(builder, f"cannot read {source}", errors)
    error = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    node = f"node {error.node()} {error.node_name()!r} ({error.node_operator()})" if error.node() >= 0 else "the file"
    place = f"{error.file()}:{error.line()} {error.func()}"
    quantizes = error.node_operator() in ("QuantizeLinear", "DequantizeLinear")
    return ExportError(
        f"{source}: {builder.package} refuses {node}: {_code(error)}: {_told(error.desc())} [{place}]{more}",
        _FOR_TENSORRT if quantizes else f"Export it without that operator; those that it takes: {_OPERATORS}",
    )


def _code(error: Any) -> str:
    return str(error.code()).rpartition(".")[2]


def _told(text: str) -> str:
    """Return what TensorRT said on one line, without its surprise that an ahead-of-time build finds no GPU."""
    lines = [line.strip() for line in text.splitlines() if "catchCudaError" not in line]
    return " ".join(filter(None, lines))[:400]


def _failed(builder: Builder, what: str, errors: list[str]) -> ExportError:
    told = "; ".join(dict.fromkeys(filter(None, map(_told, errors)))) or "it gave no reason"
    remedy = next(
        (remedy for sign, remedy in _REMEDIES if sign in told), "Try another version of TensorRT, or --opset."
    )
    return ExportError(f"{builder.package} {what}: {told[:800]}", remedy)
