from __future__ import annotations

import importlib.util
import sys
import types

import pytest

from edgecls_export import tensorrt_package
from edgecls_export.tensorrt_package import new_progress, open_package
from edgecls_runtime.errors import ExportError, MissingDependencyError


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in names else None)


class Broken:
    """A finder for packages that are there and whose libraries are not."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, *_: object) -> None:
        if name in tensorrt_package.FLAVOURS:
            raise self.error


def test_none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(
        MissingDependencyError, match="neither tensorrt nor tensorrt-rtx is installed\nInstall one: pip"
    ):
        open_package()


def test_both_installed_is_for_the_user_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(ExportError, match="both installed.*\nChoose: --flavour tensorrt, or --flavour tensorrt-rtx"):
        open_package()


@pytest.mark.parametrize(
    "error", [ImportError("no module"), OSError("libnvinfer.so.10: cannot open"), RuntimeError("two\nlines")]
)
def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    with pytest.raises(MissingDependencyError) as caught:
        open_package("tensorrt")
    assert " ".join(str(error).split()) in caught.value.cause
    assert "\n" not in caught.value.cause
    assert caught.value.remedy == "Install it with: pip install 'edgecls[tensorrt]'"


def test_an_old_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("tensorrt")
    old.__version__ = "8.6.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    monkeypatch.setattr(tensorrt_package, "log_of", lambda _: None)
    with pytest.raises(MissingDependencyError, match="tensorrt 8.6.1: is too old, .* 10 or newer\n.*--upgrade"):
        open_package("tensorrt")


def test_ahead_of_time_takes_the_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    installed(monkeypatch, "tensorrt", "tensorrt_rtx")
    package = open_package(ahead_of_time=True)
    assert package.flavour == "tensorrt_rtx"
    assert str(package) == f"tensorrt_rtx {package.module.__version__}"


def test_all_builds_of_a_process_share_one_log() -> None:
    """TensorRT keeps a pointer to the first one: another would be ignored, and a freed one is a crash."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    first, second = open_package("tensorrt_rtx"), open_package("tensorrt_rtx")
    assert first.log is second.log


def test_errors_are_collected_and_warnings_that_change_numbers_too(caplog: pytest.LogCaptureFixture) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    package = open_package("tensorrt_rtx")
    with caplog.at_level("DEBUG", "edgecls_runtime"), package.listen() as said:
        package.log.logger.log(trt.ILogger.ERROR, "first\n  and second line")
        package.log.logger.log(trt.ILogger.WARNING, "reads UINT8, defaulting to INT8 instead.")
        package.log.logger.log(trt.ILogger.WARNING, "a warning")
        package.log.logger.log(trt.ILogger.VERBOSE, "chatter")
        package.log.logger.log(trt.ILogger.VERBOSE, "Layers:\nName: a, LayerType: gemm")
    assert said.layers == "Layers: Name: a, LayerType: gemm"
    assert said.errors == ["first and second line", "reads UINT8, defaulting to INT8 instead."]
    package.log.logger.log(trt.ILogger.ERROR, "outside of a build")
    assert package.log.take() == "outside of a build"
    assert [(record.levelname, record.message) for record in caplog.records][2:] == [
        ("WARNING", "tensorrt_rtx: a warning"),
    ]


def test_progress_is_the_share_of_nested_phases_and_an_error_cancels() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    told: list[tuple[str, float]] = []

    def report(phase: str, share: float) -> None:
        told.append((phase, share))
        if phase == "bad":
            raise KeyboardInterrupt

    monitor = new_progress(trt, report)
    monitor.phase_start("whole", None, 2)
    monitor.phase_start("part", "whole", 4)
    assert monitor.step_complete("part", 0)
    monitor.phase_finish("part")
    assert monitor.step_complete("whole", 0)
    assert monitor.step_complete("unknown", 7)
    monitor.phase_start("bad", "whole", 2)
    assert not monitor.step_complete("bad", 0), "TensorRT is told to stop"
    assert not monitor.step_complete("whole", 1)
    monitor.phase_finish("whole")
    assert told == [("part", 0.125), ("whole", 0.5), ("unknown", 0.5), ("bad", 0.75)]
    assert isinstance(monitor.raised, KeyboardInterrupt)
