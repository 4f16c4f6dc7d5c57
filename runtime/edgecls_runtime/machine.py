"""What machine this is, read from ``/proc`` and ``/sys``; other systems than Linux say less."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgecls_runtime.cpus import usable_cpus

__all__ = ["Machine", "cpu_flags", "cpu_name", "gpu_names", "this_machine"]

_ROOT = Path("/")
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


def this_machine(root: Path = _ROOT) -> Machine:
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


def cpu_name(root: Path = _ROOT) -> str:
    """Return the CPU's name; a board's where the kernel names no CPU, as on ARM."""
    board = root / "proc/device-tree/model"
    return _cpuinfo(root, "model name") or _text(board).strip("\0 \n") or platform.processor() or platform.machine()


def cpu_flags(root: Path = _ROOT) -> tuple[str, ...]:
    """Return the CPU's flags that matter to inference, by the kernel's names."""
    present = set((_cpuinfo(root, "flags") or _cpuinfo(root, "Features")).split())
    return tuple(flag for flag in _CPU_FLAGS if flag in present)


def gpu_names(root: Path = _ROOT) -> tuple[str, ...]:
    """Return the names of the GPUs that NVIDIA's driver serves; none where it is not loaded."""
    names = []
    folder = root / "proc/driver/nvidia/gpus"
    for path in sorted(folder.glob("*/information")):
        for line in _text(path).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.append(value.strip())
    return tuple(names)


def _cpuinfo(root: Path, key: str) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""
