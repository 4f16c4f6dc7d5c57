"""``edgecls bench compare``, ``bench --baseline`` and ``bench --ab``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from drawn_documents import document, run, setup

from edgecls.benchmark import ab, files
from edgecls.benchmark.measurement import describe_model
from edgecls_runtime.golden import draw_picture

if TYPE_CHECKING:
    from conftest import Refused, Run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Documents of the same work: as quick, slower by a fifth, by a twentieth."""
    for name, times, seed in (("base", 1.0, 1), ("same", 1.0, 2), ("slower", 1.2, 3), ("doubtful", 1.05, 4)):
        files.write(document(run(400, median_ms=7 * times, seed=seed)), tmp_path / f"{name}.json")
    return tmp_path / "base.json"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(draw_picture(number)).resize((60, 45)).save(folder / f"{number}.jpg")
    return folder


@pytest.mark.parametrize(
    ("contender", "verdict", "status"),
    [("same", "pass", 0), ("slower", "regression", 1), ("doubtful", "inconclusive", 3)],
)
def test_the_exit_status_is_the_verdicts(
    in_process: Run, base: Path, contender: str, verdict: str, status: int
) -> None:
    outputs = (
        "--markdown",
        "v.md",
        "--junit",
        "v.xml",
        "--verdict-json",
        "v.json",
        "--report",
        "v.html",
        "--charts",
        "c",
    )
    done = in_process("bench", "compare", "base.json", f"{contender}.json", *outputs)
    assert done.returncode == status
    assert done.stdout.startswith(f"{verdict}: {contender}.json against base.json; up to 5 % slower is allowed\n")
    assert json.loads((base.parent / "v.json").read_text())["verdict"] == verdict
    assert (base.parent / "v.md").read_text().startswith(f"**{verdict}**: {contender}.json against base.json")
    assert ElementTree.parse(base.parent / "v.xml").getroot().tag == "testsuites"
    assert verdict in (base.parent / "v.html").read_text()
    assert list((base.parent / "c").glob("*.png"))


@pytest.mark.parametrize(("share", "status"), [("5%", 1), ("0.05", 1), ("40 %", 0), ("0.4", 0), ("0%", 1)])
def test_what_is_allowed_is_a_share(in_process: Run, base: Path, share: str, status: int) -> None:
    assert in_process("bench", "compare", "base.json", "slower.json", "--max-regression", share).returncode == status


@pytest.mark.parametrize("share", ["5", "-1%", "100%", "1", "much", "nan", "inf%", ""])
def test_what_is_no_share_is_refused(in_process: Run, base: Path, share: str) -> None:
    done = in_process("bench", "compare", "base.json", "same.json", "--max-regression", share)
    assert done.returncode == 2
    assert "say 5% or 0.05" in done.stderr or "as 5% or 0.05" in done.stderr


def test_another_machine_has_an_exit_status_of_its_own(in_process: Run, base: Path) -> None:
    other = files.read(base)
    files.write(replace(other, machine=replace(other.machine, cpu="Abacus 3")), base.parent / "other.json")
    done = in_process("bench", "compare", "base.json", "other.json", "--markdown", "v.md")
    assert done.returncode == 4
    assert done.stderr.startswith(
        "error: other.json: was measured on another machine than base.json: cpu is Abacus 3, was"
    )
    assert not (base.parent / "v.md").exists()
    done = in_process("bench", "compare", "base.json", "other.json", "--any-machine")
    assert done.returncode == 0
    assert "  - another machine: cpu is Abacus 3, was Some CPU" in done.stdout


@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (None, "bad.json: cannot be read: No such file", "Check the path"),
        ("{", "bad.json: is not valid JSON", "Measure again: edgecls bench MODEL --json FILE"),
        ('{"schema": "edgecls.bench/2"}', "its schema is 'edgecls.bench/2', not 'edgecls.bench/1'", "Give a file of"),
        ("VGG", "bad.json: measured vgg16, base.json mobilenet_v2", "Compare files of one architecture"),
        (
            "THREADS",
            "base.json: lacks a setup that bad.json has: singlestream, CPU, batch 1, 1 thread",
            "with the same",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    in_process: Run, refused: Refused, base: Path, content: str | None, cause: str, remedy: str
) -> None:
    bad, good = base.parent / "bad.json", files.read(base)
    if content == "VGG":
        files.write(replace(good, model=replace(good.model, arch="vgg16")), bad)
    elif content == "THREADS":
        files.write(document(*good.runs, run(300, setup(threads=1))), bad)
    elif content is not None:
        bad.write_text(content)
    refused(in_process("bench", "compare", "base.json", "bad.json"), cause, remedy)


def test_what_is_not_complete_says_so(in_process: Run, base: Path) -> None:
    partial = replace(files.read(base.parent / "same.json"), complete=False, failure="interrupted")
    files.write(partial, base.parent / "partial.json")
    done = in_process("bench", "compare", "base.json", "partial.json")
    assert done.returncode == 3
    assert "partial.json is not complete (interrupted): it cannot pass" in done.stdout


def test_nothing_is_overwritten(in_process: Run, refused: Refused, base: Path) -> None:
    for option in ("--markdown", "--junit", "--verdict-json", "--report"):
        done = in_process("bench", "compare", "base.json", "same.json", option, "slower.json")
        refused(done, "slower.json: exists already", "--force")
        assert done.stdout == ""
    assert in_process("bench", "compare", "base.json", "same.json", "--junit", "slower.json", "--force").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("MODEL", "--json", "x", "--report", "x"),
        ("MODEL", "--baseline", "base.json", "--json", "x", "--charts", "x"),
        ("--ab", "MODEL", "MODEL", "--json", "x", "photos/../x"),
        ("--ab", "MODEL", "MODEL", "--json", "x", "y", "--junit", "y"),
        ("compare", "base.json", "same.json", "--markdown", "x", "--junit", "x"),
        ("report", "base.json", "--output", "x", "--charts", "x"),
    ],
)
def test_two_results_in_one_file_are_refused_at_once(
    in_process: Run, base: Path, models: Path, photos: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = in_process("bench", *(models / "tiny.onnx" if word == "MODEL" else word for word in words), "--force")
    assert done.returncode == 2
    assert " is named for two results: give each a file of its own." in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_measurement_is_held_against_its_baseline(
    in_process: Run, refused: Refused, models: Path, photos: Path, tmp_path: Path
) -> None:
    quick = ("--images", photos, "--quick", "--iterations", 2, "--cold-starts", 0, "--threads", 1)
    assert in_process("bench", models / "tiny.onnx", *quick, "--json", "base.json").returncode == 0
    tiny = ("bench", models / "tiny.onnx", *quick)
    done = in_process(
        *tiny, "--baseline", "base.json", "--max-regression", "99%", "--junit", "v.xml", "--json", "now.json"
    )
    assert done.returncode == 3
    assert "2 rounds are too few for an interval" in done.stdout
    assert f"{models / 'tiny.onnx'} against base.json; up to 99 % slower is allowed" in done.stdout
    asked = {"images": str(photos), "quick": "true", "iterations": "2", "cold-starts": "0", "threads": "1"}
    assert files.read(tmp_path / "now.json").options == asked
    (case,) = ElementTree.parse(tmp_path / "v.xml").getroot().iter("testcase")
    assert case.get("name") == "singlestream, CPU, batch 1, 1 thread"

    (tmp_path / "bad.json").write_text("{")
    began = time.monotonic()
    refused(in_process(*tiny, "--baseline", "bad.json"), "bad.json: is not valid JSON", "Measure again")
    assert time.monotonic() - began < 60  # at once, not after the measurement
    done = in_process(*tiny, "--markdown", "v.md")
    assert done.returncode == 2
    assert "--markdown is about a verdict: give --baseline FILE, or leave it out." in done.stderr


def test_a_setup_that_fails_beside_a_baseline(in_process: Run, models: Path, photos: Path, tmp_path: Path) -> None:
    asked = ("--images", photos, "--iterations", 1, "--cold-starts", 0, "--batch", "1,2")
    assert in_process("bench", models / "tiny.onnx", *asked, "--json", "base.json").returncode == 0
    base = files.read(tmp_path / "base.json")
    fixed = describe_model(models / "fixed4.onnx")
    files.write(replace(base, model=fixed), tmp_path / "base.json", force=True)
    outputs = ("--verdict-json", "v.json", "--junit", "v.xml", "--report", "v.html", "--markdown", "v.md")
    done = in_process("bench", models / "fixed4.onnx", *asked, "--baseline", "base.json", *outputs)
    assert done.returncode == 1
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert (verdict["verdict"], verdict["exit_status"]) == ("inconclusive", 1)
    assert [row["failed"] for row in verdict["rows"]] == [False, True]
    assert "takes 4 pictures a run, not 2" in verdict["rows"][1]["remark"]
    assert "exit status 1" in (tmp_path / "v.html").read_text()
    assert len(list(ElementTree.parse(tmp_path / "v.xml").getroot().iter("error"))) == 1


def test_two_models_in_turn(
    in_process: Run, models: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ab, "_FIRST_LOOK", 2)  # for the sake of time; five rounds would be needed for a verdict
    outputs = ("--json", "a.json", "b.json", "--report", "v.html", "--markdown", "v.md")
    asked = ("--images", photos, "--threads", 1, "--duration", 0.1, "--max-regression", "90%")
    done = in_process("bench", "--quick", "--ab", models / "tiny.onnx", models / "multilabel.onnx", *asked, *outputs)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{models / 'multilabel.onnx'} against {models / 'tiny.onnx'}; up to 90 % slower is allowed" in done.stdout
    one, other = files.read(tmp_path / "a.json"), files.read(tmp_path / "b.json")
    assert (one.model.file, other.model.file) == ("tiny.onnx", "multilabel.onnx")
    assert one.runs[0].measured.rounds == other.runs[0].measured.rounds
    assert len(one.runs[0].measured.rounds) == 2
    assert (one.complete, one.pictures.count) == (True, 3)
    assert one.options == {"images": str(photos), "threads": "1", "duration": "0.1", "quick": "true"}
    assert (tmp_path / "v.html").exists()
    assert (tmp_path / "v.md").exists()


def test_a_model_that_cannot_run_in_turn_is_an_error(
    in_process: Run, refused: Refused, models: Path, photos: Path, tmp_path: Path
) -> None:
    done = in_process(
        "bench", "--ab", models / "foreign.onnx", models / "nan.onnx", "--images", photos, "--json", "a", "b"
    )
    refused(done, "nan.onnx: returned nan", "edgecls verify")
    assert not (tmp_path / "a").exists()
    done = in_process("bench", "--ab", models / "tiny.onnx", models / "foreign.onnx", "--images", photos)
    refused(done, "measured a model that names no architecture", "Compare files of one architecture")
    done = in_process("bench", "--ab", models / "tiny.onnx", "gone.onnx")
    refused(done, "gone.onnx: no such file", "Check the path")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--ab", "a.onnx"), "Missing argument 'MODEL_B'"),
        (("--ab", "a.onnx", "b.onnx", "c.onnx"), "unexpected extra argument (c.onnx)"),
        (("--ab", "a.onnx", "b.onnx", "--iterations", "0"), "No such option"),
        (("--ab", "a.onnx", "b.onnx", "--duration", "0"), "0.0 is not in the range"),
        (("--ab", "a.onnx", "b.onnx", "--spinning"), "--spinning would take the CPUs from the other model's turn"),
        (("--ab", "a.onnx", "b.onnx", "--scenario", "singlestream", "--batch", "4"), "leave out --batch"),
        (("compare", "a.json"), "Missing argument 'CONTENDER.json'"),
    ],
)
def test_wrong_usage(in_process: Run, words: tuple[str, ...], cause: str) -> None:
    done = in_process("bench", *words)
    assert done.returncode == 2
    assert cause in done.stderr


def test_an_interruption_keeps_the_whole_rounds(models: Path, photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgecls", "bench", "--ab", *[str(models / "tiny.onnx")] * 2]
    command += ["--images", str(photos), "--duration", "600", "--max-regression", "0%", "--json", "a.json", "b.json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A round has been made once the processes of the second are there.
    seen: set[int] = set()
    while len(seen) < 4:
        assert process.poll() is None, process.communicate()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            process.kill()
            pytest.skip("this system does not list the children of a process")
        seen.update(map(int, children.read_text().split()))
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted: what was measured until then is kept" in err
    assert "Traceback" not in err
    assert out.startswith("inconclusive: ")
    found = files.read(tmp_path / "b.json")
    assert (found.complete, found.failure) == (False, "interrupted")
    assert len(found.runs[0].measured.rounds) >= 1
