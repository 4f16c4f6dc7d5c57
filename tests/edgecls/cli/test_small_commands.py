"""verify, info, doctor, completion, --help, --version: what runs without torch."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edgecls_runtime
from edgecls_export import provenance
from edgecls_runtime import manifest
from edgecls_runtime.cpus import usable_cpus

if TYPE_CHECKING:
    from conftest import Refused, Run


def test_verify(edgecls: Run, refused: Refused, models: Path, tmp_path: Path) -> None:
    done = edgecls("verify", models / "tiny.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 4

    content = bytearray((models / "tiny.onnx").read_bytes())
    content[len(content) // 3] ^= 0x40  # one bit of one weight
    (tmp_path / "m.onnx").write_bytes(content)
    done = edgecls("verify", "m.onnx")
    assert "FAIL  graph" in done.stdout
    refused(done, "m.onnx: graph: nodes and weights are not those of the export", "Do not deploy it")

    machine = edgecls("verify", "m.onnx", "--json")
    assert machine.returncode == 1
    report = json.loads(machine.stdout)
    assert report["passed"] is False
    assert [check["name"] for check in report["checks"]] == ["graph", "contract", "pixels", "logits"]


def test_verify_wants_something_to_verify_by(edgecls: Run, refused: Refused, models: Path) -> None:
    refused(edgecls("verify", models / "foreign.onnx"), "carries no manifest", "edgecls export")


def test_info(edgecls: Run, models: Path) -> None:
    done = edgecls("info", models / "tiny.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[:11].strip(): line[12:] for line in done.stdout.splitlines()}
    assert rows["labels"] == "5: ant, bee, cat, dog, eel"
    assert rows["inputs"] == "input: float32 [batch, 3, 32, 32]"
    assert "none (not exported by edgecls)" in edgecls("info", models / "foreign.onnx").stdout


def test_info_as_json_is_the_whole_manifest(edgecls: Run, models: Path) -> None:
    facts = json.loads(edgecls("info", "--json", models / "tiny.onnx").stdout)
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    assert facts["manifest"] == json.loads(document.to_json())
    assert facts["size_bytes"] == (models / "tiny.onnx").stat().st_size
    assert json.loads(edgecls("info", "--json", models / "foreign.onnx").stdout)["manifest"] is None


def test_info_of_a_broken_file(edgecls: Run, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x0a:\xff\xff\x03")
    refused(edgecls("info", "m.onnx"), "m.onnx: is cut short", "again")


def test_doctor(edgecls: Run) -> None:
    done = edgecls("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"numpy {importlib.metadata.version('numpy')}" in done.stdout
    assert "CPUExecutionProvider" in done.stdout
    assert "self-test  cpu fp32: right: max |diff|" in done.stdout
    assert "logical CPUs usable" in done.stdout


def test_doctor_finds_the_clash_of_the_two_wheels(edgecls: Run, refused: Refused, tmp_path: Path) -> None:
    other = "onnxruntime_gpu" if importlib.util.find_spec("onnxruntime") else "onnxruntime"
    fake = tmp_path / "site" / f"{other}-1.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other.replace('_', '-')}\nVersion: 1.0\n")
    done = edgecls("doctor", environment={"PYTHONPATH": str(fake.parent)})
    refused(done, "are both installed", "pip uninstall onnxruntime onnxruntime-gpu")


@pytest.mark.parametrize("arguments", [["doctor"], ["infer", "--engine", "tiny.onnx", "photo.jpg"]])
def test_without_an_engine_one_is_told_what_to_install(
    edgecls: Run, refused: Refused, models: Path, photo: Path, arguments: list[str]
) -> None:
    (photo.parent / "tiny.onnx").write_bytes((models / "tiny.onnx").read_bytes())
    (photo.parent / "site").mkdir()
    (photo.parent / "site" / "onnxruntime.py").write_text("raise ImportError('no engine here')")
    done = edgecls(*arguments, environment={"PYTHONPATH": str(photo.parent / "site")})
    refused(done, "onnxruntime: cannot be imported (no engine here)", "pip install 'edgecls[cpu]'")


def test_version(edgecls: Run) -> None:
    assert edgecls("--version").stdout == f"edgecls, version {edgecls_runtime.__version__}\n"
    assert importlib.metadata.version("edgecls") == edgecls_runtime.__version__


def test_info_says_what_int8_cost(edgecls: Run, models: Path, tmp_path: Path) -> None:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    tried = (
        provenance.BudgetTrial(float_layers=(), score=88.0, drop=2.0),
        provenance.BudgetTrial(float_layers=("a",), score=90.5, drop=-0.5),
    )
    budget = provenance.AccuracyBudget(
        max_drop=1, measure="acc@1", images=200, image_set="val", fp32=90, int8=90.5, tried=tried
    )
    calibration = provenance.Calibration(
        method="percentile",
        parameters={"percentile": 99.999},
        images=512,
        images_sha256="0" * 64,
        image_set="train",
        scheme="cpu",
        quantized_layers=3,
        budget=budget,
    )
    layers = tuple(f"layer{number}: was asked for" for number in range(20))
    changed = dataclasses.replace(
        document, precision="int8", calibration=provenance.to_document(calibration), float_layers=layers
    )
    manifest.write(changed, models / "tiny.onnx", tmp_path / "m.onnx")
    lines = edgecls("info", "m.onnx").stdout.splitlines()
    first = lines.index("calibration percentile 99.999 on 512 pictures (train); 3 layers in integers (cpu)")
    assert lines[first + 1 : first + 6] == [
        "budget      acc@1 90.00 -> 90.50 % on 200 pictures (val), allowed drop 1, 2 tried",
        "            tried   0 layers in float: 88.00 % (drop +2.00)",
        "            tried   1 layers in float: 90.50 % (drop -0.50)",
        "in float32  20 nodes",
        "            layer0: was asked for",
    ]
    assert "            ... and 8 more: --json" in lines
    assert json.loads(edgecls("info", "m.onnx", "--json").stdout)["manifest"]["float_layers"] == list(layers)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(edgecls: Run, shell: str) -> None:
    done = edgecls("completion", shell)
    assert done.returncode == 0
    assert "_EDGECLS_COMPLETE" in done.stdout


def test_completion_completes(edgecls: Run) -> None:
    done = edgecls(environment={"_EDGECLS_COMPLETE": "bash_complete", "COMP_WORDS": "edgecls inf", "COMP_CWORD": "1"})
    assert set(done.stdout.split()) == {"plain,infer", "plain,info"}


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from edgecls.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "click" in loaded
    assert {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "PIL"}.isdisjoint(loaded)


@pytest.mark.parametrize("arguments", [["export", "alexnet"], ["summary", "alexnet"], ["models"]])
def test_without_torch_training_commands_say_how_to_get_it(
    edgecls: Run, refused: Refused, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "torch.py").write_text("raise ImportError('no torch here', name='torch')")
    done = edgecls(*arguments, environment={"PYTHONPATH": str(tmp_path / "site")})
    refused(done, "this command needs the package torch", "pip install 'edgecls[train,cpu]'")


@pytest.mark.skipif("EDGECLS_RUNTIME_ALONE" not in os.environ, reason="for `make test-runtime-alone`")
def test_nothing_but_the_runtimes_own_dependencies_is_here() -> None:
    direct = {"numpy", "pillow", "click", "onnxruntime", "edgecls"}
    engines_own = {"flatbuffers", "packaging", "protobuf", "coloredlogs", "humanfriendly", "sympy", "mpmath"}
    test_tools = {"pytest", "pytest-timeout", "iniconfig", "pluggy", "pygments"}
    here = {item.metadata["Name"].lower() for item in importlib.metadata.distributions()}
    assert here - {"pip", "setuptools"} <= direct | engines_own | test_tools
    assert direct <= here


@pytest.mark.skipif("EDGECLS_RUNTIME_ALONE" not in os.environ, reason="for `make test-runtime-alone`")
def test_the_oldest_versions_that_are_allowed_are_here() -> None:
    bounds = [
        requirement.partition(";")[0].strip().split(">=")
        for requirement in importlib.metadata.requires("edgecls") or ()
        if "extra ==" not in requirement or "extra == 'cpu'" in requirement
    ]
    assert sorted(name for name, _ in bounds) == ["click", "numpy", "onnxruntime", "pillow"]
    assert {name: importlib.metadata.version(name) for name, _ in bounds} == {
        name: f"{oldest}.0" for name, oldest in bounds
    }


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "MODEL"], ["infer", "--engine", "MODEL", "photo.jpg", "--format", "json"]]
)
def test_a_full_standard_output_is_named(models: Path, photo: Path, arguments: list[str], buffered: str) -> None:
    command = [sys.executable, "-m", "edgecls", *arguments]
    command = [str(models / "tiny.onnx") if word == "MODEL" else word for word in command]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=photo.parent,
            env=os.environ | {"PYTHONUNBUFFERED": buffered},
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: standard output: the disk is full\n       Free some space, or write elsewhere.\n"


def test_what_the_system_refuses_is_no_traceback(
    in_process: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "photos")

    monkeypatch.setattr("edgecls.data.find_samples", refuse)
    refused(in_process("data", "check", "photos"), "photos: Permission denied", "Check the path")


@pytest.mark.parametrize(
    ("command", "within"),
    [
        (["verify"], "edgecls_runtime.golden.verify"),
        (["infer", "photo.jpg", "--engine"], "edgecls.cli.pictures.Pictures.__init__"),
    ],
)
def test_ctrl_c_is_130(
    in_process: Run, models: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], within: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(within, interrupt)
    done = in_process(*command, models / "tiny.onnx")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_too_little_memory_is_named(in_process: Run, refused: Refused, models: Path, photo: Path) -> None:
    (photo.parent / "second.jpg").write_bytes(photo.read_bytes())
    arguments = ("infer", "--engine", models / "tiny.onnx", "photo.jpg", "second.jpg")
    refused(
        in_process(*arguments, "--batch-size", 10**10),
        "not enough memory: Unable to allocate 112. TiB",
        "a smaller --batch-size",
    )


@pytest.mark.parametrize("command", [["infer", "photo.jpg", "--engine"], ["tune"], ["bench"]])
def test_a_slip_of_the_pen_makes_no_million_threads(in_process: Run, command: list[str]) -> None:
    done = in_process(*command, "none.onnx", "--threads", 999999)
    assert done.returncode == 2
    most = max(64, 8 * usable_cpus())
    assert f"999999 is more than {most}, and this process may use {usable_cpus()} CPUs" in " ".join(done.stderr.split())
