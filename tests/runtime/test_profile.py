from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgecls_runtime import Classifier, SessionSettings, manifest, profile
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import ProfileError
from edgecls_runtime.machine import this_machine
from edgecls_runtime.profile import FORMAT, Profile


@pytest.fixture
def tuned(models: Path) -> Profile:
    with Classifier.load(models / "tiny.onnx") as classifier:
        assert classifier.manifest is not None
        return Profile(
            model="tiny.onnx",
            graph_sha256=classifier.manifest.graph_sha256,
            machine=this_machine(),
            engine=classifier.engine,
            placement=Placement(threads=1),
            batch_size=1,
            trials=({"round_ms": [0.5], "chosen": True},),
        )


def write(profile: Profile, path: Path, **changes: object) -> None:
    path.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(profile), **changes}))


def test_a_profile_is_used_as_it_was_written(models: Path, tuned: Profile, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    write(tuned, path)
    assert profile.read(path) == tuned
    for given in (tuned, path, str(path)):
        with Classifier.load(models / "tiny.onnx", profile=given) as classifier:
            assert classifier.placement == tuned.placement == Placement(threads=1)
    with pytest.raises(ValueError, match="leave them out"):
        Classifier.load(models / "tiny.onnx", profile=path, threads=1)


def test_settings_survive_the_file(tuned: Profile, tmp_path: Path) -> None:
    settings = SessionSettings(spinning=False, cpus=(0, 3), inference_precision="bf16")
    odd = dataclasses.replace(tuned, placement=Placement(provider="openvino", settings=settings), batch_size=8)
    write(odd, tmp_path / "p.json")
    assert profile.read(tmp_path / "p.json") == odd


def test_a_profile_of_another_model_machine_or_engine_is_refused(models: Path, tuned: Profile, tmp_path: Path) -> None:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    manifest.write(dataclasses.replace(document, graph_sha256="f" * 64), models / "foreign.onnx", tmp_path / "m.onnx")
    with pytest.raises(ProfileError, match="m.onnx: the profile is of another model: tiny.onnx, .* not ffffffffffff"):
        Classifier.load(tmp_path / "m.onnx", profile=tuned)
    for name, value, shown in [
        ("cpu", "Abacus 3", "cpu Abacus 3, here "),
        ("usable_cpus", 4097, "usable_cpus 4097, here "),
        ("cpu_flags", ("mmx", "sse"), "cpu_flags mmx, sse, here "),
        ("gpus", ("NVIDIA X",), "gpus NVIDIA X, here "),
    ]:
        elsewhere = dataclasses.replace(tuned, machine=dataclasses.replace(tuned.machine, **{name: value}))
        with pytest.raises(ProfileError, match=f"the profile is of another machine: {shown}"):
            Classifier.load(models / "tiny.onnx", profile=elsewhere)
    with pytest.raises(ProfileError, match="the profile is of another engine: onnxruntime 1.2, here onnxruntime"):
        Classifier.load(models / "tiny.onnx", profile=dataclasses.replace(tuned, engine="onnxruntime 1.2"))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"format": "edgecls.profile/9"}, "is not a profile: its format is 'edgecls.profile/9'"),
        ({"batch_size": "1"}, 'batch_size: is "1", not of type int'),
        ({"trials": [1]}, r"trials\[0\]: is 1, not an object"),
        ({"colour": 1}, "has an unknown field 'colour'"),
        ({"placement": {"settings": {"cpus": []}}}, "must name different CPUs"),
        ({"placement": {"threads": -3}}, "threads is -3, must be from 1 to 1024"),
        ({"batch_size": -5}, "batch_size is -5, must be at least 1"),
    ],
)
def test_a_damaged_profile(tuned: Profile, tmp_path: Path, change: dict[str, object], cause: str) -> None:
    path = tmp_path / "p.json"
    write(tuned, path, **change)
    with pytest.raises(ProfileError, match=cause):
        profile.read(path)


def test_what_is_no_profile(tmp_path: Path) -> None:
    for text, cause in [
        ("", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is not a profile"),
        ("{}", "its format is None"),
    ]:
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(ProfileError, match=cause):
            profile.read(tmp_path / "p.json")
    with pytest.raises(ProfileError, match="none.json: cannot be read: No such file"):
        profile.read(tmp_path / "none.json")
