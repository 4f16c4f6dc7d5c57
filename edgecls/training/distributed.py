"""One training in several processes: what `torchrun` starts, one for each GPU or share of a CPU."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed

from edgecls.devices import choose_device
from edgecls_runtime.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from edgecls.devices import Device

__all__ = ["Process", "joined"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Process:
    """This process among those that train together.

    Attributes:
        rank: its number; 0 writes all files.
        world: how many there are.
        device: where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def from_first(self, value: Value | None) -> Value:
        """Return the first process's value in every process."""
        box = [value]
        if self.world > 1:
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def gather(self, value: Value) -> list[Value]:
        """Return every process's value, in the order of their ranks, in every process."""
        if self.world == 1:
            return [value]
        values: list[Value | None] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, on the CPU."""
        if self.world == 1:
            return tensor
        tensor = tensor.to(self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.cpu()


@contextlib.contextmanager
def joined(device: Device) -> Iterator[Process]:
    """Join the processes that ``torchrun`` started (its environment variables say how), or be the only one.

    Raises:
        ProviderError: the device is not there.
        TrainingError: the processes do not find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    place = choose_device(device, local_rank)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Process(0, 1, place)
        return
    try:
        torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"{world} processes cannot find each other: {str(error).splitlines()[0]}",
            "Start them with torchrun, which sets MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE.",
        ) from error
    try:
        yield Process(rank, world, place)
    finally:
        torch.distributed.destroy_process_group()
