"""What cannot be heeded is refused. `tensorrt` itself cannot be had without its GPU: tensorrt-rtx stands in for it."""

from __future__ import annotations

import shlex
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecls_export import engine_options
from edgecls_export.engine import engine_from_onnx
from edgecls_export.engine_options import EngineOptions, open_builder
from edgecls_export.gpu import Gpu
from edgecls_runtime.engine_file import BatchProfile
from edgecls_runtime.errors import ExportError, ProviderError

trt: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

GPU = Gpu("NVIDIA GeForce RTX 4090", "8.9")
AHEAD = EngineOptions(flavour="tensorrt_rtx", compute_capabilities=("8.9",))


class StandIn(types.ModuleType):
    """tensorrt-rtx under the name and version of tensorrt, without what that lacks: the same API and a real builder."""

    def __init__(self, *without: str) -> None:
        super().__init__("tensorrt")
        self.__version__, self.without = "11.4.0", (*without, "ComputeCapability")

    def __getattr__(self, name: str) -> Any:
        if name in self.without:
            raise AttributeError(name)
        return getattr(trt, name)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> EngineOptions:
    """A machine with tensorrt 11.4 and a GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", StandIn())
    monkeypatch.setattr(engine_options, "find_gpu", lambda: GPU)
    return EngineOptions(flavour="tensorrt")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"version_compatible": True}, "cannot heed --version-compatible: its package has no lean runtime"),
        ({"hardware_compatible": True}, "cannot heed --hardware-compatible: a plan runs on every GPU"),
        ({"timing_cache": "cache"}, "cannot heed --timing-cache: it chooses kernels on the device"),
    ],
)
def test_rtx_refuses_what_it_would_ignore(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(ExportError, match=f"tensorrt_rtx [0-9.]+: {cause}.*\nLeave it out"):
        open_builder(replace(AHEAD, **changes))


def test_gpus_that_rtx_does_not_build_for() -> None:
    with pytest.raises(ProviderError, match="cannot build for compute capability 9.0\nIt builds for 7.5, 8.0, 8.6"):
        open_builder(replace(AHEAD, compute_capabilities=("8.9", "9.0")))


@pytest.mark.parametrize("option", ["refittable", "strip_plan"])
def test_refitting_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(engine_options, "find_gpu", lambda: None)
    with pytest.raises(ProviderError, match=f"needs a GPU for --{option.replace('_', '-')}, and there is none"):
        open_builder(replace(AHEAD, **{option: True}))
    monkeypatch.setattr(engine_options, "find_gpu", lambda: GPU)
    assert open_builder(replace(AHEAD, **{option: True})).gpu == GPU


def test_the_native_path_builds(
    native: EngineOptions, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar = engine_from_onnx(
        models / "foreign.onnx", tmp_path / "m.engine", options=replace(native, hardware_compatible=True)
    ).sidecar
    assert (sidecar.flavour, sidecar.version) == ("tensorrt", "11.4.0")
    assert (sidecar.gpu, sidecar.compute_capabilities) == (GPU.name, ("8.9",))
    assert sidecar.options["hardware_compatible"] == "true"
    assert "--flavour tensorrt --hardware-compatible" in sidecar.rebuild
    assert "setHardwareCompatibilityLevel() is unsupported in TensorRT-RTX" in caplog.text, "the builder was told"


@pytest.mark.filterwarnings("ignore:.*[Tt]iming cache:DeprecationWarning")
def test_the_timing_cache_is_kept_and_checked(native: EngineOptions, models: Path, tmp_path: Path) -> None:
    options = replace(native, timing_cache=tmp_path / "deep" / "cache")
    sidecar = engine_from_onnx(models / "foreign.onnx", tmp_path / "m.engine", options=options).sidecar
    assert f"--timing-cache {Path('deep', 'cache')} " in sidecar.rebuild, "as seen from the engine's folder"
    (cache,) = (tmp_path / "deep" / "cache").iterdir()
    assert cache.name == "tensorrt-11.4.0-NVIDIA-GeForce-RTX-4090-8.9.timing"
    engine_from_onnx(models / "foreign.onnx", tmp_path / "m.engine", options=options, force=True)
    cache.write_bytes(cache.read_bytes()[:-1])
    with pytest.raises(ExportError, match=f"{cache.name}: is damaged.*\nDelete it.*: rm "):
        engine_from_onnx(models / "foreign.onnx", tmp_path / "m.engine", options=options, force=True)


def test_native_engines_are_built_on_their_gpu(native: EngineOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="tensorrt 11.4.0: builds on the GPU itself.*\n.*--flavour tensorrt-rtx"):
        open_builder(replace(native, compute_capabilities=("8.9",)))
    monkeypatch.setattr(engine_options, "find_gpu", lambda: None)
    with pytest.raises(ProviderError, match="tensorrt 11.4.0: this machine has no GPU.*\n.*tensorrt-rtx --compute"):
        open_builder(native)


def test_what_a_version_lacks_is_refused(native: EngineOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", StandIn("BuilderFlag", "HardwareCompatibilityLevel"))
    for option, name in (
        ("version_compatible", "BuilderFlag.VERSION_COMPATIBLE"),
        ("hardware_compatible", "HardwareCompatibilityLevel.AMPERE_PLUS"),
        ("refittable", "BuilderFlag.REFIT"),
        ("strip_plan", "BuilderFlag.STRIP_PLAN"),
    ):
        with pytest.raises(ExportError, match=f"tensorrt 11.4.0: has no {name}\nLeave the option out."):
            open_builder(replace(native, **{option: True}))


def test_options_as_a_command_line() -> None:
    options = EngineOptions(
        flavour="tensorrt_rtx",
        batch=BatchProfile(min=1, opt=8, max=32),
        compute_capabilities=("8.6", "8.9"),
        workspace_mib=512,
        builder_level=0,
        tf32=True,
        timing_cache="my cache",
        strip_plan=True,
    )
    assert shlex.split(options.command_line()) == [
        *("--flavour", "tensorrt-rtx", "--batch", "1,8,32", "--compute-capability", "8.6,8.9"),
        *("--workspace-mib", "512", "--builder-level", "0", "--tf32", "--timing-cache", "my cache", "--strip-plan"),
    ]
    assert EngineOptions().command_line() == ""


@pytest.mark.parametrize("wrong", [{"builder_level": 6}, {"builder_level": -1}, {"workspace_mib": 0}])
def test_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EngineOptions(**wrong)
