from __future__ import annotations

import pytest
import torch

from edgecls.training.distributed import Process, joined
from edgecls_runtime.errors import ProviderError, TrainingError


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
