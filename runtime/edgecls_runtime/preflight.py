"""What must be true before a TensorRT plan is deserialized: it is the plan that was built, and it can run here.

A plan is executable code, so the digest comes first: without a sidecar that vouches for its bytes nothing of it is
touched, unless the user trusts it. The rest only spares a user TensorRT's own words: a plan runs with the package and
version that built it, on the GPU generation and operating system that it was built for.

The bytes are read once; what was checked is what runs.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_runtime import engine_file
from edgecls_runtime.errors import MissingDependencyError, ModelError, ProviderError

if TYPE_CHECKING:
    from types import ModuleType

    from edgecls_runtime.backends.cuda import Gpu
    from edgecls_runtime.engine_file import EngineSidecar

__all__ = [
    "Plan",
    "check_gpu",
    "check_platform",
    "check_version",
    "check_whole",
    "import_flavours",
    "read_plan",
    "this_platform",
]

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Import package -> distribution, which is also the name of the extra."""

_YES = ("yes", "true", "on", "1")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan's bytes and what is known about them.

    Attributes:
        path: of the engine file.
        data: its bytes.
        sha256: of them.
        sidecar: what lies beside it; None for an engine of another maker, which the user trusts.
        is_vouched_for: whether the sidecar's digest is that of the bytes.
        assumptions: what was taken on trust, in words.
    """

    path: str
    data: bytes = field(repr=False)
    sha256: str
    sidecar: EngineSidecar | None = field(repr=False)
    is_vouched_for: bool
    assumptions: tuple[str, ...] = ()

    @property
    def rebuild(self) -> str:
        """What to do when the plan does not run here."""
        if self.sidecar is None:
            return "Build it on this machine: edgecls export MODEL.onnx --tensorrt"
        return f"Build it again for this machine: {self.sidecar.rebuild}"

    def has_option(self, name: str) -> bool:
        """Return whether the plan was built with an option that is on or off."""
        return self.sidecar is not None and self.sidecar.options.get(name, "").lower() in _YES


def read_plan(path: str | os.PathLike[str], *, trust: bool = False) -> Plan:
    """Read a plan whose bytes its sidecar vouches for.

    Args:
        path: of the engine file.
        trust: take any plan, with or without a sidecar: it runs code that it brings along, with the rights of this
            process. What the sidecar does not vouch for is listed in ``assumptions``.

    Raises:
        ModelError: it cannot be read, its sidecar is missing, or its bytes are not those that were built.
        ManifestError: the sidecar is damaged.
    """
    where = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}", "Check the path.") from error
    digest = hashlib.sha256(data).hexdigest()
    sidecar, vouched = None, False
    assumptions: tuple[str, ...] = ("no sidecar: the plan, which is executable code, runs on trust",)
    if not trust or engine_file.sidecar_path(path).exists():
        sidecar = engine_file.read(path)
        difference = _difference(data, digest, sidecar)
        vouched = difference is None
        assumptions = () if vouched else (f"not the plan of its sidecar ({difference}): it runs on trust",)
        if difference is not None and not trust:
            raise ModelError(
                f"{where}: is not the plan that was built: {difference}",
                f"Copy it again with its sidecar, or build it again: {sidecar.rebuild}; a plan is executable code, and "
                "a changed one runs only with --trust, for those who know why it changed.",
            )
    return Plan(path=where, data=data, sha256=digest, sidecar=sidecar, is_vouched_for=vouched, assumptions=assumptions)


def check_whole(plan: Plan) -> None:
    """Refuse a plan that was built without its weights.

    Raises:
        ModelError: says so.
    """
    if plan.has_option("strip_plan"):
        raise ModelError(
            f"{plan.path}: holds no weights (it was built with --strip-plan)",
            "Put them in (TensorRT's refitter does), or build it again without --strip-plan.",
        )


def check_platform(plan: Plan) -> None:
    """Refuse a plan of another operating system or processor.

    Raises:
        ProviderError: says which, and how to build it again.
    """
    # What a sidecar says of other bytes than these is no reason to refuse them; TensorRT will look for itself.
    if plan.sidecar is None or not plan.is_vouched_for:
        return
    if plan.sidecar.platform != this_platform():
        raise ProviderError(
            f"{plan.path}: was built for {plan.sidecar.platform}, and this is {this_platform()}", plan.rebuild
        )


def import_flavours(plan: Plan) -> list[ModuleType]:
    """Import the package that built a plan, and alone can run it; for a plan without a sidecar, all that are installed.

    Raises:
        MissingDependencyError: it is not installed, or none is.
    """
    wanted = list(FLAVOURS) if plan.sidecar is None else [plan.sidecar.flavour]
    found = [_import(name) for name in wanted]
    modules = [module for module in found if not isinstance(module, Exception)]
    if modules:
        return modules
    if plan.sidecar is None:
        raise MissingDependencyError(
            f"{plan.path}: needs TensorRT, and neither tensorrt nor tensorrt-rtx can be imported ({found[0]})",
            "Install the one that built it: pip install 'edgecls[tensorrt]' or 'edgecls[tensorrt-rtx]'",
        )
    flavour, version = plan.sidecar.flavour, plan.sidecar.version
    others = [module for name in FLAVOURS if not isinstance(module := _import(name), Exception)]
    here = "".join(f"; {module.__name__} {module.__version__} is, and cannot run it" for module in others)
    raise MissingDependencyError(
        f"{plan.path}: was built by {flavour} {version}, which cannot be imported here ({found[0]}){here}",
        f"Install it: pip install 'edgecls[{FLAVOURS[flavour]}]' '{FLAVOURS[flavour]}=={_exact(version)}.*'; or build "
        f"another engine: {plan.sidecar.rebuild}",
    )


def check_version(plan: Plan, found: str) -> None:
    """Refuse a plan of another version: major, minor, patch and build must be the same.

    A version-compatible plan runs with that version and later ones, across one major at most (NVIDIA's support matrix:
    10 on 11, and 8 on 10).

    Args:
        plan: to run.
        found: version of the installed package.

    Raises:
        ProviderError: says which, and how to build it again.
    """
    if plan.sidecar is None or not plan.is_vouched_for:
        return
    built, here = _numbers(plan.sidecar.version), _numbers(found)
    length = min(len(built), len(here))
    if built[:length] == here[:length]:
        return
    compatible = plan.has_option("version_compatible")
    if compatible and here >= built and here[0] - built[0] <= 1:
        return
    flavour, version = plan.sidecar.flavour, plan.sidecar.version
    rule = " (version-compatible: runs with that version and later ones, of the next major at most)"
    raise ProviderError(
        f"{plan.path}: was built by {flavour} {version}{rule if compatible else ''}, and {found} is installed",
        f"{plan.rebuild}; or install what built it: pip install '{FLAVOURS[flavour]}=={_exact(version)}.*'",
    )


def check_gpu(plan: Plan, gpu: Gpu) -> None:
    """Refuse a plan that was not built for this generation of GPUs.

    Raises:
        ProviderError: says which, and how to build it again.
    """
    if plan.sidecar is None or not plan.is_vouched_for:
        return
    sidecar = plan.sidecar
    if gpu.compute_capability in sidecar.compute_capabilities:
        return
    level = sidecar.options.get("hardware_compatible", "").lower()
    # TensorRT's level AMPERE_PLUS: Ampere (8.0) and every later generation.
    if level in ("ampere_plus", *_YES) and _numbers(gpu.compute_capability) >= (8, 0):
        return
    raise ProviderError(
        f"{plan.path}: was built for compute capability {', '.join(sidecar.compute_capabilities)}"
        f"{f' on {sidecar.gpu}' if sidecar.gpu else ''}, and this is {gpu}",
        plan.rebuild,
    )


def this_platform() -> str:
    """Return the operating system and processor, as ``linux-x86_64``: what a sidecar's ``platform`` says."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"{platform.system().lower()}-{machine}"


def _difference(data: bytes, digest: str, sidecar: EngineSidecar) -> str | None:
    if len(data) != sidecar.plan_bytes:
        return f"it has {len(data):,} bytes, its sidecar says {sidecar.plan_bytes:,}"
    if digest != sidecar.plan_sha256:
        return f"its SHA-256 is {digest[:12]}, its sidecar says {sidecar.plan_sha256[:12]}"
    return None


def _import(name: str) -> ModuleType | Exception:
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # OSError: the package is there, a library of it is not
        return error


def _numbers(version: str) -> tuple[int, ...]:
    """Return 10.13.3.9.post1 as (10, 13, 3, 9)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()


def _exact(version: str) -> str:
    return ".".join(str(number) for number in _numbers(version))
