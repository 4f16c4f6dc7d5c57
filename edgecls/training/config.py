"""Everything that a training was told, so that it can be told again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgecls.data import LabelsFrom, Task  # noqa: TC001 - from_document resolves the annotations
from edgecls.training.augmentation import PRESETS, Augmentation
from edgecls.training.optimization import OptimizerName, ScheduleName  # noqa: TC001
from edgecls_runtime.preprocess import Preprocess

__all__ = ["DEFAULT_LR", "DEFAULT_WEIGHT_DECAY", "Normalization", "TrainingConfig"]

DEFAULT_LR: dict[OptimizerName, float] = {"adamw": 1e-3, "sgd": 1e-2, "rmsprop": 1e-3}
DEFAULT_WEIGHT_DECAY: dict[OptimizerName, float] = {"adamw": 0.05, "sgd": 1e-4, "rmsprop": 1e-5}
"""RMSprop's is that of torchvision's recipe for MobileNetV3, SGD's that of its classic recipe."""

Normalization: TypeAlias = Literal["auto"] | tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a training was told; saved as ``config.json`` in its run folder.

    Attributes:
        data: folder or list of pictures, as `data.find_samples` takes it.
        arch: the architecture.
        weights: ``default``, ``none``, a name of torchvision's, or a file.
        task, labels_from, val_split, labels: as `data.find_samples` takes them.
        strict: refuse unreadable pictures instead of leaving them out.
        allow_duplicates: accept the same picture in both splits.
        preprocess: instead of that of the weights.
        image_size: pixels; crop to this square, and resize in the proportion 256 : 224.
        mean, std: instead of the preprocess's; ``auto`` measures the pictures that are learnt from.
        augmentation: how pictures are varied.
        epochs: passes over the pictures.
        batch_size: pictures of one step of the optimizer, over all processes and micro-batches together.
        accumulate: micro-batches of a step, to save memory.
        freeze: ``features`` lets only the classifying head learn.
        unfreeze_after: epochs after which everything learns.
        optimizer, lr, backbone_lr_factor, weight_decay, momentum: as `optimization.make_optimizer` takes them.
        schedule, warmup_epochs, step_epochs, step_gamma: as `optimization.lr_factor` takes them, in epochs.
        clip_norm: longest gradient.
        label_smoothing, distillation, temperature: as in `losses.Criterion`.
        class_weights: ``balanced`` makes up for unequal classes in the loss.
        balanced_sampling: draw every class equally often.
        dropout, batchnorm_momentum: instead of the architecture's.
        ema: decay of the weights' moving average, which is then what is measured and kept.
        teacher: checkpoint to be drawn to.
        patience: epochs without a better result after which training ends.
        save_every: steps after which to save within an epoch, too.
        seed: of everything random.
        deterministic: let torch refuse operations whose result varies from run to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        amp: number format of automatic mixed precision.
        channels_last: memory format; twice as quick for depthwise convolutions on a CPU.
        compile: run the model through ``torch.compile``.
        sync_batchnorm: share batch norm's statistics among processes.
        workers: processes that load pictures; 0 loads them in between.
        tensorboard: write its event files, too.
    """

    data: str
    arch: str
    weights: str = "default"
    task: Task = "single"
    labels_from: LabelsFrom = "folder"
    val_split: float | None = None
    labels: tuple[str, ...] | None = None
    strict: bool = False
    allow_duplicates: bool = False
    preprocess: Preprocess | None = None
    image_size: int | None = None
    mean: Normalization = None
    std: Normalization = None
    augmentation: Augmentation = PRESETS["standard"]
    epochs: int = 15
    batch_size: int = 32
    accumulate: int = 1
    freeze: Literal["none", "features"] = "none"
    unfreeze_after: int | None = None
    optimizer: OptimizerName = "adamw"
    lr: float = DEFAULT_LR["adamw"]
    backbone_lr_factor: float = 0.1
    weight_decay: float = DEFAULT_WEIGHT_DECAY["adamw"]
    momentum: float = 0.9
    schedule: ScheduleName = "cosine"
    warmup_epochs: float = 1.0
    step_epochs: float = 5.0
    step_gamma: float = 0.1
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    distillation: float = 0.5
    temperature: float = 2.0
    class_weights: Literal["none", "balanced"] = "none"
    balanced_sampling: bool = False
    dropout: float | None = None
    batchnorm_momentum: float | None = None
    ema: float | None = None
    teacher: str | None = None
    patience: int | None = None
    save_every: int | None = None
    seed: int = 0
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    channels_last: bool = True
    compile: bool = False
    sync_batchnorm: bool = False
    workers: int = 2
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}, not a finite number")
        given = {"mean": self.mean, "std": self.std}
        numbers = {name: value for name, value in given.items() if isinstance(value, tuple)}
        Preprocess().replace(**numbers)  # which refuses numbers that cannot normalize
        if self.epochs < 1 or self.batch_size < 1 or self.accumulate < 1:
            raise ValueError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, accumulate {self.accumulate}: below 1"
            )
        if self.unfreeze_after is not None and self.freeze == "none":
            raise ValueError("unfreeze_after: there is nothing frozen (freeze is none)")
        if self.teacher is None and self.distillation != 0.5:
            raise ValueError("distillation: there is no teacher")
        if self.preprocess is not None and self.image_size is not None:
            raise ValueError("image_size and preprocess: both say the size")
