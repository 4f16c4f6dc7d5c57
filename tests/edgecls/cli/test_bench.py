from __future__ import annotations

import dataclasses
import importlib.resources
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgecls_runtime.golden import draw_picture

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(draw_picture(number)).resize((60, 45)).save(folder / f"{number}.jpg")
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_a_model_is_measured_and_everything_is_written(
    edgecls: Run, models: Path, photos: Path, tmp_path: Path
) -> None:
    asked = ("--batch", "1,2", "--threads", "1", "--iterations", 2, "--duration", 60, "--cold-starts", 1, "--quick")
    pages = ("--report", "out.html", "--charts", "charts")
    done = edgecls("bench", models / "tiny.onnx", "--images", photos, *asked, "--json", "out.json", *pages)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny.onnx: tiny fp32, 0.0 MB, SHA-256 ")
    assert "\nsinglestream, CPU, batch 1, 1 thread (onnxruntime " in done.stdout
    assert "\nmultistream, CPU, batch 2, 1 thread (onnxruntime " in done.stdout
    assert "  2 queries of 2 pictures in 2 rounds, " in done.stdout
    assert "\ncold start, p50 of 1 process\n" in done.stdout
    assert "2 queries are too few for p90" in done.stdout
    document = read(tmp_path / "out.json")
    assert document["schema"] == "edgecls.bench/1"
    assert document["complete"] is True
    assert document["pictures"]["count"] == 3
    assert document["options"] == {
        "batch": "1,2",
        "threads": "1",
        "iterations": "2",
        "duration": "60.0",
        "cold-starts": "1",
        "quick": "true",
        "images": str(photos),
    }
    assert [run["measured"]["rounds"] for run in document["runs"]] == [[1, 1], [1, 1]]
    assert (tmp_path / "out.html").read_text("utf-8").lower().startswith("<!doctype html>")
    assert list((tmp_path / "charts").glob("*.png"))
    assert "Traceback" not in done.stderr


def test_drawn_pictures_and_a_foreign_model(
    edgecls: Run, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"  # its own: another program's may hold what that one left
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    asked = ("--scenario", "offline", "--iterations", 1, "--cold-starts", 0, "--no-spinning", "--json", "out.json")
    done = edgecls("bench", models / "foreign.onnx", *asked)
    assert done.returncode == 0, done.stderr
    assert "foreign.onnx: no manifest, " in done.stdout
    assert "192 pictures drawn by edgecls" in done.stdout
    assert "offline, CPU, batch 4, 1 thread" in done.stdout
    assert "note: " in done.stderr
    assert "no preprocess given: ImageNet's assumed" in done.stderr
    assert read(tmp_path / "out.json")["options"]["no-spinning"] == "true"
    assert not list(temporary.glob("edgecls-bench-*"))


def test_a_model_that_fails_midway_leaves_what_there_is(
    edgecls: Run, models: Path, photos: Path, tmp_path: Path
) -> None:
    # One setup runs, the other asks a file that takes four pictures a run for two.
    asked = ("--batch", "1,2", "--images", photos, "--iterations", 1, "--cold-starts", 0)
    done = edgecls("bench", models / "fixed4.onnx", *asked, "--json", "out.json")
    assert done.returncode == 1
    assert "failed: " in done.stdout
    assert "takes 4 pictures a run, not 2" in done.stdout
    assert done.stdout.endswith("NOT COMPLETE: 1 of 2 setups failed\n")
    assert done.stderr.endswith("error: not everything could be measured\n")
    document = read(tmp_path / "out.json")
    assert document["complete"] is False
    assert [len(run["measured"]["latency_ms"]) for run in document["runs"]] == [1, 0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_what_cannot_be_printed_is_written_all_the_same(models: Path, photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgecls", "bench", models / "tiny.onnx", "--images", photos, "--iterations", "1"]
    command += ["--cold-starts", "0", "--json", "out.json", "--report", "out.html"]
    with open("/dev/full", "w") as full:
        subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.DEVNULL, check=False)
    assert read(tmp_path / "out.json")["complete"] is True
    assert (tmp_path / "out.html").exists()


def test_what_cannot_be_written_is_printed_all_the_same(
    in_process: Run, models: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecls.benchmark import files
    from edgecls_runtime.errors import OutputError

    def full(*_: object, **__: object) -> None:
        raise OutputError("out.json: the disk is full", "Free some space.")

    monkeypatch.setattr(files, "write", full)
    asked = ("--images", photos, "--iterations", 1, "--cold-starts", 0, "--json", "out.json")
    done = in_process("bench", models / "tiny.onnx", *asked)
    assert (done.returncode, done.stdout.partition(":")[0]) == (1, "tiny.onnx")


def test_a_model_that_does_not_run_leaves_nothing(
    edgecls: Run, models: Path, photos: Path, refused: Refused, tmp_path: Path
) -> None:
    asked = ("--images", photos, "--iterations", 2, "--cold-starts", 0, "--json", "out.json")
    done = edgecls("bench", models / "nan.onnx", *asked)
    refused(done, "nan.onnx: returned nan on CPUExecutionProvider", "edgecls verify")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["missing.onnx"], "missing.onnx: no such file", "path"),
        (["MODEL", "--json", "there.json"], "there.json: exists already", "--force"),
        (["MODEL", "--json", "no/where.json"], "the folder no does not exist", "mkdir"),
        (["MODEL", "--report", "there.json"], "there.json: exists already", "--force"),
        (["MODEL", "--charts", "there.json"], "there.json", ""),
        (["MODEL", "--images", "nowhere"], "nowhere: is not a folder", "--images DIR"),
        (["MODEL", "--images", "."], ".: no pictures there", "folder"),
        (["MODEL", "--provider", "openvino", "--spinning", "--images", "photos"], "has no setting spinning", "cpu"),
        (["./compare"], "compare: ", ""),
        (["report", "there.json", "-o", "x.html"], "there.json: is not a benchmark", "edgecls bench --json"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    in_process: Run,
    models: Path,
    photos: Path,
    tmp_path: Path,
    refused: Refused,
    arguments: list[str],
    cause: str,
    remedy: str,
) -> None:
    (tmp_path / "there.json").write_text("{}")
    if arguments[-1] == ".":
        photos.rename(tmp_path.with_name(f"{tmp_path.name}-photos"))
    given = [str(models / "tiny.onnx") if word == "MODEL" else word for word in arguments]
    refused(in_process("bench", *given), cause, remedy)
    assert (tmp_path / "there.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["m.onnx", "--iterations", "0"], "0 is not in the range"),
        (["m.onnx", "--duration", "0"], "0"),
        (["m.onnx", "--duration", "-3"], "-3"),
        (["m.onnx", "--duration", "nan"], "nan"),
        (["m.onnx", "--batch", "1,0"], "0 is not in the range"),
        (["m.onnx", "--batch", "8,10000000"], "10000000 is not in the range 1<=x<=4096"),
        (["m.onnx", "--threads", "1025"], "1025 is more than "),
        (["m.onnx", "--batch", "1,x"], "'x' is not a valid int"),
        (["m.onnx", "--batch", ""], "'' is not a valid int"),
        (["m.onnx", "--threads", "2,2"], "'2,2' names one twice"),
        (["m.onnx", "--provider", "cpu,gpu"], "'gpu' is not one of"),
        (["m.onnx", "--scenario", "server"], "'server' is not one of"),
        (["m.onnx", "--scenario", "singlestream", "--batch", "8"], "leave out --batch"),
        (["m.onnx", "other.onnx"], "unexpected extra argument"),
        (["--quick"], "MODEL"),
        (["m.onnx", "--speed"], "No such option"),
    ],
)
def test_wrong_usage(in_process: Run, arguments: list[str], said: str) -> None:
    done = in_process("bench", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("Usage: edgecls bench ")


def test_the_command_and_those_beneath_it_have_help(in_process: Run) -> None:
    done = in_process("bench", "--help")
    assert done.returncode == 0
    assert "Usage: edgecls bench [OPTIONS] " in done.stdout
    assert "--iterations" in done.stdout
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Setups:", "How long:", "Verdict:", "Results:", "Other:", "Commands:"]
    for name in ("compare", "report"):
        assert f"  {name} " in done.stdout
        assert f"Usage: edgecls bench {name} " in in_process("bench", name, "--help").stdout
    assert in_process("bench").returncode == 2


def test_a_file_of_a_commands_name_is_measured_by_its_path(
    in_process: Run, models: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "compare").write_bytes((models / "tiny.onnx").read_bytes())
    done = in_process("bench", "./compare", "--images", photos, "--iterations", 1, "--cold-starts", 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("compare: tiny fp32")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_keeps_what_there_is(
    number: signal.Signals, status: int, models: Path, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "edgecls", "bench", models / "tiny.onnx", "--images", photos]
    command += ["--duration", "600", "--cold-starts", "0", "--json", "out.json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            for _ in range(600):  # until the process that measures is at work
                time.sleep(0.1)
                if children(process.pid):
                    break
            time.sleep(3)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status, err
    assert "Traceback" not in err
    if "nothing was measured" in err:  # a machine so busy that no query was answered in 3 s
        assert not (tmp_path / "out.json").exists()
        return
    assert out.endswith("NOT COMPLETE: interrupted\n")
    document = read(tmp_path / "out.json")
    assert (document["complete"], document["failure"]) == (False, "interrupted")
    assert document["runs"][0]["measured"]["latency_ms"]


def children(pid: int) -> list[str]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_the_schema_is_shipped() -> None:
    text = (importlib.resources.files("edgecls.benchmark") / "bench-1.schema.json").read_text("utf-8")
    assert json.loads(text)["title"] == "edgecls.bench/1"


def test_nothing_of_it_imports_torch(models: Path, photos: Path) -> None:
    code = (
        "import sys; from edgecls.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'onnx', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    asked = ["bench", str(models / "tiny.onnx"), "--images", str(photos), "--iterations", "1", "--cold-starts", "0"]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_needs_no_numpy() -> None:
    code = (
        "import sys; from edgecls.cli import cli\n"
        "cli.main(['bench', '--help'], standalone_mode=False)\n"
        "assert not {'numpy', 'PIL', 'subprocess'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changed", "status", "cause"),
    [
        ({}, 4, "tiny.onnx: was measured on another machine than base.json: cpu is "),
        ({"here": True}, 1, "tiny.onnx: measured tiny, base.json mobilenet_v2"),
        ({"here": True, "arch": "tiny"}, 1, "was measured on other pictures than base.json"),
        ({"here": True, "arch": "tiny", "alike": True}, 1, "tiny.onnx: lacks a setup that base.json has: singlestream"),
        ({"text": "{"}, 1, "base.json: is not valid JSON"),
        (
            {"text": '{"schema": "edgecls.bench/2"}'},
            1,
            "base.json: is not a benchmark: its schema is 'edgecls.bench/2'",
        ),
    ],
)
def test_a_baseline_that_fits_nothing_is_refused_before_anything_is_measured(
    in_process: Run,
    models: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    status: int,
    cause: str,
) -> None:
    from drawn_documents import document, run

    from edgecls.benchmark import files, measurement
    from edgecls.benchmark.fingerprint import this_fingerprint
    from edgecls.benchmark.picture_sets import open_pictures

    base = document(run(40))
    if "alike" in changed:
        with open_pictures(photos) as found:
            base = dataclasses.replace(base, pictures=found.description)
    if "here" in changed:
        base = dataclasses.replace(base, machine=this_fingerprint())
    base = dataclasses.replace(base, model=dataclasses.replace(base.model, arch=changed.get("arch", base.model.arch)))
    (tmp_path / "base.json").write_text(changed.get("text", files.to_json(base)))
    monkeypatch.setattr(measurement.Measurement, "run", lambda *_: pytest.fail("measured"))
    done = in_process("bench", models / "tiny.onnx", "--images", photos, "--baseline", "base.json")
    assert done.returncode == status, done.stderr
    assert cause in done.stderr
    assert len(done.stderr.splitlines()) == 2
