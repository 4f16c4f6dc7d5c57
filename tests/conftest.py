"""What the whole suite shares. Imports nothing beyond pytest: the runtime's tests run where torch is not."""

from __future__ import annotations

import faulthandler
import hashlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("EDGECLS_REAL_DATA") or REPOSITORY.parent / "shared" / "data")


def pytest_configure() -> None:
    """Turn what EDGECLS_REQUIRE names (packages, real_data) from a skip into a failure, for CI."""
    # A shell's background job is born with Ctrl-C ignored, and so would be what is tested in it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in filter(None, os.environ.get("EDGECLS_REQUIRE", "").split(",")):
        if not (REAL_DATA.is_dir() if name == "real_data" else importlib.util.find_spec(name)):
            raise pytest.UsageError(f"EDGECLS_REQUIRE names {name}, which is not here")


def pytest_unconfigure() -> None:
    """End a process that has nothing left to do and does not end: red, with what it waits for, instead of silent."""
    faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not REAL_DATA.is_dir():
        absent = pytest.mark.skip(reason=f"the real pictures and weights are not at {REAL_DATA}")
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(absent)


_CONVERTED: dict[str, bytes] = {}
_LARGE = 32 * 2**20  # bytes; AlexNet and VGG-16, which one test each converts


@pytest.fixture(autouse=True)
def converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch convert each network once: it takes seconds, and makes the same bytes again (`export/test_fp32.py`)."""
    fp32 = sys.modules.get("edgecls_export.fp32")  # the runtime's tests run where it is not
    if fp32 is None:
        return
    convert = fp32.onnx_from_torch

    def once(model: Any, path: Path, **options: Any) -> None:
        digest = hashlib.sha256(repr((model, sorted(options.items()))).encode())
        for name, tensor in model.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        known = digest.hexdigest()
        if known in _CONVERTED:
            Path(path).write_bytes(_CONVERTED[known])
            return
        convert(model, path, **options)
        if Path(path).stat().st_size < _LARGE:
            _CONVERTED[known] = Path(path).read_bytes()

    monkeypatch.setattr(fp32, "onnx_from_torch", once)


@pytest.fixture
def real_data() -> Path:
    """The folder of real pictures and weights; for tests marked real_data."""
    return REAL_DATA


@pytest.fixture
def models() -> Path:
    """The folder of tiny models."""
    return REPOSITORY / "tests" / "models"
