from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecls import diagnosis
from edgecls_runtime import golden, manifest
from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edgecls_runtime.machine import Machine


def machine(architecture: str, *flags: str) -> Machine:
    return Machine(cpu="X", architecture=architecture, cpu_flags=flags, usable_cpus=4, gpus=())


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(
    ("here", "int8", "remedy"),
    [
        (machine("x86_64", "avx2", "avx512_vnni"), "quick and right: avx512_vnni", None),
        (machine("x86_64", "avx_vnni", "amx_int8"), "quick and right: amx_int8, avx_vnni", None),
        (
            machine("x86_64", "avx2"),
            "no VNNI: files of --target cpu are right here with onnxruntime",
            "--target cpu-any",
        ),
        (machine("aarch64", "asimd", "asimddp"), "quick and right: asimddp", None),
        (machine("aarch64", "asimd"), "right, but slow", None),
        (machine("riscv64"), "not known for riscv64", None),
    ],
)
def test_what_the_flags_mean_for_int8(here: Machine, int8: str, remedy: str | None, tmp_path: Path) -> None:
    found = {finding.topic: finding for finding in diagnosis.cpu_findings(here, 8, tmp_path)}
    assert found["int8"].found.startswith(int8)
    assert (found["int8"].remedy is None) is (remedy is None)
    assert remedy is None or remedy in str(found["int8"])


def test_what_the_flags_mean_for_bfloat16(tmp_path: Path) -> None:
    for flags, expected in ((("amx_bf16",), "--inference-precision bf16"), ((), "none: float32")):
        found = {
            finding.topic: finding.found for finding in diagnosis.cpu_findings(machine("x86_64", *flags), 8, tmp_path)
        }
        assert expected in found["bfloat16"]


def test_the_containers_share(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    put(tmp_path, "proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    share = diagnosis.cpu_findings(machine("x86_64"), 64, tmp_path)[0]
    assert share.found.startswith("1 of 64 logical CPUs usable; the cgroup's quota is 1.5 CPUs")


def loader(*there: str, status: int = 0) -> object:
    def load(name: str) -> object:
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file")

        def version(out: object) -> int:
            out._obj.value = 13010  # type: ignore[attr-defined]
            return status

        return SimpleNamespace(cuDriverGetVersion=version)

    return load


def test_cuda_with_all_it_needs() -> None:
    driver, libraries = diagnosis.cuda_findings(
        ("a.so.1", "b.so.2"), ("L4",), loader("libcuda.so.1", "a.so.1", "b.so.2")
    )
    assert driver.found == "for CUDA 13.1; L4"
    assert libraries.found == "all 2 libraries found: a.so.1, b.so.2"
    assert not driver.fault
    assert not libraries.fault


@pytest.mark.parametrize("gpus", [(), ("L4",)])
def test_cuda_with_a_library_missing_is_a_fault_where_there_is_a_gpu(gpus: tuple[str, ...]) -> None:
    _, libraries = diagnosis.cuda_findings(("a.so.1", "b.so.2"), gpus, loader("libcuda.so.1", "a.so.1"))
    assert libraries.found == "missing: b.so.2"
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(libraries)
    assert libraries.fault is bool(gpus)


def test_the_driver() -> None:
    absent, _ = diagnosis.cuda_findings(("a.so.1",), (), loader("a.so.1"))
    assert "no NVIDIA driver" in absent.found
    silent, _ = diagnosis.cuda_findings(("a.so.1",), ("L4",), loader("a.so.1", "libcuda.so.1", status=999))
    assert silent.fault


def test_a_gpu_and_an_engine_that_does_not_know_it() -> None:
    assert diagnosis.cuda_findings((), ()) == ()
    (finding,) = diagnosis.cuda_findings((), ("L4",))
    assert finding.remedy == "pip uninstall onnxruntime && pip install 'edgecls[gpu]'"


def test_the_libraries_are_those_that_onnxruntime_itself_loads() -> None:
    def paths(*, is_windows: bool) -> list[tuple[str, ...]]:
        return [("nvidia", "cu13", "lib", "libcudart.so.13"), ("nvidia", "cudnn", "lib", "libcudnn.so.9")]

    gpu = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"], _get_nvidia_dll_paths=paths)
    assert diagnosis.cuda_library_names(gpu) == ("libcudart.so.13", "libcudnn.so.9")
    gpu.get_available_providers = lambda: ["CPUExecutionProvider"]
    assert diagnosis.cuda_library_names(gpu) == ()


def test_the_self_test_passes_here_and_finds_an_engine_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.fault for finding in diagnosis.self_test("cpu")] == [False, False]
    right = OnnxRuntimeBackend.run
    monkeypatch.setattr(OnnxRuntimeBackend, "run", lambda self, batch: right(self, batch) * 1.001)
    fp32, int8 = diagnosis.self_test("cpu")
    assert fp32.fault
    assert "cpu fp32: FAIL: max |diff| 0.001" in fp32.found
    assert not int8.fault
    assert [finding.found.partition(":")[0] for finding in diagnosis.self_test("absent")] == ["absent"]


def test_the_self_test_finds_integers_that_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on x86 without VNNI: pairs of products end at 32,767. The convolution by hand, with and without."""
    path = Path(diagnosis.__file__).with_name("self_test_int8.onnx")
    document = manifest.read(path)
    assert document is not None
    assert document.golden is not None
    pictures = golden.golden_pixels(4, document.preprocess)
    batch = np.stack([golden.normalize(picture, document.preprocess) for picture in pictures])
    exact, saturated = convolve(batch, saturating=False), convolve(batch, saturating=True)
    np.testing.assert_allclose(exact, document.golden.logits(), atol=1e-5)

    for logits, expected in ((exact, "int8: right"), (saturated, "int8: integers saturate")):
        monkeypatch.setattr(OnnxRuntimeBackend, "run", lambda self, batch, logits=logits: logits)
        finding = diagnosis.self_test("cpu")[1]
        assert expected in finding.found
        assert not finding.fault
        assert ("--target cpu-any" in str(finding)) is ("saturate" in expected)


def convolve(batch: np.ndarray, *, saturating: bool) -> np.ndarray:
    """The self-test's graph (tests/models/make_tiny_models.py), in numpy's integers."""
    quantized = np.clip(np.rint(batch / np.float32(4.8 / 255)) + 112, 0, 255).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(quantized, (8, 8), axis=(2, 3))[:, :, ::4, ::4]
    count, _, height, width = windows.shape[:4]
    rows = windows.transpose(0, 2, 3, 4, 5, 1).reshape(count * height * width, -1)
    halves = np.indices((8, 8))
    signs = np.ones((5, 8, 8), np.int64)
    for label in range(1, 5):
        signs[label] = 1 - 2 * ((halves[0 if label % 2 else 1] >> (2 if label < 3 else 1)) % 2)
    weights = np.repeat(127 * signs.reshape(5, -1, 1), 3, axis=2).reshape(5, -1).T
    products = rows[:, :, None] * weights
    pairs = products.reshape(len(rows), -1, 2, 5).sum(2)
    sums = np.clip(pairs, -32768, 32767).sum(1) if saturating else pairs.sum(1)
    values = (sums - 112 * weights.sum(0)) * (4.8 / 255 / 512)
    rounded = np.clip(np.rint(values / 0.9) + 128, 0, 255) - 128
    return (0.9 * rounded).reshape(count, -1, 5).mean(1).astype(np.float32)


def test_a_finding_prints_its_remedy() -> None:
    finding = diagnosis.Finding("cuda", "missing: a", "pip install a")
    assert str(finding) == "cuda       missing: a\n           -> pip install a"
    assert str(dataclasses.replace(finding, remedy=None)) == "cuda       missing: a"
