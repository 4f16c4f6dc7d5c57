from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark import files
from edgecls_runtime.errors import BenchmarkError, OutputError

DOCUMENT = document(run(50), run(20, setup("offline", 8)), run(0, failure="out of luck"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    files.write(DOCUMENT, tmp_path / "a.json")
    assert files.read(tmp_path / "a.json") == DOCUMENT
    with pytest.raises(OutputError, match="exists already"):
        files.write(DOCUMENT, tmp_path / "a.json")
    files.write(document(run(3)), tmp_path / "a.json", force=True)
    assert len(files.read(tmp_path / "a.json").runs) == 1


def changed(change: Any) -> str:
    raw = json.loads(files.to_json(DOCUMENT))
    change(raw)
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda raw: raw.update(schema="edgecls.bench/2"), "its schema is 'edgecls.bench/2', not 'edgecls.bench/1'"),
        (lambda raw: raw.pop("schema"), "its schema is None"),
        (lambda raw: raw.pop("machine"), "lacks the field 'machine'"),
        (lambda raw: raw.update(speed=3), "unknown field 'speed'"),
        (lambda raw: raw["runs"][0].update(pictures="many"), 'runs[0]: pictures: is "many", not of type int'),
        (lambda raw: raw["runs"][0].update(doubts="none"), "runs[0]: doubts"),
        (lambda raw: raw["runs"][1]["setup"].update(scenario="server"), 'setup: scenario: is "server"'),
        (lambda raw: raw["runs"][0]["measured"]["rounds"].append(1), "rounds are"),
        (lambda raw: raw["runs"][0]["measured"]["rounds"].append(0), "rounds are"),
        (
            lambda raw: raw["runs"][0]["measured"]["latency_ms"].__setitem__(3, 0.0),
            "latency_ms: 0 ms is no latency",
        ),
        (
            lambda raw: raw["runs"][0]["measured"]["latency_ms"].__setitem__(3, -1.0),
            "latency_ms: -1.0 is not between 0 and 1e+09",
        ),
        (lambda raw: raw["runs"][0]["measured"]["stages_ms"]["run"].__setitem__(0, 1e300), "stage run: 1e+300 is not"),
        (lambda raw: raw["runs"][0].update(seconds=10**400), "seconds: is 1000"),
        (lambda raw: raw["runs"][0].update(seconds=1e-300), "50 pictures in 1e-300 s are more than any machine"),
        (lambda raw: raw["runs"][0].update(seconds=-1), "seconds: -1.0 is not between"),
        (lambda raw: raw["runs"][0].update(pictures=10**400), "numbers: 1000"),
        (lambda raw: raw["cold_starts"][0].update(load_ms=-1), "cold_starts[0]: the times: -1.0 is not"),
        (lambda raw: raw["model"].update(bytes=-1), "model: bytes: -1 is not"),
        (lambda raw: raw["pictures"].update(count=10**20), "pictures: count and bytes: 100000000000000000000 is not"),
        (lambda raw: raw["runs"][0]["measured"]["stages_ms"]["run"].pop(), "stage 'run' has 49 samples"),
        (lambda raw: raw["runs"][0]["measured"]["stages_ms"].update(think=[]), "stage 'think'"),
        (lambda raw: raw["machine"].update(cpu="\x1b[2J"), "holds a control character"),
        (lambda raw: raw["options"].update({"a\nb": "1"}), "holds a control character"),
    ],
)
def test_what_is_no_document_of_ours_is_refused(change: Any, cause: str) -> None:
    with pytest.raises(BenchmarkError) as raised:
        files.from_json(changed(change), where="base.json")
    assert raised.value.cause.startswith("base.json: ")
    assert cause in raised.value.cause
    assert "\n" not in raised.value.cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (files.to_json(DOCUMENT)[:-5000], "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[1, 2]", "is not a benchmark: its schema is None"),
        ('{"schema": {}}', "its schema is {}"),
        ("[" * 100_000, "is not valid JSON"),
        (changed(lambda raw: None).replace('"pictures": 50', '"pictures": NaN'), "NaN is no finite number"),
        (changed(lambda raw: None).replace('"cpu_quota": 2.5', '"cpu_quota": 1e999'), "1e999 is no finite number"),
    ],
)
def test_what_is_no_json_is_refused(text: str, cause: str) -> None:
    with pytest.raises(BenchmarkError) as raised:
        files.from_json(text, where="base.json")
    assert cause in raised.value.cause


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchmarkError, match="No such file"):
        files.read(tmp_path / "missing.json")
    with pytest.raises(BenchmarkError, match="Is a directory"):
        files.read(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"schema": "caf\xe9"}')
    with pytest.raises(BenchmarkError, match="is not UTF-8"):
        files.read(tmp_path / "latin.json")
    files.write(DOCUMENT, tmp_path / "large.json")
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(BenchmarkError, match="larger than 1,000 bytes"):
        files.read(tmp_path / "large.json")


def test_a_field_with_a_default_may_be_missing() -> None:
    read = files.from_json(changed(lambda raw: raw["runs"][0].pop("doubts")), where="old.json")
    assert read.runs[0].doubts == ()
