from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from edgecls_export.provenance import (
    AccuracyBudget,
    BudgetTrial,
    Calibration,
    Flip,
    Parity,
    calibration_of,
    parity_of,
    to_document,
)
from edgecls_runtime import manifest
from edgecls_runtime.errors import ManifestError
from edgecls_runtime.manifest import Manifest

PARITY = Parity(
    images=64,
    image_set="drawn",
    provider="CPUExecutionProvider",
    max_abs_diff=1e-6,
    max_abs_logit=12.5,
    min_cosine=1.0,
    top1_agreement=1.0,
    top5_agreement=1.0,
    flips=(Flip(image="a.jpg", expected="cat", got="dog", margin=0.001),),
)
CALIBRATION = Calibration(
    method="percentile",
    parameters={"percentile": 99.99},
    images=512,
    images_sha256="ab" * 32,
    image_set="photos/train",
    scheme="cpu",
    quantized_layers=53,
    budget=AccuracyBudget(
        max_drop=0.5,
        measure="acc@1",
        images=400,
        image_set="photos/val",
        fp32=96.5,
        int8=96.25,
        tried=(
            BudgetTrial(float_layers=(), score=95.0, drop=1.5),
            BudgetTrial(float_layers=("c",), score=96, drop=0.5),
        ),
    ),
)


def carrying(models: Path, **changes: Any) -> Manifest:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    return dataclasses.replace(document, **changes)


def test_what_was_recorded_is_read_from_the_file(models: Path, tmp_path: Path) -> None:
    written = carrying(models, parity=to_document(PARITY), calibration=to_document(CALIBRATION))
    manifest.write(written, models / "tiny.onnx", tmp_path / "m.onnx")
    document = manifest.read(tmp_path / "m.onnx")
    assert document == written
    assert parity_of(document) == PARITY
    assert calibration_of(document) == CALIBRATION


def test_nothing_recorded_is_nothing_read(models: Path) -> None:
    empty = carrying(models, parity=None, calibration=None)
    assert parity_of(empty) is calibration_of(empty) is None


def test_what_a_newer_export_says_besides_is_passed_over(models: Path) -> None:
    assert parity_of(carrying(models, parity=to_document(PARITY) | {"surprise": 1})) == PARITY


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"flips": [{}]}, "manifest: parity: flips[0]: lacks the field 'image'"),
        ({"images": "many"}, 'manifest: parity: images: is "many", not of type int'),
        ({"min_cosine": None}, "manifest: parity: min_cosine: is null, not of type float"),
    ],
)
def test_damage_is_named(models: Path, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(cause)):
        parity_of(carrying(models, parity=to_document(PARITY) | changes))


def test_numbers_that_json_cannot_hold_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_document(dataclasses.replace(PARITY, min_cosine=float("nan")))
