"""Where PyTorch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from edgecls_runtime.errors import ProviderError

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "choose_device"]

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(device: Device, local_rank: int = 0) -> torch.device:
    """Return the device that was asked for, strictly; ``auto`` takes CUDA, else MPS, else the CPU.

    Args:
        device: its name.
        local_rank: which of a machine's processes this is: the number of its GPU.

    Raises:
        ProviderError: it is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(name for name in there if there[name]) if device == "auto" else device
    if name == "cuda" and there["cuda"]:
        if local_rank >= torch.cuda.device_count():
            raise ProviderError(
                f"device cuda: process {local_rank + 1} of this machine finds {torch.cuda.device_count()} GPUs",
                "Start one process for each GPU: torchrun --nproc-per-node",
            )
        return torch.device("cuda", local_rank)
    if there[name]:
        return torch.device(name)
    if name == "mps":
        raise ProviderError(
            f"device mps: torch {torch.__version__} finds no Apple GPU", "Run with --device auto, or --device cpu."
        )
    if torch.version.cuda is None:
        raise ProviderError(
            f"device cuda: torch {torch.__version__} is built without CUDA",
            "Install a build for this driver (pytorch.org, Get Started), or run with --device cpu.",
        )
    raise ProviderError(
        f"device cuda: torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU it can use",
        "See what `nvidia-smi` and `edgecls doctor` say, or run with --device cpu.",
    )
