from __future__ import annotations

import pytest
import torch

from edgecls.distributed import Process, joined, pick_device
from edgecls_runtime.errors import ProviderError, TrainingError


@pytest.fixture
def machine(monkeypatch):
    """Return what makes this machine one with so many GPUs, with or without an Apple one."""

    def machine(*, cuda: int = 0, mps: bool = False, built: str | None = "12.8") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", built)

    return machine


@pytest.mark.parametrize(
    ("has", "name", "device"),
    [
        ({}, "auto", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 1}, "auto", "cuda:0"),
        ({"cuda": 1, "mps": True}, "auto", "cuda:0"),
        ({"cuda": 2, "mps": True}, "cpu", "cpu"),
        ({"mps": True}, "mps", "mps"),
        ({"cuda": 1}, "cuda", "cuda:0"),
    ],
)
def test_devices(machine, has, name, device):
    machine(**has)
    assert pick_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_machine_has_its_own_gpu(machine, name):
    machine(cuda=4)
    assert pick_device(name, 3) == torch.device("cuda", 3)
    with pytest.raises(ProviderError, match="process 4 of this machine finds 4 GPUs") as caught:
        pick_device(name, 4)
    assert "torchrun --nproc-per-node" in caught.value.remedy


@pytest.mark.parametrize(("built", "words"), [("12.8", "is built for CUDA 12.8"), (None, "is built without CUDA")])
def test_cuda_that_is_not_there_is_refused_not_replaced(machine, built, words):
    machine(mps=True, built=built)
    with pytest.raises(ProviderError, match=f"device cuda: torch finds no CUDA GPU .*{words}") as caught:
        pick_device("cuda")
    assert "--device cpu" in caught.value.remedy


def test_mps_that_is_not_there_is_refused(machine):
    machine(cuda=1)
    with pytest.raises(ProviderError, match="device mps: torch finds no Apple GPU"):
        pick_device("mps")


@pytest.fixture
def alone(monkeypatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_the_only_process(alone):
    with joined("cpu") as here:
        assert here == Process(0, 1, torch.device("cpu"))
        assert here.is_first
        assert here.from_first({"a": 1}) == {"a": 1}
        assert here.gather("x") == ["x"]
        assert torch.equal(here.sum(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))
        assert not torch.distributed.is_initialized()


def test_the_first_process_is_the_one_of_rank_0():
    assert [Process(rank, 3, torch.device("cpu")).is_first for rank in range(3)] == [True, False, False]


def test_torchrun_with_one_process_needs_no_others(alone, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1" if name == "WORLD_SIZE" else "0")
    with joined("cpu") as here:
        assert (here.rank, here.world) == (0, 1)
        assert not torch.distributed.is_initialized()


def test_processes_that_torchrun_did_not_start_are_told_what_is_missing(alone, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes cannot find each other: .*RANK") as caught, joined("cpu"):
        pass
    assert "torchrun" in caught.value.remedy
    assert not torch.distributed.is_initialized()


def test_the_device_is_asked_for_before_the_processes_meet(alone, machine, monkeypatch):
    machine()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProviderError, match="device cuda"), joined("cuda"):
        pass
