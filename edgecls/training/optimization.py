"""What moves the weights: parameter groups, optimizer, schedule, and their moving average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

__all__ = ["OptimizerName", "ScheduleName", "lr_factor", "make_ema", "make_optimizer", "make_schedule"]

OptimizerName: TypeAlias = Literal["sgd", "adamw", "rmsprop"]
ScheduleName: TypeAlias = Literal["cosine", "step", "constant"]


def make_optimizer(
    model: nn.Module,
    *,
    head: str,
    name: OptimizerName,
    lr: float,
    backbone_lr_factor: float,
    weight_decay: float,
    momentum: float,
) -> Optimizer:
    """Return an optimizer over all parameters, those that are frozen now included.

    Biases and the scales and shifts of normalization layers (parameters of one dimension) do not decay: they do
    not overfit, and a decayed scale only fights the next layer (He et al. 2018, "Bag of Tricks", section 3.1).

    Args:
        model: the network.
        head: name of the child that classifies.
        name: of the optimizer; RMSprop with torchvision's constants for MobileNetV3.
        lr: learning rate of the head.
        backbone_lr_factor: what the rest learns at, as a share of it.
        weight_decay: of weight matrices and filters.
        momentum: of SGD (Nesterov's) and RMSprop.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter_name, parameter in model.named_parameters():
        key = parameter_name.startswith(f"{head}."), parameter.ndim > 1
        groups.setdefault(key, []).append(parameter)
    options = [
        {
            "params": parameters,
            "lr": lr * (1 if in_head else backbone_lr_factor),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (in_head, decays), parameters in groups.items()
    ]
    if name == "adamw":
        return torch.optim.AdamW(options)
    if name == "rmsprop":
        return torch.optim.RMSprop(options, alpha=0.9, eps=0.0316, momentum=momentum)
    return torch.optim.SGD(options, momentum=momentum, nesterov=momentum > 0)


def lr_factor(
    step: int, *, steps: int, schedule: ScheduleName, warmup_steps: int, step_every: int, step_gamma: float
) -> float:
    """Return the learning rate at a step as a share of the full one.

    Rises linearly during the warm-up (Goyal et al. 2017), then: ``cosine`` falls to 0 along half a period
    (Loshchilov & Hutter 2016), ``step`` is multiplied by ``step_gamma`` every ``step_every`` steps.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "cosine":
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    if schedule == "step":
        return float(step_gamma ** (step // step_every))
    return 1.0


def make_schedule(optimizer: Optimizer, **options: Any) -> LambdaLR:
    """Return a schedule to be advanced after every step; the options are those of `lr_factor`."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, **options))


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of the weights and of batch norm's statistics.

    The decay of step n is ``min(decay, (1 + n) / (10 + n))``, so that a short training is not averaged with its own
    beginning (TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).
    """

    def average(averaged: tuple[Tensor, ...], current: tuple[Tensor, ...], count: Tensor | int) -> None:
        n = int(count)
        share = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)  # batch norm's counters

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
