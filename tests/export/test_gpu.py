from __future__ import annotations

import ctypes
from typing import Any

import pytest

from edgecls_export import gpu
from edgecls_export.gpu import Gpu, find_gpu


class Driver:
    """The calls of libcuda that are made, for a machine with some GPUs."""

    def __init__(self, count: int, failing: str = "") -> None:
        self.count, self.failing = count, failing

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.failing:
                return 100  # CUDA_ERROR_NO_DEVICE
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = self.count
            elif name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA H200"
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
            return 0

        return call


@pytest.mark.parametrize(
    ("driver", "found"),
    [
        (Driver(2), Gpu("NVIDIA H200", "9.0")),
        (Driver(0), None),
        (Driver(1, failing="cuInit"), None),
        (Driver(1, failing="cuDeviceGetAttribute"), None),
    ],
)
def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, driver: Driver, found: Gpu | None) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert find_gpu() == found


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert gpu.find_gpu() is None
