"""``edgecls doctor``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from edgecls_runtime.errors import MissingDependencyError, ProviderError

if TYPE_CHECKING:
    from edgecls.diagnosis import Finding

__all__ = ["doctor"]

_PACKAGES = {
    "runtime": ("edgecls", "numpy", "pillow", "click"),
    "engines": ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx"),
    "training": ("torch", "torchvision", "torchinfo", "onnx", "onnxscript"),
}
_SELF_TESTED = ("cpu", "cuda", "openvino")  # those that run ONNX files


@click.command()
def doctor() -> None:
    """Say what this machine has, and what is wrong with it. The exit status is 1 if something is.

    Runs two tiny models with every engine that is installed, and holds the answers against the right ones.
    """
    import platform

    from edgecls.diagnosis import cpu_findings, cuda_findings, cuda_library_names, self_test
    from edgecls_runtime.machine import this_machine

    machine = this_machine()
    logical_cores = os.cpu_count() or 1
    click.echo(f"{'machine':<10} {machine.cpu}, {logical_cores} logical cores, {platform.platform(terse=True)}")
    click.echo(f"{'cpu flags':<10} {' '.join(machine.cpu_flags) or 'none known'}")
    for finding in cpu_findings(machine, logical_cores):
        click.echo(finding)
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
    findings: list[Finding] = []
    if versions["onnxruntime"] or versions["onnxruntime-gpu"] or not versions["openvino"]:
        from edgecls_runtime.backends.onnxruntime import import_onnxruntime

        onnxruntime = import_onnxruntime()
        click.echo(f"{'providers':<10} {', '.join(onnxruntime.get_available_providers())}")
        libraries = cuda_library_names(onnxruntime)
        if libraries:
            onnxruntime.preload_dlls()  # from the nvidia-* wheels; what is not there is found missing below
        findings += cuda_findings(libraries, machine.gpus)
    for finding in findings:
        click.echo(finding)
    for provider in _SELF_TESTED:
        for finding in self_test(provider):
            click.echo(finding)
            findings.append(finding)
    faults = [finding for finding in findings if finding.fault]
    if faults:
        raise ProviderError(f"{faults[0].topic}: {faults[0].found}", faults[0].remedy or "See above.")


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 25 ms that every other command would pay

    with contextlib.suppress(PackageNotFoundError):
        return version(distribution)
    return None
