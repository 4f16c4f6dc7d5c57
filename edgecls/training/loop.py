"""The training, from top to bottom.

An epoch is a number of steps; a step is one global batch, cut into micro-batches and shared out among the processes.
After each epoch the val split is measured, the checkpoints are written, and then the state to go on from, so a
training that is killed at any moment goes on from its last save and ends with the very weights it would have had.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edgecls.checkpoint import Checkpoint, save
from edgecls.evaluation import metrics
from edgecls.models import check_arch
from edgecls.training import transfer
from edgecls.training.augmentation import Augmentation
from edgecls.training.distributed import Process, joined
from edgecls.training.loading import Pictures, load_batches, loader_death
from edgecls.training.losses import Criterion
from edgecls.training.progress import Progress
from edgecls.training.run_report import write_first_batch, write_report
from edgecls.training.seeding import derive_seed
from edgecls.training.setup import Setup, is_out_of_memory, prepare
from edgecls.training.stopping import StopRequest
from edgecls_runtime.classifier import scores_from_logits
from edgecls_runtime.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from edgecls.data import Dataset
    from edgecls.training.config import TrainingConfig
    from edgecls.training.loading import Batch
    from edgecls.training.run_folder import RunFolder

__all__ = ["TrainingResult", "train"]

_VAL_BATCH = 64
_SAVED = {"setup", "state", "world"}


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        epochs: that were finished.
        best_epoch: whose checkpoint is the best, counted from 1; None if no epoch was finished.
        metrics: of that epoch.
        stopped_by: the signal that ended it early; None if it came to its end.
        rank: of the process that this was returned in; all of them return it.
    """

    epochs: int
    best_epoch: int | None
    metrics: dict[str, Any]
    stopped_by: signal.Signals | None = None
    rank: int = 0


@dataclass
class _State:
    """Where the training stands: `epoch` and `step` are the next ones, `sums` those of this epoch so far."""

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: list[float] | None = None
    best_epoch: int | None = None


def train(
    config: TrainingConfig, run: RunFolder, *, resume: bool = False, progress: Progress | None = None
) -> TrainingResult:
    """Train, and leave a run folder.

    Args:
        config: what to do.
        run: a new folder; or, with ``resume``, the one whose config this is.
        resume: go on from the folder's last saved state.
        progress: who is told; nobody if None.

    Raises:
        DataError: the pictures cannot be trained on.
        CheckpointError: the weights or the teacher cannot be used.
        TrainingError: training cannot begin, or cannot go on. As with every error, what was saved stays.
        OutputError: the folder cannot be written.
        ProviderError: the device is not there, or cannot do what is asked.
    """
    check_arch(config.arch)
    with joined(config.device) as here, _determinism(config.deterministic), _in_words(config, here):
        speaker = progress if progress is not None and here.is_first else Progress()
        speaker.note(f"device: {here.device}" + (f", {here.world} processes" if here.world > 1 else ""))
        if here.is_first and not resume:
            run.check_new()  # before the pictures are looked at
        saved = here.from_first(run.load_state() if here.is_first and resume else None)
        if saved is not None:
            if saved.keys() != _SAVED:
                raise TrainingError(
                    f"{run.path}: resume.pt holds {', '.join(saved) or 'nothing'}, not {', '.join(sorted(_SAVED))}",
                    "Train again into another folder.",
                )
            if here.is_first:
                run.remove_parts()
                if saved["state"].get("best") is not None and not run.best.exists():  # measured at the very end
                    raise TrainingError(
                        f"{run.best}: no such file, and it held the best result so far",
                        "Put it back, or train again into another folder.",
                    )
        setup = prepare(config, here, speaker, saved=None if saved is None else saved["setup"])
        with StopRequest() as stop:  # before there is anything to save, a signal may have the effect it always had
            state = _State() if saved is None else _State(**saved["state"])
            training = _Training(config, run, here, speaker, setup, state)
            if saved is not None:
                if saved["world"] != here.world and state.step:
                    raise TrainingError(
                        f"{run.path}: stopped within an epoch of {saved['world']} processes, now there are "
                        f"{here.world}",
                        f"Go on with {saved['world']}.",
                    )
                speaker.note(f"going on with epoch {state.epoch + 1}, step {state.step + 1}")
            elif here.is_first:
                run.begin(config)
                run.write_json("data.json", setup.report)
                write_first_batch(run, setup)
                training.save_state()
            return training.run_epochs(stop)


@contextlib.contextmanager
def _in_words(config: TrainingConfig, here: Process) -> Iterator[None]:
    """Say in our words what torch says of a training that the machine or the network is not made for."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"{config.arch}: batch norm cannot learn from micro-batches of one picture",
            "Choose a larger --batch-size, or a smaller --accumulate.",
        ) from error
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if is_out_of_memory(error):
            raise TrainingError(
                f"out of memory on {here.device}: {said.rpartition('DefaultCPUAllocator: ')[2]}",
                "Choose a smaller --batch-size or --image-size, or cut each batch up with --accumulate.",
            ) from error
        if config.deterministic and "deterministic implementation" in str(error):
            raise TrainingError(str(error).partition(".")[0], "Leave out --deterministic.") from error
        if config.compile and "InvalidCxxCompiler" in str(error):
            raise TrainingError(
                "compile: torch.compile finds no C++ compiler", "Install g++, or leave out --compile."
            ) from error
        dead = loader_death(error)
        if dead is None:
            raise
        raise dead from error


@dataclass
class _Training:
    config: TrainingConfig
    run: RunFolder
    here: Process
    progress: Progress
    setup: Setup
    state: _State

    def run_epochs(self, stop: StopRequest) -> TrainingResult:
        """Train to the end, or to a signal."""
        config, setup, state = self.config, self.setup, self.state
        net = None
        while state.epoch < config.epochs and not self._out_of_patience():
            frozen = self._is_frozen()
            if net is None or state.epoch == config.unfreeze_after:
                transfer.freeze_backbone(setup.model, setup.head, frozen=frozen)
                net = self._wrapped()
            transfer.train_mode(setup.model, setup.head, frozen=frozen)
            if not self._run_steps(net, stop):
                self.save_state()
                return self._result(stop.signal)
            self._finish_epoch()
        if self.here.is_first and state.best_epoch is not None:
            evaluation = write_report(self.run, setup, state.history)
            self.progress.note(str(evaluation))
        return self._result(None)

    def _run_steps(self, net: nn.Module, stop: StopRequest) -> bool:
        """Train to the end of the epoch; return whether it was reached, or a signal came first."""
        config, state, batches = self.config, self.state, self.setup.batches
        self.progress.epoch(state.epoch + 1, config.epochs, batches.steps, state.step)
        batches.epoch, batches.start = state.epoch, state.step
        on_gpu = self.here.device.type == "cuda"
        loaded = load_batches(self.setup.pictures, batches, workers=config.workers, pin_memory=on_gpu)
        with contextlib.closing(loaded):
            while state.step < batches.steps:
                if self._must_stop(stop):
                    return False
                started = time.perf_counter()
                self._step(net, loaded)
                state.step += 1
                self._count("seconds", time.perf_counter() - started)
                self._report_step()
                if config.save_every and state.step % config.save_every == 0 and state.step < batches.steps:
                    self.save_state()
        return True

    def _step(self, net: nn.Module, loaded: Generator[Batch, None, None]) -> None:
        """Move the weights once."""
        config, setup, state, device = self.config, self.setup, self.state, self.here.device
        setup.optimizer.zero_grad(set_to_none=True)
        for part in range(config.accumulate):
            pictures, targets, seconds = next(loaded)
            # For mixing and dropout. Not before: loading draws from the same generator, or not, as workers have it.
            torch.manual_seed(derive_seed("step", config.seed, state.epoch, state.step, part, self.here.rank))
            if setup.mix is not None:
                pictures, targets = setup.mix(pictures, targets)
            pictures, targets = self._to_device(pictures), targets.to(device, non_blocking=True)
            with self._shared_gradients(net, now=part == config.accumulate - 1):
                with self._autocast():
                    logits = net(pictures)
                    with torch.no_grad():
                        teacher_logits = None if setup.teacher is None else setup.teacher(pictures)
                loss = setup.criterion(logits, targets, teacher_logits)
                setup.scaler.scale(loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            value = loss.item()
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value}")
            self._count("loss", value * len(pictures))
            self._count("correct", (logits.argmax(1) == targets.argmax(1)).sum().item())
            self._count("images", len(pictures))
            self._count("loading_seconds", seconds)
        setup.scaler.unscale_(setup.optimizer)
        norm = nn.utils.clip_grad_norm_(setup.model.parameters(), config.clip_norm or math.inf).item()
        # GradScaler itself leaves out steps with infinite gradients; without it they would ruin the weights.
        if not setup.scaler.is_enabled() and not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}")
        setup.scaler.step(setup.optimizer)
        setup.scaler.update()
        state.sums["lr"] = max(group["lr"] for group in setup.optimizer.param_groups)  # before it is the next step's
        setup.schedule.step()
        if setup.ema is not None:
            setup.ema.update_parameters(setup.model)

    def _finish_epoch(self) -> None:
        """Measure, record, and save: checkpoints first, then the state that says they are there."""
        config, state = self.config, self.state
        names = ("loss", "correct", "images", "loading_seconds")
        mine = torch.tensor([state.sums[name] for name in names], dtype=torch.float64)
        loss, correct, images, loading_seconds = self.here.sum(mine).tolist()
        seconds = state.sums["seconds"]
        record: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "lr": state.sums["lr"],
            "loss": loss / images,
        }
        if self._counts_accuracy:
            record["train_acc@1"] = 100 * correct / images
        val_loss, measured, thresholds = self._validate()
        record |= {
            "val_loss": val_loss,
            **measured,
            "images_per_second": images / seconds,
            "loader_images_per_second": images / loading_seconds * max(1, config.workers),
            "seconds": seconds,
        }
        state.history.append(record)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
        # With few pictures many epochs score the same; then the surer one is better.
        score = [measured["mAP" if config.task == "multilabel" else "acc@1"], -val_loss]
        is_best = state.best is None or score > state.best
        if is_best:
            state.best, state.best_epoch = score, state.epoch
        if self.here.is_first:
            checkpoint = self._checkpoint(measured, thresholds)
            if is_best:
                save(checkpoint, self.run.best)
            save(checkpoint, self.run.last)
            self.run.write_history(state.history)
        self.save_state()
        self.progress.record(record)

    def _validate(self) -> tuple[float, dict[str, float], tuple[float, ...] | None]:
        """Measure the val split, each process its share, as the device will see it: float32, unaugmented.

        Returns:
            The loss, the figures, and with several labels a picture their thresholds.
        """
        model = self.setup.measured_model.eval()
        dataset, world = self.setup.dataset, self.here.world
        places = range(self.here.rank, len(dataset.val), world)
        batches = [
            [(0, place, place) for place in places[first : first + _VAL_BATCH]]
            for first in range(0, len(places), _VAL_BATCH)
        ]
        pictures = Pictures(dataset.val, len(dataset.labels), self.setup.preprocess, Augmentation())
        criterion = Criterion(self.config.task)
        outputs, loss = [np.empty((0, len(dataset.labels)), np.float32)], 0.0
        with torch.inference_mode():
            for images, targets, _ in load_batches(pictures, batches, workers=self.config.workers):
                logits = model(self._to_device(images)).float()
                loss += criterion(logits, targets.to(logits.device)).item() * len(images)
                outputs.append(logits.cpu().numpy())
        every = np.empty((len(dataset.val), len(dataset.labels)), np.float32)
        shares = self.here.gather((np.concatenate(outputs), loss))
        for rank, (share, _) in enumerate(shares):
            every[rank::world] = share
        if not np.isfinite(every).all():
            raise self._diverged("a logit of the val split is not finite")
        measured, thresholds = _measure(every, dataset)
        return sum(share for _, share in shares) / len(dataset.val), measured, thresholds

    def save_state(self) -> None:
        """Write what is needed to go on."""
        if self.here.is_first:
            state = {"setup": self.setup.to_document(), "state": asdict(self.state), "world": self.here.world}
            self.run.save_state(state)

    def _checkpoint(self, measured: dict[str, float], thresholds: tuple[float, ...] | None) -> Checkpoint:
        weights = self.setup.weights
        return Checkpoint(
            arch=self.config.arch,
            labels=self.setup.dataset.labels,
            preprocess=self.setup.preprocess,
            state_dict=dict(self.setup.measured_model.state_dict()),
            activation="sigmoid" if self.config.task == "multilabel" else "softmax",
            thresholds=thresholds,
            weights="trained from scratch" if weights == "random" else f"fine-tuned from {weights}",
            metrics=measured,
            history=tuple(self.state.history),
        )

    def _result(self, stopped_by: signal.Signals | None) -> TrainingResult:
        state = self.state
        found = {} if state.best_epoch is None else state.history[state.best_epoch - 1]
        return TrainingResult(state.epoch, state.best_epoch, found, stopped_by, self.here.rank)

    def _is_frozen(self) -> bool:
        config = self.config
        thawed = config.unfreeze_after is not None and self.state.epoch >= config.unfreeze_after
        return config.freeze == "features" and not thawed

    def _out_of_patience(self) -> bool:
        state, patience = self.state, self.config.patience
        if patience is None or state.best_epoch is None or state.epoch - state.best_epoch < patience:
            return False
        self.progress.note(f"nothing better since epoch {state.best_epoch}: ended early after epoch {state.epoch}")
        return True

    def _must_stop(self, stop: StopRequest) -> bool:
        """Agree among all processes: one that stopped alone would leave the others waiting for it."""
        asked = self.here.sum(torch.tensor([0.0 if stop.signal is None else 1.0])).item() > 0
        if asked and stop.signal is None:
            stop.signal = signal.SIGTERM
        return asked

    def _wrapped(self) -> nn.Module:
        """Return the model as it is trained: shared among processes, compiled."""
        net = self.setup.model
        if self.here.world > 1:
            devices = [self.here.device] if self.here.device.type == "cuda" else None
            net = nn.parallel.DistributedDataParallel(net, device_ids=devices)
        return torch.compile(net) if self.config.compile else net  # type: ignore[return-value]

    def _shared_gradients(self, net: nn.Module, *, now: bool) -> contextlib.AbstractContextManager[object]:
        """Let the processes exchange gradients after a step's last micro-batch only."""
        if now or not isinstance(net, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return net.no_sync()

    def _to_device(self, pictures: Tensor) -> Tensor:
        memory_format = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return pictures.to(self.here.device, non_blocking=True, memory_format=memory_format)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.config.amp == "none":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.config.amp == "bf16" else torch.float16
        return torch.autocast(self.here.device.type, dtype=dtype)

    @property
    def _counts_accuracy(self) -> bool:
        return self.config.task == "single" and self.setup.mix is None

    def _count(self, name: str, value: float) -> None:
        self.state.sums[name] = self.state.sums.get(name, 0.0) + value

    def _report_step(self) -> None:
        sums = self.state.sums
        accuracy = 100 * sums["correct"] / sums["images"] if self._counts_accuracy else None
        rate = self.here.world * sums["images"] / sums["seconds"]
        self.progress.step(sums["loss"] / sums["images"], accuracy, rate)

    def _diverged(self, found: str) -> TrainingError:
        state, steps = self.state, self.setup.batches.steps
        place = f"at epoch {state.epoch + 1}, step {state.step + 1} of {steps}"
        return TrainingError(
            f"{found} {place if state.step < steps else f'after epoch {state.epoch + 1}'}",
            f"Lower --lr, or limit the gradient with --clip-norm 1; {self.run.path} keeps the checkpoints so far.",
        )


def _measure(logits: NDArray[np.float32], dataset: Dataset) -> tuple[dict[str, float], tuple[float, ...] | None]:
    """Return the figures of the val split's logits, and with several labels a picture their thresholds."""
    if dataset.task == "multilabel":
        targets = np.zeros(logits.shape, np.int64)
        for row, sample in zip(targets, dataset.val, strict=True):
            row[list(sample.targets)] = 1
        scores = scores_from_logits(logits, "sigmoid")
        thresholds = metrics.best_thresholds(scores, targets)
        return metrics.multilabel_metrics(scores, targets, thresholds), thresholds
    indices = np.array([sample.targets[0] for sample in dataset.val])
    return metrics.single_label_metrics(scores_from_logits(logits, "softmax"), indices), None


@contextlib.contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Let torch refuse whatever varies from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    try:
        torch.use_deterministic_algorithms(wanted or before)
        yield
    finally:
        torch.use_deterministic_algorithms(before)
