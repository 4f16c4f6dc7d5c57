"""The loop: what it learns, what it leaves, what it refuses, and that it goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgecls import checkpoint
from edgecls.training import loading, transfer
from edgecls.training.augmentation import PRESETS
from edgecls.training.config import TrainingConfig
from edgecls.training.loop import TrainingResult, train
from edgecls.training.progress import Progress
from edgecls.training.run_folder import RunFolder
from edgecls_runtime.errors import DataError, ImageError, OutputError, ProviderError, TrainingError
from edgecls_runtime.preprocess import Preprocess

Draw = Callable[..., Path]

# Small, with batch norm and dropout, so that both are tested.
ARCH = "mobilenet_v3_small"


def config_for(data: Path, **changes: Any) -> TrainingConfig:
    options: dict[str, Any] = {
        "arch": ARCH,
        "weights": "none",
        "image_size": 32,
        "augmentation": PRESETS["light"],
        "epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "backbone_lr_factor": 1.0,
        "workers": 0,
        "device": "cpu",
    }
    return TrainingConfig(data=str(data), **(options | changes))


def weights_of(path: Path) -> dict[str, Tensor]:
    return checkpoint.load(path).state_dict


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Listener(Progress):
    """Keeps what it hears; calls `at` after the step of that number."""

    def __init__(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        self.notes: list[str] = []
        self.losses: list[float] = []
        self.records: list[dict[str, Any]] = []
        self.at = at or {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, loss: float, accuracy: float | None, images_per_second: float) -> None:
        self.losses.append(loss)
        assert images_per_second > 0
        self.at.get(len(self.losses), lambda: None)()

    def record(self, record: dict[str, Any]) -> None:
        self.records.append(record)


def test_a_tiny_set_is_learnt_and_the_folder_holds_what_it_promises(colours: Draw, tmp_path: Path) -> None:
    run, listener = RunFolder(tmp_path / "run"), Listener()
    config = config_for(colours(), epochs=12, batchnorm_momentum=0.3)
    result = train(config, run, progress=listener)
    assert result.epochs == 12
    assert result.stopped_by is None
    history = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert history == listener.records
    assert [record["epoch"] for record in history] == list(range(1, 13))
    assert history[-1]["loss"] < history[0]["loss"] / 2
    best = checkpoint.load(run.best)
    assert result.best_epoch is not None
    assert best.metrics["acc@1"] == history[result.best_epoch - 1]["acc@1"] == 100.0
    assert best.labels == ("blue", "green", "red")
    assert best.preprocess.crop_size == (32, 32)
    assert best.preprocess.resize_size == 37
    assert best.weights == "trained from scratch"
    assert checkpoint.load(run.last).history == tuple(history)
    assert run.config() == config
    report = json.loads((run.path / "data.json").read_text("utf-8"))
    assert report["train"] == {"blue": 12, "green": 12, "red": 12}
    assert {"images_per_second", "loader_images_per_second", "lr", "val_loss", "acc@1", "ece"} <= history[0].keys()


def test_what_is_measured_is_the_device_side_preprocess_on_the_checkpoint_that_was_saved(
    colours: Draw, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    train(config_for(colours(), epochs=3, batchnorm_momentum=0.3), run)
    saved = checkpoint.load(run.last)
    model, right, total = saved.build(), 0, 0
    from edgecls_runtime.preprocess import load

    for path in (tmp_path / "colours" / "val").rglob("*.png"):
        with torch.inference_mode():
            logits = model(torch.from_numpy(load(path, saved.preprocess)[None]))
        right += saved.labels[int(logits.argmax())] == path.parent.name
        total += 1
    assert total == 18
    assert saved.metrics["acc@1"] == pytest.approx(100 * right / total, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9, "save_every": 2, "workers": 1},
        {"optimizer": "sgd", "lr": 0.02, "accumulate": 2, "augmentation": PRESETS["strong"]},
        {"optimizer": "rmsprop", "lr": 1e-3, "freeze": "features", "unfreeze_after": 1, "balanced_sampling": True},
    ],
    ids=["adamw", "ema, mid-epoch, loader process", "sgd, mixup", "rmsprop, unfrozen"],
)
def test_stopped_and_resumed_anywhere_it_ends_with_the_same_weights(
    colours: Draw, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = config_for(colours(), **changes)  # 4 steps an epoch
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    uninterrupted = train(config, whole)
    for at in (1, 2, 3):  # within the first epoch, at its end, in the second
        stop = Listener({at: lambda: os.kill(os.getpid(), signal.SIGTERM)})
        result = train(config, parts, resume=at != 1, progress=stop)
        assert result.stopped_by == signal.SIGTERM
        assert len(stop.losses) == at
    resumed = train(parts.config(), parts, resume=True)
    assert same(weights_of(whole.last), weights_of(parts.last))
    assert same(weights_of(whole.best), weights_of(parts.best))
    assert resumed.best_epoch == uninterrupted.best_epoch
    timeless = [
        [
            {name: value for name, value in json.loads(line).items() if "second" not in name}
            for line in (run.path / "metrics.jsonl").read_text("utf-8").splitlines()
        ]
        for run in (whole, parts)
    ]
    assert timeless[0] == timeless[1]


def test_killed_with_sigkill_in_the_middle_it_ends_with_the_same_weights(colours: Draw, tmp_path: Path) -> None:
    """A process of its own dies without a chance to save, within its second epoch."""
    config = config_for(colours(train=16), epochs=3, save_every=2)  # 6 steps an epoch
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    program = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from edgecls.training.progress import Progress
from edgecls.training.run_folder import RunFolder
from edgecls.training.loop import train
from edgecls.training.config import TrainingConfig

class Killer(Progress):
    steps = 0
    def step(self, *_):
        self.steps += 1
        if self.steps == 9:  # a step after the save at step 2 of epoch 2
            os.kill(os.getpid(), signal.SIGKILL)

train(RunFolder(sys.argv[1]).config(), RunFolder(sys.argv[2]), progress=Killer())
"""
    train(config, whole)
    done = subprocess.run([sys.executable, "-c", program, whole.path, killed.path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    state = killed.load_state()["state"]
    assert (state["epoch"], state["step"]) == (1, 2)
    listener = Listener()
    train(killed.config(), killed, resume=True, progress=listener)
    assert len(listener.losses) == 4 + 6
    assert any("going on with epoch 2, step 3" in note for note in listener.notes)
    assert same(weights_of(whole.last), weights_of(killed.last))
    assert same(weights_of(whole.best), weights_of(killed.best))


def test_a_finished_training_resumed_changes_nothing(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    first = train(config_for(colours()), run)
    before = run.last.read_bytes()
    part = run.path / ".resume.pt.0123abcd.part"
    part.touch()
    again = train(run.config(), run, resume=True)
    assert dataclasses.asdict(again) == dataclasses.asdict(first)
    assert run.last.read_bytes() == before
    assert not part.exists()


def test_micro_batches_learn_what_whole_batches_learn(colours: Draw, tmp_path: Path) -> None:
    """Without batch norm and dropout the gradient is the same sum."""
    losses = []
    for accumulate in (1, 4):
        config = config_for(
            colours(f"data{accumulate}"), arch="squeezenet1_1", dropout=0.0, accumulate=accumulate, clip_norm=1.0
        )
        listener = Listener()
        train(config, RunFolder(tmp_path / f"run{accumulate}"), progress=listener)
        losses.append(listener.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_frozen_features_stay_as_they_were_until_they_are_unfrozen(colours: Draw, tmp_path: Path) -> None:
    data, run = colours(), RunFolder(tmp_path / "run")
    config = config_for(data, freeze="features", unfreeze_after=2, epochs=3)
    start = transfer.start_from(ARCH, "none", ("blue", "green", "red")).model.state_dict()
    seen: list[dict[str, Tensor]] = []

    class Watcher(Progress):
        def record(self, record: dict[str, Any]) -> None:
            seen.append({name: value.clone() for name, value in weights_of(run.last).items()})

    train(config, run, progress=Watcher())
    backbone = [name for name in start if name.startswith("features.")]
    assert "features.0.1.running_mean" in backbone  # the statistics, too
    for after in seen[:2]:
        assert all(torch.equal(start[name], after[name]) for name in backbone)
        assert not torch.equal(start["classifier.3.weight"], after["classifier.3.weight"])
    moved = [name for name in backbone if not torch.equal(start[name], seen[2][name])]
    assert len(moved) == len(backbone)


def test_the_average_of_the_weights_is_what_is_measured_and_kept(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(config_for(colours(), ema=0.99), run)
    setup = run.load_state()["setup"]
    kept = weights_of(run.last)
    averaged = {name.removeprefix("module."): value for name, value in setup["ema"].items() if name != "n_averaged"}
    assert same(kept, averaged)
    assert not same(kept, setup["model"])


def test_a_teacher_is_followed(colours: Draw, tmp_path: Path) -> None:
    """With nothing but the teacher in the loss, the student learns labels that it never sees."""
    data, teacher = colours(), RunFolder(tmp_path / "teacher")
    train(config_for(data, epochs=8, batchnorm_momentum=0.3), teacher)
    taught = config_for(data, epochs=8, batchnorm_momentum=0.3, teacher=str(teacher.best), distillation=1.0, seed=5)
    for path in (data / "train").rglob("*.png"):  # labels turned round by one, in the student's pictures alone
        path.rename(path.with_suffix(".tmp"))
    for folder, other in (("red", "green"), ("green", "blue"), ("blue", "red")):
        for path in (data / "train" / folder).glob("*.tmp"):
            path.rename(data / "train" / other / f"{path.stem}-{folder}.png")
    assert train(taught, RunFolder(tmp_path / "student")).metrics["acc@1"] > 90
    untaught = dataclasses.replace(taught, teacher=None, distillation=0.5)
    assert train(untaught, RunFolder(tmp_path / "untaught")).metrics["acc@1"] < 50


def test_a_teacher_of_other_classes_is_refused(colours: Draw, tmp_path: Path) -> None:
    teacher = RunFolder(tmp_path / "teacher")
    train(config_for(colours("two", classes=2), epochs=1), teacher)
    config = config_for(colours("three"), teacher=str(teacher.best))
    with pytest.raises(TrainingError, match=r"knows 2 labels .*the pictures have 3"):
        train(config, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_sees_pictures_otherwise_is_refused(colours: Draw, tmp_path: Path) -> None:
    data, teacher = colours(), RunFolder(tmp_path / "teacher")
    train(config_for(data, epochs=1), teacher)
    with pytest.raises(TrainingError, match=r"crop_size \(32, 32\), this training with \(48, 48\)"):
        train(config_for(data, teacher=str(teacher.best), image_size=48), RunFolder(tmp_path / "run"))


def test_several_labels_are_learnt_and_their_thresholds_kept(colours: Draw, tmp_path: Path) -> None:
    data = colours(train=24, val=10)
    rows = ["path,label,split"]
    for path in sorted(data.rglob("*.png")):
        labels = {"red": "red;warm", "green": "", "blue": "blue"}[path.parent.name]
        rows.append(f"{path.relative_to(data)},{labels},{path.parent.parent.name}")
    (data / "list.csv").write_text("\n".join(rows))
    run = RunFolder(tmp_path / "run")
    config = config_for(
        data / "list.csv", task="multilabel", epochs=6, batchnorm_momentum=0.3, class_weights="balanced"
    )
    result = train(config, run)
    best = checkpoint.load(run.best)
    assert best.labels == ("blue", "red", "warm")
    assert best.activation == "sigmoid"
    assert best.thresholds is not None
    assert all(0 < threshold < 1 for threshold in best.thresholds)
    assert result.metrics["mAP"] > 95
    assert best.metrics["f1"] > 90


def test_nothing_better_for_so_long_ends_it(colours: Draw, tmp_path: Path) -> None:
    listener = Listener()
    result = train(
        config_for(colours(), epochs=9, patience=2, lr=1e-12, freeze="features"),
        RunFolder(tmp_path / "run"),
        progress=listener,
    )
    assert result.best_epoch is not None
    assert result.epochs == result.best_epoch + 2 < 9
    assert any("ended early" in note for note in listener.notes)


def test_the_learning_rate_of_an_epoch_is_the_one_it_learnt_at(colours: Draw, tmp_path: Path) -> None:
    config = config_for(colours(train=3, val=1), epochs=4, lr=1e-3, schedule="step", step_epochs=1, warmup_epochs=0)
    listener = Listener()
    train(config, RunFolder(tmp_path / "run"), progress=listener)
    assert [record["lr"] for record in listener.records] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6])


def test_mean_and_std_are_measured_when_asked(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(config_for(colours(classes=2), epochs=1, mean="auto", std="auto"), run)
    preprocess = checkpoint.load(run.last).preprocess
    assert preprocess.mean[0] > preprocess.mean[2] + 0.1  # red and green pictures have little blue
    assert all(0 < value < 0.4 for value in preprocess.std)


def test_reduced_precision_learns_too(colours: Draw, tmp_path: Path) -> None:
    result = train(config_for(colours(), epochs=6, amp="bf16", batchnorm_momentum=0.3), RunFolder(tmp_path / "run"))
    assert result.metrics["acc@1"] > 90


# ---------------------------------------------------------------- what it refuses


def explode(after: int) -> Callable[..., Any]:
    """Turn a picture of a batch into infinities from the batch of that number on."""
    original, count = loading._collate, 0

    def collate(items: Any) -> Any:
        nonlocal count
        count += 1
        batch = original(items)
        return (batch[0] * float("inf"), *batch[1:]) if count > after else batch

    return collate


def test_a_loss_that_is_not_finite_stops_it_and_the_checkpoints_stay(
    colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    monkeypatch.setattr(loading, "_collate", explode(after=4 + 1 + 2))  # 4 steps, 1 batch of val, 2 steps
    with pytest.raises(TrainingError, match="the loss is nan at epoch 2, step 3 of 4") as caught:
        train(config_for(colours()), run)
    assert "--lr" in caught.value.remedy
    assert str(run.path) in caught.value.remedy
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(run.last).values())
    monkeypatch.undo()
    assert train(run.config(), run, resume=True).epochs == 2


def test_a_val_split_that_is_not_finite_is_after_the_epoch(
    colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_collate", explode(after=4))
    with pytest.raises(TrainingError, match="a logit of the val split is not finite after epoch 1\n"):
        train(config_for(colours()), RunFolder(tmp_path / "run"))


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(TrainingError, match="gradient's norm is inf at epoch 1, step 1"):
        train(config_for(colours()), RunFolder(tmp_path / "run"))


def test_a_picture_that_vanishes_meanwhile_is_named(colours: Draw, tmp_path: Path) -> None:
    data = colours()
    gone = data / "train" / "red" / "003.png"
    with pytest.raises(ImageError, match=r"red/003\.png: no such file"):
        train(config_for(data, workers=1), RunFolder(tmp_path / "run"), progress=Listener({1: gone.unlink}))


def test_pictures_that_changed_are_not_gone_on_with(colours: Draw, tmp_path: Path) -> None:
    data, run = colours(), RunFolder(tmp_path / "run")
    train(config_for(data, epochs=1), run)
    (data / "train" / "red" / "003.png").unlink()
    with pytest.raises(DataError, match="have changed since the training began"):
        train(run.config(), run, resume=True)


def test_a_folder_that_moved_is_gone_on_with(colours: Draw, tmp_path: Path) -> None:
    data, run = colours(), RunFolder(tmp_path / "run")
    train(config_for(data, epochs=1), run)
    data.rename(tmp_path / "elsewhere")
    config = dataclasses.replace(run.config(), data=str(tmp_path / "elsewhere"))
    assert train(config, run, resume=True).epochs == 1


def test_no_val_split_is_refused_before_anything_is_written(colours: Draw, tmp_path: Path) -> None:
    data = colours() / "train"
    with pytest.raises(DataError, match="no val split") as caught:
        train(config_for(data), RunFolder(tmp_path / "run"))
    assert "--val-split" in caught.value.remedy
    assert not (tmp_path / "run").exists()
    assert train(config_for(data, val_split=0.25, epochs=1), RunFolder(tmp_path / "run")).epochs == 1


def test_unreadable_pictures_are_left_out_or_refused(colours: Draw, tmp_path: Path) -> None:
    data, listener = colours(), Listener()
    (data / "train" / "red" / "004.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 unreadable pictures, first .*red/004\.png"):
        train(config_for(data, strict=True), RunFolder(tmp_path / "strict"))
    train(config_for(data, epochs=1), RunFolder(tmp_path / "run"), progress=listener)
    assert any("unreadable, left out" in note and "red/004.png" in note for note in listener.notes)
    report = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert report["train"]["red"] == 11


def test_pictures_are_looked_at_through_what_the_network_sees(colours: Draw, draw: Draw, tmp_path: Path) -> None:
    data, listener = colours(train=4, val=2), Listener()
    draw(data / "val" / "red" / "strip.png", size=(8, 4000))  # resized to 256 it is no picture too large, to 549 it is
    config = config_for(data, epochs=1, image_size=480, batch_size=12, arch="squeezenet1_1")
    assert train(config, RunFolder(tmp_path / "run"), progress=listener).epochs == 1
    assert any("red/strip.png: 8x4000 picture, resized: " in note for note in listener.notes)


def test_a_batch_larger_than_the_data_is_said(colours: Draw, tmp_path: Path) -> None:
    listener = Listener()
    train(config_for(colours(), epochs=1, batch_size=1000), RunFolder(tmp_path / "run"), progress=listener)
    assert "batch size: 36, for there are only 36 pictures to learn from" in listener.notes


def test_one_class_alone_is_refused(colours: Draw, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has one class \(red\), and there is nothing to tell apart"):
        train(config_for(colours(classes=1), labels=("red",)), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_preprocess_for_graphs_that_normalize_is_refused(colours: Draw, tmp_path: Path) -> None:
    preprocess = Preprocess(resize_size=32, crop_size=(32, 32), input_layout="NHWC-uint8")
    with pytest.raises(TrainingError, match="input_layout is NHWC-uint8"):
        train(config_for(colours(), image_size=None, preprocess=preprocess), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_another_training_is_not_overwritten(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(config_for(colours(), epochs=1), run)
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    with pytest.raises(OutputError, match="exists already") as caught:
        train(run.config(), run)
    assert "--resume" in caught.value.remedy
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_what_the_device_cannot_do_is_refused(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ProviderError, match="amp fp16: not on cpu"):
        train(config_for(colours(), amp="fp16"), run)
    with pytest.raises(ProviderError, match="sync_batchnorm: not on cpu"):
        train(config_for(tmp_path / "colours", sync_batchnorm=True), run)


def test_a_state_that_does_not_fit_is_refused(colours: Draw, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train(config_for(colours(), epochs=1), run)
    other = dataclasses.replace(run.config(), arch="squeezenet1_1")
    with pytest.raises(TrainingError, match=r"resume\.pt does not fit config\.json"):
        train(other, run, resume=True)
    other = dataclasses.replace(run.config(), optimizer="sgd")
    with pytest.raises(TrainingError, match=r"does not fit config\.json: it is of an optimizer without .*momentum"):
        train(other, run, resume=True)
    run.best.rename(tmp_path / "best.pt")
    with pytest.raises(TrainingError, match=r"run/best\.pt: no such file, and it held the best result so far"):
        train(run.config(), run, resume=True)
    run.save_state({})
    with pytest.raises(TrainingError, match="resume.pt holds nothing, not setup, state, world"):
        train(run.config(), run, resume=True)


def test_a_signal_before_there_is_anything_to_save_ends_it(colours: Draw, tmp_path: Path) -> None:
    class Stopping(Progress):
        def pictures(self, what: str, total: int) -> Callable[[int], object]:
            signal.raise_signal(signal.SIGINT)
            return super().pictures(what, total)

    with pytest.raises(KeyboardInterrupt):
        train(config_for(colours()), RunFolder(tmp_path / "run"), progress=Stopping())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arch", "size"), [("alexnet", 32), ("maxvit_t", 40)])
def test_a_size_that_the_network_does_not_take_is_refused(colours: Draw, tmp_path: Path, arch: str, size: int) -> None:
    with pytest.raises(TrainingError, match=f"{arch} does not take pictures of {size}x{size}: ") as caught:
        train(config_for(colours(), arch=arch, image_size=size), RunFolder(tmp_path / "run"))
    assert "--image-size" in caught.value.remedy
    assert not (tmp_path / "run").exists()


def test_batch_norm_needs_more_than_one_picture(colours: Draw, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="micro-batches of one picture") as caught:
        train(config_for(colours(), batch_size=4, accumulate=4), RunFolder(tmp_path / "run"))
    assert "--accumulate" in caught.value.remedy


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("tried to allocate 20 GiB\nmore"),
        RuntimeError("err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 20 GiB"),
    ],
)
def test_out_of_memory_is_said_in_a_line(
    colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def starve(*_: object) -> None:
        raise error

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", starve)
    with pytest.raises(TrainingError, match=r"(?m)out of memory on cpu: .*tried to allocate 20 GiB$") as caught:
        train(config_for(colours()), RunFolder(tmp_path / "run"))
    assert "--accumulate" in caught.value.remedy


def test_what_cannot_be_deterministic_is_said(colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("upsample_backward does not have a deterministic implementation, but you set it. And more")

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", refuse)
    with pytest.raises(TrainingError, match="upsample_backward does not have a deterministic") as caught:
        train(config_for(colours(), deterministic=True), RunFolder(tmp_path / "run"))
    assert "--deterministic" in caught.value.remedy


def test_a_compiler_that_is_not_there_is_said(colours: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(TrainingError, match="finds no C\\+\\+ compiler") as caught:
        train(config_for(colours(), compile=True), RunFolder(tmp_path / "run"))
    assert caught.value.remedy == "Install g++, or leave out --compile."


def test_the_process_is_left_as_it_was(colours: Draw, tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result: TrainingResult = train(config_for(colours(), epochs=1, deterministic=True), RunFolder(tmp_path / "run"))
    assert result.epochs == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not torch.are_deterministic_algorithms_enabled()


# ---------------------------------------------------------------- several processes


def test_two_processes_learn_what_one_learns(colours: Draw, tmp_path: Path) -> None:
    """Two gloo processes share each global batch; without batch norm and dropout the loss curve is the same."""
    config = config_for(
        colours(val=5), arch="squeezenet1_1", dropout=0.0, epochs=3, lr=1e-3, accumulate=2, balanced_sampling=True
    )
    alone, together = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "together")
    train(config, alone)
    program = """
import sys
import torch
torch.set_num_threads(1)
from edgecls.training.run_folder import RunFolder
from edgecls.training.loop import train
result = train(RunFolder(sys.argv[1]).config(), RunFolder(sys.argv[2]))
print(f"rank {result.rank}")
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    done = subprocess.run(
        [*command, alone.path, together.path],
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(done.stdout.decode().split()) == ["0", "1", "rank", "rank"]
    curves = [
        [json.loads(line) for line in (run.path / "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in (alone, together)
    ]
    assert len(curves[0]) == len(curves[1]) == 3
    for one, two in zip(*curves, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(two["val_loss"], rel=1e-3)
        assert one["acc@1"] == two["acc@1"]
    assert curves[0][-1]["loss"] != curves[0][0]["loss"]
    assert together.load_state()["world"] == 2
