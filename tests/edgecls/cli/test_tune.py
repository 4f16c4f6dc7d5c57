from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgecls_runtime import profile

if TYPE_CHECKING:
    from conftest import Refused, Run


def test_tune_then_infer_with_the_profile(edgecls: Run, refused: Refused, models: Path, photo: Path) -> None:
    (photo.parent / "m.onnx").write_bytes((models / "tiny.onnx").read_bytes())
    done = edgecls("tune", "m.onnx", "--provider", "cpu", "--threads", 1, "--rounds", 3)
    assert (done.returncode, done.stderr) == (0, "")
    written = profile.read(photo.parent / "m.onnx.profile.json")
    assert [trial["placement"] for trial in written.trials if trial["chosen"]] == [
        dataclasses.asdict(written.placement)
    ]
    assert {trial["batch_size"] for trial in written.trials} == {written.batch_size} == {1}
    assert "take cpu, 1 thread, batch 1 (onnxruntime " in done.stdout

    plain = edgecls("infer", "--engine", "m.onnx", "photo.jpg")
    tuned = edgecls("infer", "--engine", "m.onnx", "photo.jpg", "--profile", "m.onnx.profile.json")
    assert (tuned.returncode, tuned.stdout) == (0, plain.stdout)
    refused(edgecls("tune", "m.onnx"), "m.onnx.profile.json: exists already", "--force")

    document = json.loads((photo.parent / "m.onnx.profile.json").read_text())
    document["machine"]["cpu"] = "Abacus 3"
    (photo.parent / "p.json").write_text(json.dumps(document))
    elsewhere = edgecls("infer", "--engine", "m.onnx", "photo.jpg", "--profile", "p.json")
    refused(elsewhere, "the profile is of another machine: cpu Abacus 3, here", "edgecls tune m.onnx")


def test_tune_wants_a_provider_that_is_here(edgecls: Run, refused: Refused, models: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    done = edgecls("tune", models / "tiny.onnx", "--provider", "cuda", "--output", "p.json")
    refused(done, "no way to run it was found: provider cuda", "edgecls verify")


@pytest.mark.parametrize("option", [["--threads", "1"], ["--provider", "cpu"], ["--no-spinning"]])
def test_a_profile_leaves_nothing_to_other_options(edgecls: Run, models: Path, option: list[str]) -> None:
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg", "--profile", "p.json", *option)
    assert done.returncode == 2
    assert f"--profile says it all: leave out {option[0].replace('no-', '')}" in done.stderr


def test_settings_reach_the_engine_or_are_refused(edgecls: Run, refused: Refused, models: Path) -> None:
    assert edgecls("verify", models / "tiny.onnx", "--no-spinning", "--threads", 1).returncode == 0
    done = edgecls("verify", models / "tiny.onnx", "--inference-precision", "bf16")
    refused(done, "provider cpu: has no setting inference_precision (bf16 was asked for)", "choose provider openvino")
