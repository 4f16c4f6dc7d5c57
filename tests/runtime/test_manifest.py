from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecls_export.golden_outputs import encode_logits
from edgecls_runtime import manifest, onnx_file
from edgecls_runtime.errors import ManifestError
from edgecls_runtime.manifest import Golden, Manifest, Source, TopK
from edgecls_runtime.preprocess import Preprocess

FULL = Manifest(
    arch="alexnet",
    precision="fp32",
    labels=("cat", "dog", "ελέφαντας"),
    activation="sigmoid",
    thresholds=(0.5, 0.25, 1.0),
    preprocess=Preprocess(resize_size=(224, 224), interpolation="bicubic", color="BGR", alpha="white"),
    top_k=TopK(k=2),
    batch_size=8,
    opset=18,
    graph_sha256="ab" * 32,
    source=Source(weights="w.pth", sha256="cd" * 32),
    metrics={"acc@1": 83.5},
    parity={"images": 64, "flips": [{"image": "a.jpg", "margin": 0.001}]},
    golden=Golden(
        contract_sha256="ef" * 32,
        pixels_sha256=("1", "2"),
        logits_f32_base64=encode_logits(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ),
    tools={"torch": "2.14.1"},
)


def test_round_trip() -> None:
    assert Manifest.from_json(FULL.to_json()) == FULL
    assert FULL.golden is not None
    np.testing.assert_array_equal(FULL.golden.logits(), [[0, 1, 2], [3, 4, 5]])


def test_round_trip_through_a_file(models: Path, tmp_path: Path) -> None:
    manifest.write(FULL, models / "tiny.onnx", tmp_path / "m.onnx")
    assert manifest.read(tmp_path / "m.onnx") == FULL
    assert manifest.read(models / "foreign.onnx") is None


def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(FULL.to_json())
    return parsed


def required(cls: type) -> list[str]:
    return [
        item.name
        for item in dataclasses.fields(cls)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]


@pytest.mark.parametrize("name", required(Manifest))
def test_every_required_field_is_missed(name: str) -> None:
    damaged = document()
    del damaged[name]
    with pytest.raises(ManifestError, match=f"lacks the field '{name}'"):
        Manifest.from_json(json.dumps(damaged))


@pytest.mark.parametrize("name", sorted(set(json.loads(FULL.to_json())) - {"manifest_version"}))
def test_every_field_is_typed(name: str) -> None:
    damaged = document()
    damaged[name] = [3.5, {"no": None}]
    with pytest.raises(ManifestError, match=f"manifest: {name}"):
        Manifest.from_json(json.dumps(damaged))


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("manifest_version", "2.0", "is of version 2.0; this edgecls reads 1.x"),
        ("manifest_version", None, "has no readable manifest_version (null)"),
        ("manifest_version", 1.0, "has no readable manifest_version (1.0)"),
        ("manifest_version", "one", 'has no readable manifest_version ("one")'),
        ("precision", "fp4", 'precision: is "fp4", not one of fp32, fp16, int8'),
        ("batch_size", True, "batch_size: is true, not of type int"),
        ("batch_size", 1.5, "batch_size: is 1.5, not of type int"),
        ("labels", [], "labels: is empty"),
        ("labels", ["a", 2, "c"], "labels[1]: is 2, not of type str"),
        ("labels", ["a", "\x1b[31mred", "c"], "labels[1]: '\\x1b[31mred' holds a control character"),
        ("labels", ["a", "b"], "thresholds: has 3 values for 2 labels"),
        ("thresholds", None, "thresholds: go with activation sigmoid alone (activation is sigmoid)"),
        ("activation", "softmax", "thresholds: go with activation sigmoid alone (activation is softmax)"),
        ("surprise", 1, "has an unknown field 'surprise'"),
        ("preprocess.surprise", 1, "preprocess: has an unknown field 'surprise'"),
        ("preprocess.mean", [0.5, 0.5], "preprocess: mean: is [0.5, 0.5], not a list of 3"),
        ("preprocess.std", [0.5, 0.0, 0.5], "preprocess: std (0.5, 0.0, 0.5) must be positive and finite"),
        ("preprocess.mean", [0.5, 10**400, 0.5], "preprocess: mean[1]: is 1000"),
        ("preprocess.resize_size", 0, "preprocess: resize_size 0 and crop_size (224, 224) must be of 1 to 8192 pixels"),
        ("preprocess.resize_size", "256", 'preprocess: resize_size: is "256", not of type int'),
        ("preprocess.interpolation", "lanczos", "not one of nearest, bilinear, bicubic"),
        ("source.sha256", 5, "source: sha256: is 5, not of type str"),
        ("metrics.acc@1", "good", 'metrics[acc@1]: is "good", not of type float'),
        ("golden.logits_f32_base64", "AAAA", "golden: logits_f32_base64: 3 bytes for 2 pictures of 3 classes"),
        ("golden.logits_f32_base64", "A", "golden: logits_f32_base64: is not base64"),
        ("golden.pixels_sha256", [], "24 bytes for 0 pictures"),
        ("golden", {"contract_sha256": "", "pixels_sha256": ["a"] * 17, "logits_f32_base64": "A" * 272}, "17 pictures"),
        ("top_k", {"k": 4}, "top_k: k is 4, not from 1 to 3"),
        ("top_k", {"k": 0}, "top_k: k is 0, not from 1 to 3"),
        ("top_k", {"k": 1, "names": []}, "top_k: has an unknown field 'names'"),
        ("preprocess.input_layout", "NHWC-float", "not one of NCHW-float, NHWC-uint8"),
        ("parity", 1, "parity: is 1, not an object"),
    ],
)
def test_damage_is_named(path: str, value: object, cause: str) -> None:
    damaged = document()
    *parents, name = path.split(".")
    target = damaged
    for parent in parents:
        target = target[parent]
    target[name] = value
    with pytest.raises(ManifestError, match=re.escape(cause)):
        Manifest.from_json(json.dumps(damaged))


def test_a_newer_minor_version_may_say_more() -> None:
    newer = document() | {"manifest_version": "1.9", "surprise": 1}
    newer["preprocess"]["surprise"] = 2
    assert Manifest.from_json(json.dumps(newer)) == FULL
    del newer["arch"]
    with pytest.raises(ManifestError, match="lacks the field 'arch'"):
        Manifest.from_json(json.dumps(newer))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is not valid JSON"),
        ('{"manifest_version": "1.0", ', "is not valid JSON"),
        ("[1]", "has no readable manifest_version"),
        ('{"manifest_version": "1.' + "9" * 5000 + '"}', "has no readable manifest_version"),
        *(
            (f'{{"manifest_version": "1.2", "arch": {"[" * depth}{"]" * depth}}}', "arch: is|is not valid JSON")
            for depth in range(700, 1100, 3)
        ),
        ('{"manifest_version": "1.0", "arch": NaN}', "is not valid JSON: NaN is not JSON"),
        ("[" * 100_000, "is not valid JSON"),
        (" " * (16 * 2**20 + 1), "over the limit of 16,777,216"),
    ],
)
def test_text_that_is_no_manifest(text: str, cause: str) -> None:
    with pytest.raises(ManifestError, match=cause):
        Manifest.from_json(text)


def test_the_contract_digest_sees_labels_and_preprocess_and_nothing_else() -> None:
    digest = FULL.contract_sha256()
    swapped = dataclasses.replace(FULL, labels=("dog", "cat", "ελέφαντας"))
    renormalized = dataclasses.replace(FULL, preprocess=FULL.preprocess.replace(mean=FULL.preprocess.std))
    assert len({digest, swapped.contract_sha256(), renormalized.contract_sha256()}) == 3
    assert dataclasses.replace(FULL, metrics={}, golden=None).contract_sha256() == digest
    embedded = dataclasses.replace(FULL, preprocess=FULL.preprocess.replace(input_layout="NHWC-uint8"))
    assert embedded.contract_sha256() != digest


def test_files_of_version_1_0_have_the_digest_that_they_had() -> None:
    assert FULL.contract_sha256() == "a5e95d674e0b61b240d73132123c457a32ff148a62bd1845c5b70dbe96536a1a"


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(FULL, metrics={"loss": float("nan")}).to_json()


def test_a_manifest_in_a_file_is_named_by_the_file(models: Path, tmp_path: Path) -> None:
    onnx_file.write_metadata(models / "foreign.onnx", tmp_path / "m.onnx", key=manifest.MANIFEST_KEY, value="{}")
    with pytest.raises(ManifestError, match="m.onnx: manifest: has no readable manifest_version"):
        manifest.read(tmp_path / "m.onnx")


def test_reading_leaves_its_argument_alone() -> None:
    before = document()["preprocess"]
    given = copy.deepcopy(before)
    manifest.from_document(Preprocess, given, "x")
    assert given == before
