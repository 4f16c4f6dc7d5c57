"""What machine this is, read from ``/proc`` and ``/sys``; other systems than Linux say less."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from edgecls_runtime.cpus import StrPath, read_text, usable_cpus

__all__ = ["Machine", "cpu_flags", "cpu_name", "gpu_names", "this_machine"]

# Those that decide how fast, and for INT8 how right, a CPU runs a model. AVX-VNNI and AVX512-VNNI add products of 8-bit
# integers in 32 bits, as asimddp (NEON's dot product) and i8mm do on ARM.
_CPU_FLAGS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a measurement depends on.

    Attributes:
        cpu: its name.
        architecture: of the instructions: ``x86_64``, ``aarch64``.
        cpu_flags: those that matter to inference.
        usable_cpus: `edgecls_runtime.cpus.usable_cpus`.
        gpus: names of NVIDIA's.
    """

    cpu: str
    architecture: str
    cpu_flags: tuple[str, ...]
    usable_cpus: int
    gpus: tuple[str, ...]


def this_machine(root: StrPath = "/") -> Machine:
    """Describe this machine.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    return Machine(
        cpu=cpu_name(root),
        architecture=platform.machine(),
        cpu_flags=cpu_flags(root),
        usable_cpus=usable_cpus(root),
        gpus=gpu_names(root),
    )


def cpu_name(root: StrPath = "/") -> str:
    """Return the CPU's name; a board's where the kernel names no CPU, as on ARM."""
    cpuinfo = read_text(root, "proc/cpuinfo")
    board = read_text(root, "proc/device-tree/model")
    return _field(cpuinfo, "model name") or board or platform.processor() or platform.machine()


def cpu_flags(root: StrPath = "/") -> tuple[str, ...]:
    """Return the CPU's flags that matter to inference, by the kernel's names."""
    cpuinfo = read_text(root, "proc/cpuinfo")
    present = (_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split()
    return tuple(flag for flag in _CPU_FLAGS if flag in present)


def gpu_names(root: StrPath = "/") -> tuple[str, ...]:
    """Return the names of the GPUs that NVIDIA's driver serves; none where it is not loaded."""
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    gpus = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return tuple(filter(None, (_field(read_text(folder, gpu, "information"), "Model") for gpu in gpus)))


def _field(text: str, key: str) -> str:
    """Return the first value of ``key : value`` lines; empty if there is none."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
