"""What is checked before a plan is deserialized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_gpu import write_engine

from edgecls_runtime import ManifestError, ModelError, ProviderError
from edgecls_runtime.backends.cuda import Gpu
from edgecls_runtime.preflight import (
    Plan,
    check_gpu,
    check_platform,
    check_version,
    check_whole,
    read_plan,
    this_platform,
)

REBUILD = "\nBuild it again for this machine: edgecls export tiny.onnx --tensorrt"


@pytest.fixture
def plan_of(models: Path, tmp_path: Path) -> Any:
    """Return a function from fields of the sidecar to a plan that passed its digest check."""

    def make(**sidecar: Any) -> Plan:
        return read_plan(write_engine(tmp_path / "m.engine", models / "tiny.onnx", sidecar=sidecar))

    return make


def test_a_plan_that_its_sidecar_vouches_for(plan_of: Any) -> None:
    plan = plan_of()
    assert plan.is_vouched_for
    assert plan.assumptions == ()
    assert plan.sidecar.plan_sha256 == plan.sha256


def test_every_changed_byte_counts_and_trust_says_so(plan_of: Any, tmp_path: Path) -> None:
    path = Path(plan_of().path)
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(
        ModelError, match=r"is not the plan that was built: its SHA-256 is \w{12}, its sidecar says \w{12}"
    ):
        read_plan(path)
    plan = read_plan(path, trust=True)
    assert not plan.is_vouched_for
    assert plan.assumptions[0].startswith("not the plan of its sidecar (its SHA-256 is")


def test_what_cannot_be_read(plan_of: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none.engine: cannot be read: No such file"):
        read_plan(tmp_path / "none.engine", trust=True)
    path = Path(plan_of().path)
    beside = Path(f"{path}.json")
    beside.write_text("{")
    with pytest.raises(ManifestError, match="m.engine.json: is not valid JSON"):
        read_plan(path, trust=True)  # a damaged sidecar is not a missing one
    beside.write_text('{"sidecar_version": "2.0"}')
    with pytest.raises(
        ManifestError, match="sidecar_version '2.0'; this .* reads 1.0\n.*install the edgecls that built"
    ):
        read_plan(path)
    beside.unlink()
    with pytest.raises(
        ModelError, match=r"m.engine.json: is missing.*\n.*edgecls export MODEL.onnx --tensorrt; .*--trust"
    ):
        read_plan(path)
    assert read_plan(path, trust=True).sidecar is None


def test_a_plan_without_weights(plan_of: Any) -> None:
    check_whole(plan_of(options={"strip_plan": "false"}))
    with pytest.raises(ModelError, match="holds no weights"):
        check_whole(plan_of(options={"strip_plan": "true"}))


def test_another_system(plan_of: Any) -> None:
    check_platform(plan_of())
    with pytest.raises(ProviderError, match=f"was built for windows-x86_64, and this is {this_platform()}{REBUILD}"):
        check_platform(plan_of(platform="windows-x86_64"))


@pytest.mark.parametrize(
    ("built", "found", "compatible", "runs"),
    [
        ("10.13.3.9", "10.13.3.9", "no", True),
        ("10.13.3.9", "10.13.3.9.post1", "no", True),
        ("10.13.3", "10.13.3.9", "no", True),
        ("10.13.3.9", "10.13.3.10", "no", False),
        ("10.13.3.9", "10.14.0.1", "no", False),
        ("10.13.3.9", "10.14.0.1", "yes", True),
        ("10.13.3.9", "11.4.0.106", "yes", True),
        ("10.13.3.9", "12.0.0.1", "yes", False),
        ("10.13.3.9", "10.12.0.1", "yes", False),
        ("10.9.0.34", "10.13.0.1", "yes", True),
    ],
)
def test_another_version(plan_of: Any, built: str, found: str, compatible: str, runs: bool) -> None:
    plan = plan_of(version=built, options={"version_compatible": compatible})
    if runs:
        check_version(plan, found)
        return
    with pytest.raises(
        ProviderError, match=f"was built by tensorrt {built}.*, and {found} is installed{REBUILD}"
    ) as caught:
        check_version(plan, found)
    assert f"pip install 'tensorrt=={built}.*'" in caught.value.remedy
    assert ("version-compatible" in caught.value.cause) is (compatible == "yes")


@pytest.mark.parametrize(
    ("built", "hardware", "card", "runs"),
    [
        (("8.9",), "none", "8.9", True),
        (("8.6", "12.0"), "none", "12.0", True),
        (("8.9",), "none", "8.6", False),
        (("8.6",), "ampere_plus", "12.0", True),
        (("8.6",), "ampere_plus", "7.5", False),
    ],
)
def test_another_gpu(plan_of: Any, built: tuple[str, ...], hardware: str, card: str, runs: bool) -> None:
    plan = plan_of(compute_capabilities=built, options={"hardware_compatible": hardware}, gpu="NVIDIA L4")
    gpu = Gpu(name="NVIDIA Test", compute_capability=card, memory_bytes=8 * 2**30)
    if runs:
        check_gpu(plan, gpu)
        return
    message = (
        rf"built for compute capability {', '.join(built)} on NVIDIA L4, and this is NVIDIA Test \(compute capability"
    )
    with pytest.raises(ProviderError, match=rf"{message} {card}, 8 GiB\){REBUILD}"):
        check_gpu(plan, gpu)


def test_a_sidecar_of_another_plan_is_no_reason_to_refuse_a_trusted_one(models: Path, tmp_path: Path) -> None:
    elsewhere = {"platform": "windows-x86_64", "version": "8.6.1.2", "compute_capabilities": ("7.5",)}
    path = write_engine(tmp_path / "m.engine", models / "tiny.onnx", sidecar=elsewhere)
    with path.open("ab") as file:
        file.write(b"\0")
    plan = read_plan(path, trust=True)
    check_platform(plan)
    check_version(plan, "10.13.3.9")
    check_gpu(plan, Gpu(name="NVIDIA Test", compute_capability="8.9", memory_bytes=2**30))
