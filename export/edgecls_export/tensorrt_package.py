"""The packages that build engines, ``tensorrt`` (10.x and 11.x) and ``tensorrt_rtx``: one API, a few differences.

Both are told what to say (their log goes to `logging`, their errors into ours) and asked how far they are.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecls_runtime.backends.tensorrt_log import log_of
from edgecls_runtime.errors import ExportError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgecls_runtime.backends.tensorrt_log import TensorRtLog
    from edgecls_runtime.engine_file import Flavour

__all__ = ["FLAVOURS", "OTHER_TYPE", "Said", "TensorRT", "new_progress", "open_package"]

FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")

OTHER_TYPE = "INT8 instead"
"""What TensorRT says, as a mere warning, when it reads uint8 as int8: the engine would compute other numbers."""

_LAYERS = "Layers: Name: "
"""How the text begins in which TensorRT-RTX lists the layers of an engine that it has built."""

_ONE_AT_A_TIME = threading.Lock()
"""Held by who builds: there is one log for all."""

_OLDEST_MAJOR = {"tensorrt": 10, "tensorrt_rtx": 1}
"""Older ones take no strongly typed network from an ONNX file as it is written today."""


@dataclass
class Said:
    """What TensorRT said while it built.

    Attributes:
        errors: what it calls errors, a line each, and warnings that say `OTHER_TYPE`.
        layers: its list of the engine's layers, for `edgecls_export.engine_layers`; empty if it made none.
    """

    errors: list[str] = field(default_factory=list)
    layers: str = ""


@dataclass(frozen=True)
class TensorRT:
    """An imported package.

    Attributes:
        flavour: its import name.
        module: the package itself.
        version: its own.
        log: what every builder of this process is given.
    """

    flavour: Flavour
    module: Any
    version: str
    log: TensorRtLog

    def __str__(self) -> str:
        return f"{self.flavour} {self.version}"

    @contextlib.contextmanager
    def listen(self) -> Iterator[Said]:
        """Collect what TensorRT says, of all its threads; one caller at a time."""
        said = Said()

        def watch(level: int | None, line: str) -> bool:
            if line.startswith(_LAYERS):
                said.layers = line
            if level != logging.ERROR and OTHER_TYPE not in line:
                return False
            said.errors.append(line)
            return True

        with _ONE_AT_A_TIME:
            self.log.watch = watch
            try:
                yield said
            finally:
                self.log.watch = None


def open_package(flavour: Flavour | None = None, *, ahead_of_time: bool = False) -> TensorRT:
    """Import the package that shall build.

    Args:
        flavour: which one; None takes the one that is installed.
        ahead_of_time: without the GPU that the engine is for, which `tensorrt_rtx` alone can.

    Raises:
        MissingDependencyError: it is not installed, or cannot be imported.
        ExportError: both are installed and nobody chose.
    """
    if flavour is None:
        flavour = "tensorrt_rtx" if ahead_of_time else _installed()
    distribution = flavour.replace("_", "-")
    try:
        module = importlib.import_module(flavour)
        version, log = str(module.__version__), log_of(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # its libraries are loaded as it is imported
        raise MissingDependencyError(
            f"{distribution}: cannot be imported ({_one_line(str(error))})",
            f"Install it with: pip install 'edgecls[{distribution}]'",
        ) from error
    if int(version.partition(".")[0]) < _OLDEST_MAJOR[flavour]:
        raise MissingDependencyError(
            f"{distribution} {version}: is too old, engines are built with {_OLDEST_MAJOR[flavour]} or newer",
            f"Install a newer one: pip install --upgrade 'edgecls[{distribution}]'",
        )
    return TensorRT(flavour, module, version, log)


def _installed() -> Flavour:
    found = [flavour for flavour in FLAVOURS if importlib.util.find_spec(flavour) is not None]
    if not found:
        raise MissingDependencyError(
            "engines: neither tensorrt nor tensorrt-rtx is installed",
            "Install one: pip install 'edgecls[tensorrt]', or 'edgecls[tensorrt-rtx]' (RTX GPUs; builds without one)",
        )
    if len(found) > 1:
        raise ExportError(
            "engines: tensorrt and tensorrt-rtx are both installed, and neither runs the other's engines",
            "Choose: --flavour tensorrt, or --flavour tensorrt-rtx",
        )
    return found[0]


def new_progress(trt: Any, report: Callable[[str, float], object]) -> Any:
    """Make an ``IProgressMonitor`` that reports the phase and the share of the whole that is done.

    What ``report`` raises, and what a signal raises within it, cancels the build and waits in ``raised``: through
    TensorRT itself no exception passes.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self.phases: dict[str, _Phase] = {}
            self.share = 0.0
            self.lock = threading.Lock()  # phases may run in threads of their own

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self.lock:
                self.phases[phase_name] = _Phase(parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self.lock:
                if phase_name in self.phases:
                    self.phases[phase_name].done = step + 1
                share = _share(self.phases)
            return self.tell(phase_name, share)

        def phase_finish(self, phase_name: str) -> None:
            with self.lock:
                phase = self.phases.pop(phase_name, None)
            if phase is not None and phase.parent is None:  # the whole, of which not every step need be told
                self.tell(phase_name, 1.0)

        def tell(self, phase_name: str, share: float) -> bool:
            if self.raised is not None:
                return False
            try:
                with self.lock:
                    self.share = max(self.share, share)
                report(phase_name, self.share)
            except BaseException as error:  # noqa: BLE001 - raised again once TensorRT has returned
                self.raised = error
            return self.raised is None

    return Monitor()


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


def _share(phases: dict[str, _Phase], parent: str | None = None) -> float:
    """Return how much of a phase's children is done; phases that run side by side count by the furthest."""
    shares = [
        (phase.done + (_share(phases, name) if phase.done < phase.steps else 0)) / max(phase.steps, 1)
        for name, phase in phases.items()
        if phase.parent == parent and name != parent
    ]
    return min(max(shares, default=0.0), 1.0)


def _one_line(text: str) -> str:
    return " ".join(text.split())
