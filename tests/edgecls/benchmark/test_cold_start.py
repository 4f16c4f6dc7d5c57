from __future__ import annotations

from pathlib import Path

import pytest

from edgecls.benchmark import cold_start_process
from edgecls.benchmark.cold_start import start_cold
from edgecls.benchmark.worker import Order
from edgecls_runtime import Classifier
from edgecls_runtime.backends import onnxruntime, openvino
from edgecls_runtime.errors import BenchmarkError


def test_a_cold_start_is_the_sum_of_its_parts(models: Path, pictures: tuple[str, ...]) -> None:
    start = start_cold(Order(model=str(models / "tiny.onnx"), pictures=pictures))
    parts = (start.process_ms, start.import_ms, start.load_ms, start.first_ms)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(start.total_ms)
    assert start.import_ms > start.process_ms  # numpy, Pillow and the engine, against nothing but Python itself
    assert start.peak_rss_bytes > 20_000_000


def test_a_foreign_model_starts_too_and_a_failure_says_why(models: Path, pictures: tuple[str, ...]) -> None:
    assert start_cold(Order(model=str(models / "foreign.onnx"), pictures=pictures)).first_ms > 0
    with pytest.raises(BenchmarkError, match=r"nan\.onnx: the process of a cold start failed: .*returned nan"):
        start_cold(Order(model=str(models / "nan.onnx"), pictures=pictures))


@pytest.mark.parametrize(
    ("model", "provider", "imported"),
    [("m.onnx", "cpu", ["onnxruntime"]), ("m.onnx", "openvino", ["openvino"]), ("m.engine", "tensorrt", [])],
)
def test_the_engine_is_imported_before_the_model_is_loaded(
    model: str, provider: str, imported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def load(*_: object, **__: object) -> None:
        raise BenchmarkError(f"loaded after {calls}", "")

    monkeypatch.setattr(onnxruntime, "import_onnxruntime", lambda: calls.append("onnxruntime"))
    monkeypatch.setattr(openvino, "import_openvino", lambda: calls.append("openvino"))
    monkeypatch.setattr(Classifier, "load", load)
    with pytest.raises(BenchmarkError, match="loaded after"):
        cold_start_process.main({"model": model, "picture": "a.jpg", "provider": provider, "settings": {}})
    assert calls == imported
