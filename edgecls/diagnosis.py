"""What `edgecls doctor` finds out about a machine: its engines, and whether they compute what they should."""

from __future__ import annotations

import contextlib
import ctypes
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls_runtime.cpus import cpu_quota, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgecls_runtime.machine import Machine

__all__ = ["Finding", "cpu_findings", "cuda_findings", "cuda_library_names", "self_test"]

_ROOT = Path("/")


@dataclass(frozen=True)
class Finding:
    """A line of the diagnosis.

    Attributes:
        topic: what it is about, a word or two.
        found: what was found, and what it means.
        remedy: what to do about it; None if all is well.
        fault: whether something that is installed does not work, rather than is not there.
    """

    topic: str
    found: str
    remedy: str | None = None
    fault: bool = False

    def __str__(self) -> str:
        return f"{self.topic:<10} {self.found}" + (f"\n{'':<10} -> {self.remedy}" if self.remedy else "")


def cpu_findings(machine: Machine, logical_cores: int, root: Path = _ROOT) -> tuple[Finding, ...]:
    """Say how much of the CPU this process may use, and what its flags mean for INT8 and bfloat16."""
    flags = set(machine.cpu_flags)
    quota = cpu_quota(root)
    usable = f"{usable_cpus(root)} of {logical_cores} logical CPUs usable"
    if quota is not None:
        usable += f"; the cgroup's quota is {quota:g} CPUs, and runs take no more threads than that"
    return (Finding("cpu share", usable), _integers(machine.architecture, flags), _bfloat16(flags))


def _integers(architecture: str, flags: set[str]) -> Finding:
    if architecture in ("x86_64", "AMD64", "i686"):
        kind = [name for name in ("amx_int8", "avx512_vnni", "avx_vnni") if name in flags]
        if kind:
            return Finding("int8", f"quick and right: {', '.join(kind)} add products of integers in 32 bits")
        return Finding(
            "int8",
            "no VNNI: files of --target cpu are right here with onnxruntime, but no quicker than fp32; openvino adds "
            "their products in 16 bits, which saturate",
            "export with: edgecls export MODEL --int8 --target cpu-any",
        )
    if architecture in ("aarch64", "arm64"):
        products = [name for name in ("i8mm", "asimddp") if name in flags]
        if products:
            return Finding("int8", f"quick and right: {', '.join(products)} add products of integers in 32 bits")
        return Finding("int8", "right, but slow: neither dot products (asimddp) nor i8mm; hold int8 against fp32")
    return Finding("int8", f"not known for {architecture}: see the self-test")


def _bfloat16(flags: set[str]) -> Finding:
    kind = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in flags]
    if not kind:
        return Finding("bfloat16", "none: float32 is what this CPU computes in")
    return Finding(
        "bfloat16", f"{', '.join(kind)}: --provider openvino --inference-precision bf16 is quicker here, and rounds"
    )


def cuda_library_names(onnxruntime: Any) -> tuple[str, ...]:
    """Return the files of CUDA and cuDNN that this build of ONNX Runtime wants; none if it has no CUDA provider."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ()
    paths = getattr(onnxruntime, "_get_nvidia_dll_paths", None)  # what its own `preload_dlls` loads
    return () if paths is None else tuple(path[-1] for path in paths(is_windows=False))


def cuda_findings(
    names: Sequence[str], gpus: Sequence[str], load: Callable[[str], object] = ctypes.CDLL
) -> tuple[Finding, ...]:
    """Say which of CUDA's libraries are there, and the driver.

    Args:
        names: that the engine wants; none if it does not know CUDA.
        gpus: that the driver serves.
        load: returns a library or raises an OSError.
    """
    if not names:
        if not gpus:
            return ()
        remedy = "pip uninstall onnxruntime && pip install 'edgecls[gpu]'"
        return (Finding("cuda", f"{', '.join(gpus)} here, but the installed onnxruntime has no CUDA", remedy),)
    findings = [_driver(gpus, load)]
    missing = []
    for name in names:
        try:
            load(name)
        except OSError:
            missing.append(name)
    if missing:
        remedy = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        findings.append(Finding("cuda", f"missing: {', '.join(missing)}", remedy, fault=bool(gpus)))
    else:
        findings.append(Finding("cuda", f"all {len(names)} libraries found: {', '.join(names)}"))
    return tuple(findings)


def _driver(gpus: Sequence[str], load: Callable[[str], object]) -> Finding:
    try:
        driver: Any = load("libcuda.so.1")
    except OSError:
        return Finding(
            "driver",
            "libcuda.so.1 is missing: no NVIDIA driver",
            "install the driver, or run the container with --gpus all",
        )
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return Finding("driver", "NVIDIA's driver does not answer", "look at: nvidia-smi", fault=True)
    speaks = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Finding("driver", f"for CUDA {speaks}; {', '.join(gpus) or 'no GPU that it names'}")


def self_test(provider: str) -> tuple[Finding, ...]:
    """Run two tiny models whose answers are known: one in float32, one in integers as large as they get."""
    from edgecls_runtime.errors import EdgeclsError, MissingDependencyError, ProviderError
    from edgecls_runtime.golden import verify

    findings = []
    for precision in ("fp32", "int8"):
        topic = "self-test"
        what = f"{provider} {precision}"
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # some engines talk
                result = verify(Path(__file__).with_name(f"self_test_{precision}.onnx"), provider=provider)
        except (MissingDependencyError, ProviderError) as error:
            return (Finding(topic, f"{provider}: not here: {error.cause}"),)
        except EdgeclsError as error:
            findings.append(Finding(topic, f"{what}: FAIL: {error.cause}", error.remedy, fault=True))
            continue
        logits = result.checks[-1]
        if result:
            findings.append(Finding(topic, f"{what}: right: {logits.found}"))
        elif precision == "int8" and all(check.passed for check in result.checks[:-1]):
            remedy = "export with: edgecls export MODEL --int8 --target cpu-any"
            findings.append(Finding(topic, f"{what}: integers saturate: {logits.found}", remedy))
        else:
            failed = "; ".join(check.found for check in result.checks if not check.passed)
            findings.append(Finding(topic, f"{what}: FAIL: {failed}", "do not use this engine here", fault=True))
    return tuple(findings)
