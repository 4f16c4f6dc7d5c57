"""``edgecls doctor``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from edgecls_runtime.errors import MissingDependencyError

__all__ = ["doctor"]

_PACKAGES = {
    "runtime": ("edgecls", "numpy", "pillow", "click"),
    "engines": ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx"),
    "training": ("torch", "torchvision", "torchinfo", "onnx", "onnxscript"),
}
# Flags of /proc/cpuinfo that decide how fast, and for INT8 how right, a CPU runs a model.
_CPU_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")


@click.command()
def doctor() -> None:
    """Say what this machine has, and what is wrong with it. The exit status is 1 if something is."""
    import platform

    click.echo(f"{'machine':<10} {_cpu_name()}, {os.cpu_count()} logical cores, {platform.platform(terse=True)}")
    click.echo(f"{'cpu flags':<10} {' '.join(_cpu_flags()) or 'none known'}")
    click.echo(f"{'python':<10} {platform.python_version()}")
    versions = {name: _version(name) for names in _PACKAGES.values() for name in names}
    for kind, names in _PACKAGES.items():
        found = ", ".join(f"{name} {versions[name] or 'not installed'}" for name in names)
        click.echo(f"{kind:<10} {found}")
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        raise MissingDependencyError(
            f"onnxruntime {versions['onnxruntime']} and onnxruntime-gpu {versions['onnxruntime-gpu']} are both "
            "installed; they are one import package, and either may have overwritten the other",
            "Keep one: pip uninstall onnxruntime onnxruntime-gpu && pip install 'edgecls[gpu]'  (or 'edgecls[cpu]')",
        )
    from edgecls_runtime.backends.onnxruntime import import_onnxruntime

    click.echo(f"{'providers':<10} {', '.join(import_onnxruntime().get_available_providers())}")


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 25 ms that every other command would pay

    with contextlib.suppress(PackageNotFoundError):
        return version(distribution)
    return None


def _cpuinfo(key: str) -> str:
    with contextlib.suppress(OSError):  # Linux alone has it
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def _cpu_name() -> str:
    import platform

    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    present = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in _CPU_FLAGS if flag in present]
