"""``edgecls train``, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch", reason="training needs torch; elsewhere the command says so (test_small_commands.py)")

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]
Draw = Callable[..., Path]

QUICK = ["--arch", "mobilenet_v3_small", "--weights", "none", "--image-size", 32, "--workers", 0, "--batch-size", 8]
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def test_from_a_folder_of_pictures_to_labels_on_a_picture(
    edgecls: Run, in_process: Run, colours: Draw, tmp_path: Path
) -> None:
    """The whole way, as the README has it: train, look, export, infer, evaluate."""
    data = colours()
    options = ["--epochs", 8, "--lr", 3e-3, "--backbone-lr-factor", 1, "--batchnorm-momentum", 0.3, "--augment"]
    done = edgecls("train", data, *QUICK, *options, "light", environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "mobilenet_v3_small"
    lines = done.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 8  # no bar where nobody sees it
    assert done.stderr == ""
    assert any(line.split() == ["0", "blue", "12", "6"] for line in lines)
    assert lines[-1].endswith(f"edgecls export {run.relative_to(tmp_path)}/best.pt")
    assert {path.name for path in run.iterdir()} - {"worst_mistakes.png"} == {  # that one if there are any
        *("config.json", "data.json", "evaluation.json", "metrics.jsonl", "best.pt", "last.pt", "resume.pt"),
        *("first_batch.png", "curves.png", "confusion_matrix.png", "predictions.png"),
    }
    done = in_process("export", run / "best.pt", "--output", "colours.onnx")
    assert done.returncode == 0, done.stderr
    done = edgecls("infer", "--engine", "colours.onnx", data / "val", "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    right = [record["predictions"][0]["label"] == Path(record["image"]).parent.name for record in records]
    assert len(right) == 18
    # How many exactly depends on the CPU, whose vector units round each in their own way, 32 steps long.
    assert 100 * sum(right) / 18 == pytest.approx(json.loads((run / "evaluation.json").read_text())["metrics"]["acc@1"])
    assert sum(right) >= 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_training_goes_on(
    edgecls: Run, colours: Draw, tmp_path: Path, number: signal.Signals
) -> None:
    """The signal goes to the loader process, too, as a terminal's Ctrl-C and a service manager's stop do."""
    data = colours(train=100, val=3)
    command = [sys.executable, "-m", "edgecls", "train", data, *QUICK, "--epochs", 2, "-o", "run", "--workers", 1]
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "first_batch.png").exists() or not (tmp_path / "run" / "resume.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert f"stopped by {number.name} after 0 whole epochs" in stderr
    assert "edgecls train --resume run" in stderr
    assert "Traceback" not in stderr
    done = edgecls("train", "--resume", "run", environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "going on with epoch 1, step" in done.stdout
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 2


def test_wrong_usage_is_status_2(in_process: Run, tmp_path: Path) -> None:
    for arguments, said in (
        ([], "Give DATA to train on, or --resume RUN"),
        (["data", "--resume", "run"], "Give DATA to train on, or --resume RUN"),
        (["--resume", "run", "--lr", "0.1"], "--lr: --resume goes on as RUN was told"),
        (["data", "--mean", "a,b,c"], "neither auto nor one or three numbers"),
        (["data", "--unfreeze-after", "2"], "there is nothing frozen"),
        (["data", "--distillation", "0.3"], "there is no teacher"),
        (["data", "--preprocess", "imagenet", "--image-size", "64"], "both say the size"),
        (["data", "--augment", "wild"], "'wild' is not one of"),
        (["data", "--epochs", "0"], "0 is not in the range"),
        (["data", "--warmup-epochs", "nan"], "'--warmup-epochs': 'nan' is not a finite number"),
        (["data", "--label-smoothing", "nan"], "'--label-smoothing': 'nan' is not a finite number"),
        (["data", "--lr", "inf"], "'--lr': 'inf' is not a finite number"),
        (["data", "--std", "0"], "std (0.0, 0.0, 0.0) must be positive"),
        (["data", "--mean", "0,nan,0"], "mean (0.0, nan, 0.0) must be finite"),
        (["data", "--image-size", "7169"], "7169 is not in the range"),
        (["data", "--seed", 2**64], f"{2**64} is not in the range"),
    ):
        done = in_process("train", *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert said in done.stderr, arguments
        assert "Traceback" not in done.stderr


def test_what_cannot_be_trained_on_is_refused_and_nothing_is_left(
    in_process: Run, refused: Refused, colours: Draw, tmp_path: Path
) -> None:
    data = colours()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no weights")
    listed = "\n".join(f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(data.rglob("*.png")))
    (tmp_path / "typo.csv").write_text(f"path,label\n{listed}\ncolours/train/red/000.png,gren\n")
    for arguments, cause, remedy in (
        (["absent"], "absent: no such folder or file", "Check the path"),
        (["empty"], "empty: no pictures to learn from", "folder of pictures for each class"),
        ([data / "train"], "no val split to measure on", "--val-split"),
        (
            ["typo.csv", "--val-split", 0.2],
            "typo.csv:56: label 'gren' occurs 1 times, and 'green' 18 times",
            "--labels",
        ),
        ([data, "--weights", "text.pt"], "text.pt: is not a file of torch.save", "state dict"),
        ([data, "--weights", "absent.pt"], "absent.pt: no such file", "Check the path"),
        ([data, "--arch", "mobilenet_v9"], "'mobilenet_v9' is not an architecture", "edgecls models --all"),
        ([data, "--device", "mps"], "device mps", "cpu"),
        ([data, "--amp", "fp16"], "amp fp16: not on cpu", "bf16"),
        ([data, "--output", "text.pt"], "text.pt: is a file", "--output"),
        (["absent", "--output", "text.pt/run"], "text.pt/run: cannot be made: ", "--output"),
        ([data, "--teacher", "absent.pt"], "absent.pt: no such file", "Check the path"),
        (["--resume", "empty"], "empty: is no run folder", "edgecls train"),
    ):
        quick = [] if "--resume" in arguments else QUICK
        refused(in_process("train", *quick, *arguments), cause, remedy)
        assert not (tmp_path / "runs").exists(), arguments


def test_weights_of_another_architecture_are_refused(
    in_process: Run, refused: Refused, colours: Draw, tmp_path: Path
) -> None:
    data = colours()
    done = in_process("train", data, *QUICK, "--epochs", 1, "--output", "first")
    assert done.returncode == 0, done.stderr
    refused(
        in_process("train", data, "--arch", "alexnet", "--weights", "first/best.pt", "--output", "second"),
        "first/best.pt: is a checkpoint of mobilenet_v3_small, not of alexnet",
        "Use mobilenet_v3_small",
    )
    refused(
        in_process("train", data, *QUICK, "--output", "first"),
        "first: exists already",
        "edgecls train --resume first",
    )
    assert not (tmp_path / "second").exists()


def test_the_machine_may_change_when_a_training_goes_on(
    in_process: Run, refused: Refused, colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecls.training import loop

    done = in_process("train", colours(), *QUICK, "--epochs", 1, "--output", "run")
    assert done.returncode == 0, done.stderr
    asked: list[int] = []
    monkeypatch.setattr(loop, "prepare", lambda config, *_, **__: asked.append(config.workers) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_process("train", "--resume", "run", "--workers", 3, "--device", "cpu")
    assert asked == [3]
    refused(in_process("train", "--resume", "run", "--device", "mps"), "device mps", "cpu")
    for option in (["--output", "other"], ["--epochs", 5], ["--no-flip"]):
        assert in_process("train", "--resume", "run", *option).returncode == 2


def test_a_picture_that_is_too_large_is_said_in_our_words_alone(edgecls: Run, colours: Draw) -> None:
    data = colours()
    Image.new("1", (9500, 9500)).save(data / "train" / "red" / "large.png")
    done = edgecls("train", data, *QUICK, "--strict")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "large.png: 9500x9500 is 90,250,000 pixels, over the limit" in done.stderr


def test_tensorboard_is_asked_for_before_anything_else(in_process: Run, refused: Refused, colours: Draw) -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        done = in_process("train", colours(), *QUICK, "--tensorboard")
        refused(done, "needs the package tensorboard", "pip install tensorboard")
    else:
        done = in_process("train", colours(), *QUICK, "--tensorboard", "-o", "run")
        assert done.returncode == 0, done.stderr
