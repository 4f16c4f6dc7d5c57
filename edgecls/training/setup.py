"""Everything that a training works with, made from its config or from what was saved."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgecls.checkpoint import load
from edgecls.data import find_samples
from edgecls.inspection import inspect_data, measure_channels
from edgecls.models import build
from edgecls.training import transfer
from edgecls.training.augmentation import mixer
from edgecls.training.loading import EpochBatches, Pictures, balancing_weights
from edgecls.training.losses import Criterion, balanced_class_weights
from edgecls.training.optimization import make_ema, make_optimizer, make_schedule
from edgecls_runtime.errors import DataError, ProviderError, TrainingError
from edgecls_runtime.manifest import from_document
from edgecls_runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR
    from torch.optim.swa_utils import AveragedModel

    from edgecls.data import Dataset
    from edgecls.training.config import TrainingConfig
    from edgecls.training.distributed import Process
    from edgecls.training.progress import Progress

__all__ = ["Setup", "is_out_of_memory", "prepare"]


@dataclass(kw_only=True)
class Setup:
    """What a training works with.

    Attributes:
        dataset: readable pictures in both splits.
        report: what was found in them, as JSON's types.
        preprocess: the device's, size and normalization final.
        weights: where the training began, in words.
        model: on its device.
        head: name of the model's child that classifies.
        batches: which pictures each step learns from.
        pictures: those that are learnt from.
        mix: what mixes a batch, if anything does.
        criterion: the loss.
        teacher: a frozen model to be drawn to, if there is one.
        optimizer, schedule, scaler: as torch knows them.
        ema: moving average of the weights, if there is one.
    """

    dataset: Dataset
    report: dict[str, Any]
    preprocess: Preprocess
    weights: str
    model: nn.Module
    head: str
    batches: EpochBatches
    pictures: Pictures
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    criterion: Criterion
    teacher: nn.Module | None
    optimizer: Optimizer
    schedule: LambdaLR
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None

    @property
    def measured_model(self) -> nn.Module:
        """The model that is measured and kept: the average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def to_document(self) -> dict[str, Any]:
        """Return all that `prepare` needs to bring this setup back, as tensors and plain types."""
        return {
            "data": _digest(self.dataset),
            "preprocess": json.loads(json.dumps(asdict(self.preprocess))),
            "weights": self.weights,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
        }


def prepare(config: TrainingConfig, here: Process, progress: Progress, *, saved: dict[str, Any] | None) -> Setup:
    """Make what a training works with.

    Args:
        config: what the training was told.
        here: this process.
        progress: who is told what was found.
        saved: what `Setup.to_document` returned, to go on from; None to begin.

    Raises:
        DataError: the pictures cannot be trained on, or are not those of ``saved``.
        CheckpointError: the weights or the teacher cannot be used.
        TrainingError: the parts do not fit together.
        ProviderError: the device cannot do what the config asks.
    """
    _check_config(config, here)
    found = _find_pictures(config, here)
    classes = len(found.labels)
    if saved is None:
        start = transfer.start_from(
            config.arch,
            config.weights,
            found.labels,
            preprocess=config.preprocess,
            image_size=config.image_size,
            seed=config.seed,
        )
        model, weights, preprocess = start.model, start.weights, start.preprocess
    else:
        preprocess, weights = from_document(Preprocess, saved["preprocess"], "resume.pt"), saved["weights"]
        model = build(config.arch, num_classes=classes, image_size=preprocess.crop_size[0])
    dataset, report = _look_at_pictures(config, found, preprocess, here, progress)
    if saved is None:
        preprocess = _normalized(config, preprocess, dataset, here, progress)
        for note in start.notes:
            progress.note(note)
    elif saved["data"] != _digest(dataset):
        raise DataError(
            f"{config.data}: its pictures or labels have changed since the training began",
            "Put back what was there, or begin another training from the last weights: --weights RUN/last.pt",
        )
    model = _placed(model, config, here)
    _check_takes(model, config, preprocess, here)
    head = transfer.head_of(config.arch, image_size=preprocess.crop_size[0])
    batches = EpochBatches(
        len(dataset.train),
        batch_size=config.batch_size,
        parts=config.accumulate,
        rank=here.rank,
        world=here.world,
        seed=config.seed,
        weights=balancing_weights(dataset.train, classes) if config.balanced_sampling else None,
    )
    if batches.batch_size < config.batch_size:
        progress.note(
            f"batch size: {batches.batch_size}, for there are only {len(dataset.train)} pictures to learn from"
        )
    class_weights = None
    if config.class_weights == "balanced":
        class_weights = balanced_class_weights(dataset.train, classes, config.task).to(here.device)
    optimizer = make_optimizer(
        model,
        head=head,
        name=config.optimizer,
        lr=config.lr,
        backbone_lr_factor=config.backbone_lr_factor,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    setup = Setup(
        dataset=dataset,
        report=report,
        preprocess=preprocess,
        weights=weights,
        model=model,
        head=head,
        batches=batches,
        pictures=Pictures(dataset.train, classes, preprocess, config.augmentation, config.seed),
        mix=mixer(config.augmentation),
        criterion=Criterion(
            config.task, config.label_smoothing, class_weights, config.distillation, config.temperature
        ),
        teacher=_load_teacher(config, dataset, preprocess, here),
        optimizer=optimizer,
        schedule=make_schedule(
            optimizer,
            steps=batches.steps * config.epochs,
            schedule=config.schedule,
            warmup_steps=round(batches.steps * config.warmup_epochs),
            step_every=max(1, round(batches.steps * config.step_epochs)),
            step_gamma=config.step_gamma,
        ),
        scaler=torch.amp.GradScaler(here.device.type, enabled=config.amp == "fp16"),
        ema=None if config.ema is None else make_ema(model, config.ema),
    )
    if saved is not None:
        _restore(setup, saved)
    return setup


def is_out_of_memory(error: Exception) -> bool:
    """Return whether that is what torch says; of the CPU's memory it has no class of its own to say so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _check_config(config: TrainingConfig, here: Process) -> None:
    if config.preprocess is not None and config.preprocess.input_layout != "NCHW-float":
        raise TrainingError(
            f"preprocess: input_layout is {config.preprocess.input_layout}, and networks learn from NCHW-float",
            "Leave it out; `edgecls export --embed-preprocess` makes such a model of what was learnt.",
        )
    kind = here.device.type
    if config.amp == "fp16" and kind != "cuda":
        raise ProviderError(f"amp fp16: not on {kind}", "Use --amp bf16, or --device cuda.")
    if config.sync_batchnorm and kind != "cuda":
        raise ProviderError(f"sync_batchnorm: not on {kind}", "Leave out --sync-batchnorm, or use --device cuda.")


def _find_pictures(config: TrainingConfig, here: Process) -> Dataset:
    """Find the pictures in the first process; the others hear of it."""
    if not here.is_first:
        return here.from_first(None)
    dataset = find_samples(
        config.data,
        task=config.task,
        labels_from=config.labels_from,
        val_split=config.val_split,
        seed=config.seed,
        labels=config.labels,
    )
    dataset.require_val()  # before each picture is looked at
    if config.task == "single" and len(dataset.labels) < 2:
        raise DataError(
            f"{config.data}: has one class ({dataset.labels[0]}), and there is nothing to tell apart",
            "Name another class in --labels and add pictures of it; or say --task multilabel.",
        )
    return here.from_first(dataset)


def _look_at_pictures(
    config: TrainingConfig, dataset: Dataset, preprocess: Preprocess, here: Process, progress: Progress
) -> tuple[Dataset, dict[str, Any]]:
    """Look at the pictures in the first process, through what the network will see them; the others hear of it."""
    if not here.is_first:
        return here.from_first(None)
    total = len(dataset.train) + len(dataset.val)
    advance = progress.pictures("looking at pictures", total)
    report = inspect_data(dataset, preprocess=preprocess, progress=advance)
    progress.note(str(report))
    report.require(strict=config.strict, allow_duplicates=config.allow_duplicates)
    return here.from_first((report.dataset, report.to_document()))


def _normalized(
    config: TrainingConfig, preprocess: Preprocess, dataset: Dataset, here: Process, progress: Progress
) -> Preprocess:
    """Apply the normalization that the config names."""
    mean, std = config.mean, config.std
    if "auto" in (mean, std):
        stats = None
        if here.is_first:
            total = len(dataset.train)
            stats = measure_channels(
                dataset.train,
                preprocess=preprocess,
                progress=progress.pictures("measuring pictures", total),
            )
            progress.note(f"normalization of {stats}")
        stats = here.from_first(stats)
        if preprocess.color == "BGR":
            stats = replace(stats, mean=_reversed(stats.mean), std=_reversed(stats.std))
        mean, std = stats.mean if mean == "auto" else mean, stats.std if std == "auto" else std
    return preprocess.replace(mean=mean or preprocess.mean, std=std or preprocess.std)


def _reversed(values: tuple[float, float, float]) -> tuple[float, float, float]:
    return values[2], values[1], values[0]


def _placed(model: nn.Module, config: TrainingConfig, here: Process) -> nn.Module:
    transfer.adjust_layers(model, dropout=config.dropout, batchnorm_momentum=config.batchnorm_momentum)
    if config.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model.to(here.device)
    return model.to(memory_format=torch.channels_last) if config.channels_last else model


def _check_takes(model: nn.Module, config: TrainingConfig, preprocess: Preprocess, here: Process) -> None:
    """Run the model once: some take no picture below a size (AlexNet: 63 pixels), some one size alone."""
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *preprocess.crop_size, device=here.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        height, width = preprocess.crop_size
        raise TrainingError(
            f"{config.arch} does not take pictures of {width}x{height}: {str(error).splitlines()[0]}",
            "Choose another --image-size, or leave it out.",
        ) from error


def _load_teacher(config: TrainingConfig, dataset: Dataset, preprocess: Preprocess, here: Process) -> nn.Module | None:
    if config.teacher is None:
        return None
    teacher = load(config.teacher)
    if teacher.labels != dataset.labels or (teacher.activation == "sigmoid") != (config.task == "multilabel"):
        raise TrainingError(
            f"{config.teacher}: the teacher knows {len(teacher.labels)} labels ({teacher.activation}), the pictures "
            f"have {len(dataset.labels)} ({config.task}); they must be the same, in the same order",
            "Train the teacher on these classes, or name its classes with --labels.",
        )
    ours, theirs = (
        {"crop_size": item.crop_size, "mean": item.mean, "std": item.std, "color": item.color}
        for item in (preprocess, teacher.preprocess)
    )
    differing = [name for name in ours if ours[name] != theirs[name]]
    if differing:
        name = differing[0]
        raise TrainingError(
            f"{config.teacher}: the teacher sees pictures with {name} {theirs[name]}, this training with {ours[name]}",
            "Give both the same --preprocess.",
        )
    return _placed(teacher.build().requires_grad_(requires_grad=False), config, here)


def _restore(setup: Setup, saved: dict[str, Any]) -> None:
    try:
        setup.model.load_state_dict(saved["model"])
        setup.optimizer.load_state_dict(saved["optimizer"])
        for group in setup.optimizer.param_groups:  # torch takes another optimizer's, and fails in the first step
            if missing := setup.optimizer.defaults.keys() - group.keys():
                raise ValueError(f"it is of an optimizer without {', '.join(sorted(missing))}")
        setup.schedule.load_state_dict(saved["schedule"])
        setup.scaler.load_state_dict(saved["scaler"])
        if setup.ema is not None:
            setup.ema.load_state_dict(saved["ema"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"resume.pt does not fit config.json: {str(error).splitlines()[0]}",
            "Put back the config.json of this training, or train anew.",
        ) from error


def _digest(dataset: Dataset) -> str:
    """Digest what is learnt and measured: names and labels, wherever the folder lies now."""
    listed = [
        [sample.path.parent.name, sample.path.name, *sample.targets]
        for split in (dataset.train, dataset.val)
        for sample in split
    ]
    return hashlib.sha256(json.dumps([dataset.labels, listed]).encode()).hexdigest()
