"""TensorRT engines at the command line, on a GPU that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_gpu
import numpy as np
import onnxruntime
import pytest
from fake_gpu import CudaError, FakeGpu, write_engine
from PIL import Image

from edgecls.cli import main


@pytest.fixture
def engine(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    gpu = FakeGpu()
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu))
    return write_engine(tmp_path / "tiny.engine", models / "tiny.onnx")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_infer_answers_as_with_the_onnx_file(
    engine: Path, models: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("infer", "--engine", engine, photo) == 0
    answer = capsys.readouterr().out
    assert run("infer", "--engine", models / "tiny.onnx", photo) == 0
    assert capsys.readouterr().out == answer


def test_verify_compare_and_evaluate_take_engines(
    engine: Path, models: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", engine) == 0
    assert "ok    plan" in capsys.readouterr().out
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        photo.with_name("photos").joinpath(f"{number}.png").write_bytes(photo.read_bytes())
    assert run("compare", models / "tiny.onnx", engine, "--data", folder, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["provider"] == "CPUExecutionProvider, TensorRT"
    assert [row["agreement"] for row in found["rows"]] == [100, 100]
    assert run("compare", models / "tiny.onnx", engine, "--data", folder, "--provider", "cpu", "--threads", 1) == 0
    capsys.readouterr()
    assert run("evaluate", engine, folder, "--predictions", tmp_path / "answers.csv") == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 13


@pytest.mark.parametrize("command", [["infer", "--engine"], ["verify"], ["evaluate"]])
def test_another_provider_is_refused(
    command: list[str], engine: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {"infer": [photo], "verify": [], "evaluate": [photo.parent, "--predictions", photo.with_name("a.csv")]}
    assert run(*command, engine, *rest[command[0]], "--provider", "cpu") == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: provider cpu: cannot run ")
    assert "which is a TensorRT engine\n       Leave out --provider" in complaint


def test_a_changed_engine_is_refused_unless_it_is_trusted(
    engine: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.write_bytes(engine.read_bytes().replace(b'"profile"', b'"profil\\u0065"'))
    assert run("infer", "--engine", engine, photo) == 1
    complaint = capsys.readouterr().err
    assert "is not the plan that was built" in complaint
    assert len(complaint.splitlines()) == 2
    assert run("infer", "--engine", engine, photo, "--trust") == 0


def test_a_machine_without_a_gpu_gets_two_lines(
    models: Path, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = FakeGpu(device_count=(CudaError.cudaErrorNoDevice, None))
    fake_gpu.install(monkeypatch, gpu, fake_gpu.make_tensorrt(gpu))
    engine = write_engine(tmp_path / "tiny.engine", models / "tiny.onnx")
    assert run("infer", "--engine", engine, photo) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: provider tensorrt: there is no NVIDIA GPU or no driver for it here")
    assert len(complaint.splitlines()) == 2


def test_trust_is_for_engines(models: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("infer", "--engine", models / "tiny.onnx", photo, "--trust") == 1
    assert "is no TensorRT engine, and brings no code to trust" in capsys.readouterr().err


def test_trust_and_cache_are_not_for_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--trust"], ["--engine-cache", str(tmp_path)]):
        assert run("evaluate", "model.pt", tmp_path, *option) == 2
        assert f"{option[0]} is for exported models" in capsys.readouterr().err


def test_onnx_files_on_tensorrt_are_strict(
    models: Path, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's own providers: which one, with what options, and nothing to fall back on."""
    asked: dict[str, Any] = {}
    real = onnxruntime.InferenceSession

    def session(path: str, options: Any, **arguments: Any) -> Any:
        asked.update(arguments, strict=options.get_session_config_entry("session.disable_cpu_ep_fallback"))
        return real(path, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "unset")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    command = ["infer", "--engine", models / "tiny.onnx", photo, "--provider", "tensorrt", "--engine-cache", tmp_path]
    for name, settings in {
        "TensorrtExecutionProvider": {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(tmp_path),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(tmp_path),
        },
        "NvTensorRTRTXExecutionProvider": {"nv_runtime_cache_path": str(tmp_path)},
    }.items():
        available = [name, "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda found=available: found)
        assert run(*command) == 1
        assert f"provider tensorrt: asked for {name}, got CPUExecutionProvider" in capsys.readouterr().err
        assert asked == {"providers": [(name, settings)], "enable_fallback": 0, "strict": "1"}
    import os

    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert run(*command) == 1
    assert "provider tensorrt: onnxruntime" in capsys.readouterr().err


def test_a_wheel_without_tensorrts_libraries(
    models: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What onnxruntime-gpu 1.31 raises there, word for word."""
    said = (
        "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
        "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install "
        "TensorRT libraries as mentioned in the GPU requirements page.\n"
    )

    def session(*_: Any, **__: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert run("infer", "--engine", models / "tiny.onnx", photo, "--provider", "tensorrt") == 1
    cause, remedy = capsys.readouterr().err.splitlines()
    assert cause.startswith("error: provider tensorrt: Please install TensorRT libraries as mentioned")
    assert "pip install 'edgecls[tensorrt]'" in remedy


def test_tensorrts_provider_is_told_what_the_file_computes_in(models: Path, tmp_path: Path) -> None:
    import dataclasses

    from edgecls_runtime import manifest
    from edgecls_runtime.backends.onnxruntime import _tensorrt_options

    found = manifest.read(models / "tiny.onnx")
    assert found is not None
    expected = {"fp32": {}, "fp16": {"trt_fp16_enable": "1"}, "int8": {"trt_int8_enable": "1"}}
    for precision, settings in expected.items():
        path = tmp_path / f"{precision}.onnx"
        manifest.write(dataclasses.replace(found, precision=precision), models / "tiny.onnx", path)
        assert _tensorrt_options("TensorrtExecutionProvider", str(path), None) == settings
        assert _tensorrt_options("NvTensorRTRTXExecutionProvider", str(path), None) == {}
