from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_documents import document, run, setup

import edgecls.benchmark
from edgecls.benchmark import files
from edgecls.benchmark.schema import bench_schema

SHIPPED = Path(edgecls.benchmark.__file__).with_name("bench-1.schema.json")


def test_the_shipped_schema_is_that_of_the_dataclasses() -> None:
    assert json.loads(SHIPPED.read_text()) == bench_schema(), "python -m edgecls.benchmark.schema > bench-1.schema.json"


def test_every_field_has_a_description() -> None:
    schema = bench_schema()
    for name, item in {"Document": schema, **schema["$defs"]}.items():
        undescribed = [field for field, value in item["properties"].items() if "description" not in value]
        assert undescribed == (["schema"] if name == "Document" else []), name


def test_documents_are_valid_and_others_are_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(bench_schema())
    validator = jsonschema.Draft202012Validator(bench_schema())
    raw = json.loads(files.to_json(document(run(10), run(9, setup("offline", 8)), run(0, failure="out of luck"))))
    assert list(validator.iter_errors(raw)) == []
    for change in (
        {"schema": "edgecls.bench/2"},
        {"unknown": 1},
        {"machine": None},
        {"complete": "yes"},
        {"runs": [raw["runs"][0] | {"setup": raw["runs"][0]["setup"] | {"scenario": "server"}}]},
        {"runs": [raw["runs"][0] | {"measured": {"latency_ms": [], "rounds": [], "stages_ms": {"think": []}}}]},
    ):
        assert not validator.is_valid(raw | change), change
