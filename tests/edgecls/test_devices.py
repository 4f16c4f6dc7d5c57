from __future__ import annotations

import pytest
import torch

from edgecls.devices import choose_device
from edgecls_runtime.errors import ProviderError


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
    assert choose_device(name) == torch.device(device)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_machine_has_its_own_gpu(machine, name):
    machine(cuda=4)
    assert choose_device(name, 3) == torch.device("cuda", 3)
    with pytest.raises(ProviderError, match="process 5 of this machine finds 4 GPUs") as caught:
        choose_device(name, 4)
    assert "torchrun --nproc-per-node" in caught.value.remedy


@pytest.mark.parametrize(("built", "words"), [("12.8", r"\(CUDA 12.8\) finds no GPU"), (None, "is built without CUDA")])
def test_cuda_that_is_not_there_is_refused_not_replaced(machine, built, words):
    machine(mps=True, built=built)
    with pytest.raises(ProviderError, match=f"device cuda: torch .*{words}") as caught:
        choose_device("cuda")
    assert "--device cpu" in caught.value.remedy


def test_mps_that_is_not_there_is_refused(machine):
    machine(cuda=1)
    with pytest.raises(ProviderError, match="device mps: torch .* finds no Apple GPU"):
        choose_device("mps")
