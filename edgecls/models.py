"""The architectures: AlexNet, VGG-16, MobileNet V2 and V3, and every other classifier of torchvision.

>>> model = build("mobilenet_v2", num_classes=10)
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from edgecls_runtime.errors import CheckpointError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor


__all__ = [
    "FIRST_CLASS",
    "arch_names",
    "assemble",
    "build",
    "canonical_state_dict",
    "check_arch",
    "head_tensors",
    "skeleton",
]

FIRST_CLASS = ("alexnet", "vgg16", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
"""The architectures that are measured and tuned for; the others build, train and export by the same code."""

# torchvision's published weights of these two come with transform_input=True (the network turns ImageNet's
# normalization into its own), so one preset serves every arch; their auxiliary heads only serve training.
_AUXILIARY = ("googlenet", "inception_v3")

_AUXILIARY_OPTIONS = {"aux_logits": False, "init_weights": True, "transform_input": True}

_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")

# Layouts of old state dicts, as torchvision's own densenet.py and vision_transformer.py (MLPBlock) read them.
_RENAMED = (
    (re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$"), r"\1\2"),
    (re.compile(r"^(.*\.mlp)\.linear_1\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^(.*\.mlp)\.linear_2\.(weight|bias)$"), r"\1.3.\2"),
)


def arch_names() -> tuple[str, ...]:
    """Return every architecture's name, the first-class ones first, the others in alphabetical order."""
    every: list[str] = torchvision.models.list_models(module=torchvision.models)
    return FIRST_CLASS + tuple(name for name in sorted(every) if name not in FIRST_CLASS)


def check_arch(arch: str) -> None:
    """Refuse a name that is not an architecture's.

    Raises:
        ModelError: names the nearest ones.
    """
    names = arch_names()
    if arch in names:
        return
    nearest = difflib.get_close_matches(arch.lower().replace("-", "_"), names)
    advice = f"Did you mean {', '.join(nearest)}? " if nearest else ""
    raise ModelError(
        f"{arch!r} is not an architecture", f"{advice}`edgecls models --all` lists the {len(names)} there are."
    )


def build(arch: str, *, num_classes: int = 1000, image_size: int | None = None, seed: int = 0) -> nn.Module:
    """Build an architecture with torchvision's random initialization, in eval mode, on the CPU.

    Args:
        arch: a name out of `arch_names`.
        num_classes: outputs of the head.
        image_size: pixels; only Vision Transformers (``vit_*``) are made for one size. The default preset's
            crop if None.
        seed: the same seed gives the same weights; the caller's random state stays as it was.

    Returns:
        A network from float32 [N, 3, H, W] to logits, float32 [N, num_classes].

    Raises:
        ModelError: there is no such architecture, or it does not take pictures of this size.
    """
    # Only the CPU's generator is touched: `torch.manual_seed` would reseed the caller's GPUs as well.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return _construct(arch, num_classes, image_size)


def skeleton(arch: str, *, num_classes: int = 1000, image_size: int | None = None) -> nn.Module:
    """Build an architecture on the meta device: names, shapes and dtypes, but no memory and no values.

    Raises:
        ModelError: there is no such architecture.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), _Weightless():
        return _construct(arch, num_classes, image_size).to("meta")


def assemble(
    arch: str, state_dict: Mapping[str, Tensor], *, num_classes: int, image_size: int | None = None
) -> nn.Module:
    """Build an architecture from its weights, copied, in eval mode; a random start would only cost seconds.

    Args:
        arch: a name out of `arch_names`.
        state_dict: names and shapes of `skeleton`'s, without exception.
        num_classes: outputs of the head.
        image_size: as for `build`.

    Raises:
        ModelError: there is no such architecture.
        CheckpointError: a name or a shape does not fit.
    """
    # Every buffer of every torchvision classifier is part of its state dict, so nothing stays uninitialized.
    model = skeleton(arch, num_classes=num_classes, image_size=image_size).to_empty(device="cpu")
    own = model.state_dict()
    for name in [*own, *state_dict]:
        if name not in own or name not in state_dict or own[name].shape != state_dict[name].shape:
            raise CheckpointError(
                f"the weights do not fit {arch} with {num_classes} classes: see {name}",
                "Use the weights of this architecture, and as many labels as they have classes.",
            )
        with torch.no_grad():
            own[name].copy_(state_dict[name])
    return model


def head_tensors(arch: str, *, image_size: int | None = None) -> tuple[str, ...]:
    """Return the names of the tensors whose shape depends on the number of classes: the last layer's."""
    few, more = (skeleton(arch, num_classes=classes, image_size=image_size).state_dict() for classes in (2, 3))
    return tuple(name for name in few if few[name].shape != more[name].shape)


def canonical_state_dict(arch: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a state dict of any torchvision version to the names of today's model.

    Old names of DenseNet and Vision Transformer layers change, auxiliary heads of GoogLeNet and Inception go,
    and the batch norm counters that came with PyTorch 0.4.1 are added (nothing reads them in eval mode).
    """
    canonical = {}
    for old, tensor in state_dict.items():
        if arch in _AUXILIARY and old.startswith(_AUXILIARY_HEADS):
            continue
        name = old
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        canonical[name] = tensor
        layer, _, kind = name.rpartition(".")
        if kind == "running_mean":
            canonical.setdefault(f"{layer}.num_batches_tracked", torch.tensor(0))
    return canonical


def _construct(arch: str, num_classes: int, image_size: int | None) -> nn.Module:
    check_arch(arch)
    options: dict[str, Any] = dict(_AUXILIARY_OPTIONS) if arch in _AUXILIARY else {}
    if arch.startswith("vit_"):
        size = image_size or torchvision.models.get_model_weights(arch).DEFAULT.transforms().crop_size[0]
        patch = int(arch.rpartition("_")[2])
        if size % patch:
            raise ModelError(
                f"{arch} does not take pictures of {size}x{size}: it cuts them into patches of {patch}x{patch}",
                f"Choose a multiple of {patch} for the image size.",
            )
        options["image_size"] = size
    model: nn.Module = torchvision.models.get_model(arch, weights=None, num_classes=num_classes, **options)
    return model.eval()


class _Weightless(TorchFunctionMode):
    """Put what layers allocate for their weights on the meta device.

    ``torch.device("meta")`` alone would also take the arithmetic by which RegNet finds its widths.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
