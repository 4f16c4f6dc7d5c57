"""ONNX Runtime's package, before any session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime

from edgecls_runtime.backends.onnxruntime import import_onnxruntime

if TYPE_CHECKING:
    import pytest


def test_it_is_told_to_report_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append("disable"))
    assert import_onnxruntime() is onnxruntime
    assert told == ["disable"]
