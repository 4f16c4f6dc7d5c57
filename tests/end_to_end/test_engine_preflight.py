"""Preflight and deserialization against NVIDIA's own library. Needs no GPU: it builds ahead of time, for Ada."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpu import FakeGpu, write_sidecar

from edgecls_runtime import Classifier, ModelError, ProviderError
from edgecls_runtime.backends import cuda, tensorrt
from edgecls_runtime.preflight import Plan, import_flavours, read_plan

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'"
)


def has_gpu() -> bool:
    try:
        cuda.Cuda()
    except ProviderError:
        return False
    return True


@pytest.fixture(scope="module")
def built() -> bytes:
    """A plan of the tiny model."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(Path(__file__).parents[1] / "models" / "tiny.onnx"))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))
    config.add_optimization_profile(profile)
    return bytes(builder.build_serialized_network(network, config))


@pytest.fixture
def engine(built: bytes, models: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.engine"
    path.write_bytes(built)
    version = trt.__version__
    write_sidecar(path, models / "tiny.onnx", profile=(1, 4, 8), flavour="tensorrt_rtx", version=version)
    return path


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_without_a_gpu_the_process_says_so_and_lives(engine: Path, tmp_path: Path) -> None:
    """In a process of its own: a library that crashes takes it along."""
    (tmp_path / "photo.ppm").write_bytes(b"P6 40 40 255\n" + bytes(4800))
    command = [sys.executable, "-m", "edgecls", "infer", "--engine", str(engine), str(tmp_path / "photo.ppm")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: provider tensorrt: there is no NVIDIA GPU or no driver for it here (cudaError"
    )
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU")
def test_with_a_gpu_it_computes_the_model(engine: Path) -> None:
    """An Ada card, or the word that it is none."""
    try:
        Classifier.load(engine).close()
    except ProviderError as error:
        assert "was built for compute capability 8.9" in error.cause


def test_the_package_that_is_here_passes_and_another_version_does_not(engine: Path, models: Path) -> None:
    assert import_flavours(read_plan(engine)) == [trt]
    write_sidecar(engine, models / "tiny.onnx", profile=(1, 4, 8), flavour="tensorrt_rtx", version="1.2.0.54")
    with pytest.raises(ProviderError, match=f"built by tensorrt_rtx 1.2.0.54, and {trt.__version__} is installed"):
        Classifier.load(engine)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda plan: b"rubbish" * 100, "magicTag"),
        (lambda plan: plan[:-100], "plan.header.size == blobSize"),
        (lambda plan: b"", "empty memory buffer"),
    ],
    ids=["rubbish", "cut short", "empty"],
)
def test_a_damaged_plan_is_refused_in_tensorrts_own_words(
    built: bytes, tmp_path: Path, damage: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(damage(built))
    plan: Plan = read_plan(path, trust=True)
    with pytest.raises(ModelError, match=rf"m.engine: tensorrt_rtx {trt.__version__} cannot load it: .*{reason}"):
        tensorrt._load([trt], plan, _card(monkeypatch), None)


def _card(monkeypatch: pytest.MonkeyPatch) -> cuda.Cuda:
    """A card that TensorRT never gets to see."""
    import types

    gpu = FakeGpu()
    monkeypatch.setitem(sys.modules, "cuda.bindings", types.SimpleNamespace(runtime=gpu))
    return cuda.Cuda()
