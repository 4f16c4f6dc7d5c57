from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch

from edgecls import checkpoint, models
from edgecls.checkpoint import Checkpoint
from edgecls.training.augmentation import PRESETS
from edgecls.training.config import TrainingConfig
from edgecls.training.run_folder import RunFolder
from edgecls_runtime.errors import OutputError, TrainingError
from edgecls_runtime.preprocess import Preprocess

CONFIG = TrainingConfig(data="pictures", arch="mobilenet_v2")

OTHERS = {
    "data": "Bilder/Käfer \udce4",  # the name of a folder need not be valid UTF-8
    "arch": "alexnet",
    "weights": "none",
    "task": "multilabel",
    "labels_from": "name",
    "val_split": 0.25,
    "labels": ("Käfer", "b"),
    "strict": True,
    "allow_duplicates": True,
    "preprocess": Preprocess(resize_size=(40, 50), crop_size=(32, 48), color="BGR", mean=(0.1, 0.2, 0.3)),
    "mean": "auto",
    "std": (0.25, 0.5, 1.0),
    "augmentation": dataclasses.replace(PRESETS["strong"], flip=0.0),
    "epochs": 3,
    "batch_size": 12,
    "accumulate": 2,
    "freeze": "features",
    "unfreeze_after": 2,
    "optimizer": "rmsprop",
    "lr": 1e-7,
    "backbone_lr_factor": 1.0,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "schedule": "step",
    "warmup_epochs": 0.5,
    "step_epochs": 2.0,
    "step_gamma": 1 / 3,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "distillation": 0.7,
    "temperature": 4.0,
    "class_weights": "balanced",
    "balanced_sampling": True,
    "dropout": 0.0,
    "batchnorm_momentum": 0.01,
    "ema": 0.999,
    "teacher": "teacher.pt",
    "patience": 3,
    "save_every": 10,
    "seed": 7,
    "deterministic": True,
    "device": "cpu",
    "amp": "bf16",
    "channels_last": False,
    "compile": True,
    "sync_batchnorm": True,
    "workers": 0,
    "tensorboard": True,
}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    run = RunFolder(tmp_path / "runs" / "first")
    run.begin(CONFIG)
    return run


def test_every_field_of_a_config_comes_back(tmp_path):
    config = TrainingConfig(**OTHERS)
    untouched = {item.name for item in dataclasses.fields(config) if getattr(config, item.name) == item.default}
    assert untouched == {"image_size"}  # goes with preprocess None alone
    run = RunFolder(tmp_path / "run")
    run.begin(config)
    assert run.config() == config
    sized = TrainingConfig(data="a", arch="b", image_size=96)
    other = RunFolder(tmp_path / "other")
    other.begin(sized)
    assert other.config() == sized


def test_a_config_is_read_by_people_too(run):
    text = (run.path / "config.json").read_text("utf-8")
    assert json.loads(text)["augmentation"]["name"] == "standard"
    assert text.splitlines()[1] == '  "data": "pictures",'
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"accumulate": 0}, "accumulate 0"),
        ({"unfreeze_after": 2}, "there is nothing frozen"),
        ({"distillation": 0.7}, "there is no teacher"),
        ({"image_size": 64, "preprocess": Preprocess()}, "both say the size"),
        ({"ema": float("nan")}, "ema is nan, not a finite number"),
        ({"warmup_epochs": float("inf")}, "warmup_epochs is inf, not a finite number"),
        ({"mean": "auto", "std": (0.5, -1.0, 0.5)}, "std .* must be positive"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(data="a", arch="b", **wrong)


# --- a new folder ---


def test_an_empty_folder_will_do(tmp_path):
    RunFolder(tmp_path).begin(CONFIG)
    assert RunFolder(str(tmp_path)).config() == CONFIG


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already") as caught:
        RunFolder(tmp_path).begin(CONFIG)
    assert "--resume" not in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_training_that_can_go_on_is_not_begun_again(run):
    run.save_state({"epoch": 1})
    with pytest.raises(OutputError, match="exists already") as caught:
        run.begin(CONFIG)
    assert f"edgecls train --resume {run.path}" in caught.value.remedy


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="run: is a file"):
        RunFolder(tmp_path / "run").begin(CONFIG)
    with pytest.raises(OutputError, match="run/deeper: cannot be made: .*run is a file"):
        RunFolder(tmp_path / "run" / "deeper").check_new()


# --- a damaged config ---


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "config.json: is not valid JSON"),
        ('{"data": "pictures", "arch"', "config.json: is not valid JSON"),
        ("[]", r"config.json: is \[\], not an object"),
        ('{"data": "pictures"}', "config.json: lacks the field 'arch'"),
        ('{"data": "a", "arch": "b", "colour": 1}', "config.json: has an unknown field 'colour'"),
        ('{"data": "a", "arch": "b", "epochs": "many"}', 'config.json: epochs: is "many", not of type int'),
        ('{"data": "a", "arch": "b", "task": "detect"}', 'config.json: task: is "detect"'),
        ('{"data": "a", "arch": "b", "epochs": 0}', "config.json: epochs 0"),
        ('{"data": "a", "arch": "b", "augmentation": {"flip": 3}}', "config.json: augmentation: flip 3"),
        ("\xff", "config.json: is not valid JSON"),
        ("[" * 100_000, "config.json: is not valid JSON"),
    ],
)
def test_a_damaged_config_is_refused(run, text, cause):
    (run.path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(TrainingError, match=cause) as caught:
        run.config()
    assert "rain again" in caught.value.remedy


def test_a_folder_without_a_config_is_no_run_folder(tmp_path):
    with pytest.raises(TrainingError, match=r"is no run folder: config.json cannot be read \(No such file") as caught:
        RunFolder(tmp_path).config()
    assert caught.value.remedy == "Name the folder that edgecls train wrote."


# --- what is needed to go on ---


def test_a_state_comes_back(run):
    generator = torch.Generator().manual_seed(3)
    state = {
        "epoch": 3,
        "best": 0.97,
        "history": [{"epoch": 1, "loss": 0.5}],
        "model": {"weight": torch.rand(4, 3), "counter": torch.tensor(5)},
        "half": torch.rand(3).bfloat16(),
        "rng": generator.get_state(),
        "ema": None,
    }
    run.save_state({"epoch": 2})
    run.save_state(state)
    found = run.load_state()
    assert found.keys() == state.keys()
    assert {name: found[name] for name in ("epoch", "best", "history", "ema")} == {
        name: state[name] for name in ("epoch", "best", "history", "ema")
    }
    assert torch.equal(found["model"]["weight"], state["model"]["weight"])
    assert torch.equal(found["model"]["counter"], state["model"]["counter"])
    assert torch.equal(found["half"], state["half"])
    assert torch.equal(found["rng"], state["rng"])
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "resume.pt"]


def test_what_a_kill_has_left_of_a_file_is_removed(run):
    (run.path / ".resume.pt.0123abcd.part").touch()
    (run.path / ".hidden.part").touch()
    run.remove_parts()
    assert sorted(path.name for path in run.path.iterdir()) == [".hidden.part", "config.json"]


def test_there_is_nothing_to_go_on_from(run):
    with pytest.raises(TrainingError, match="resume.pt: no such file, so there is nothing to go on from") as caught:
        run.load_state()
    assert caught.value.remedy == "Train anew into another folder."


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_state_is_refused_and_names_the_last_checkpoint(run, damage):
    run.save_state({"model": torch.rand(1000)})
    if damage != "empty":
        run.last.touch()
    path = run.path / "resume.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut": content[:-800], "empty": b"", "flipped": content, "text": b"no checkpoint"}[damage]
    path.write_bytes(damaged)
    with pytest.raises(TrainingError, match="resume.pt: ") as caught:
        run.load_state()
    last = f" from the last checkpoint: --weights {run.path / 'last.pt'}"
    assert caught.value.remedy == f"Train again{last if damage != 'empty' else ' into another folder.'}"


@pytest.mark.parametrize("document", [{"epoch": 1}, {"format": "edgecls.training.loop/2"}, [1, 2]])
def test_a_state_of_another_format_is_refused(run, document):
    torch.save(document, run.path / "resume.pt")
    with pytest.raises(TrainingError, match="resume.pt: is not of format 'edgecls.training/1'"):
        run.load_state()


# --- a full disk ---


class FullDisk:
    """A file on a disk with room for a hundred bytes more."""

    def __init__(self, file) -> None:
        self.file, self.room = file, 100

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def write(self, content: bytes) -> int:
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def fill_disk(monkeypatch) -> None:
    path_open = Path.open

    def limited(path: Path, mode: str = "r", *options, **more):
        file = path_open(path, mode, *options, **more)
        return FullDisk(file) if "w" in mode else file

    monkeypatch.setattr(Path, "open", limited)


def test_a_full_disk_leaves_the_last_state(run, monkeypatch):
    run.save_state({"epoch": 1})
    fill_disk(monkeypatch)
    with pytest.raises(OutputError, match=r"resume.pt: the disk is full") as caught:
        run.save_state({"epoch": 2, "model": torch.rand(1000)})
    assert "Free some space" in caught.value.remedy
    monkeypatch.undo()
    assert run.load_state() == {"epoch": 1}
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "resume.pt"]


def test_a_full_disk_leaves_the_last_checkpoint_and_figures(run, monkeypatch):
    model = models.build("squeezenet1_1", num_classes=2)
    best = Checkpoint(arch="squeezenet1_1", labels=("a", "b"), preprocess=Preprocess(), state_dict=model.state_dict())
    run.best.write_bytes(b"the best so far")
    run.write_history([{"epoch": 1}])
    fill_disk(monkeypatch)
    with pytest.raises(OutputError, match=r"best.pt: the disk is full"):
        checkpoint.save(best, run.best)
    with pytest.raises(OutputError, match=r"metrics.jsonl: the disk is full"):
        run.write_history([{"epoch": number} for number in range(50)])
    with pytest.raises(OutputError, match=r"data.json: the disk is full"):
        run.write_json("data.json", list(range(100)))
    assert run.best.read_bytes() == b"the best so far"
    assert (run.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    assert sorted(path.name for path in run.path.iterdir()) == ["best.pt", "config.json", "metrics.jsonl"]


def test_a_real_limit_of_the_system_is_said_in_words(run):
    """What torch raises by itself when a write comes short is an assertion of its zip writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="resume.pt: cannot be written: File too large"):
            run.save_state({"model": torch.rand(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (run.path / "resume.pt").exists()


def test_what_cannot_be_saved_is_no_full_disk(run):
    with pytest.raises(Exception, match="lambda|pickle"):
        run.save_state({"epoch": lambda: 1})
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json"]


# --- figures ---


def test_history_is_a_line_for_each_epoch(run):
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    run.write_history(history[:1])
    run.write_history(history)
    lines = (run.path / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == history


def test_json_holds_names_of_any_kind(run):
    document = {"labels": ["Käfer", "日本"], "path": "k\udce4fer.jpg"}
    run.write_json("data.json", document)
    text = (run.path / "data.json").read_text("utf-8")
    assert "Käfer" in text
    assert json.loads(text) == document
