from __future__ import annotations

from typing import Any

import pytest

from edgecls.benchmark.setups import orders_for
from edgecls_runtime.backends.settings import SessionSettings
from edgecls_runtime.errors import BenchmarkError, ProviderError


def setups(**asked: Any) -> list[tuple[str, str, int | None, int | None]]:
    return [
        (order.scenario, order.placement.provider, order.batch_size, order.placement.threads)
        for order in orders_for("m.onnx", ("a.jpg",), **asked)
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [("singlestream", "cpu", None, None)]),
        ({"batch_sizes": (1,)}, [("singlestream", "cpu", None, None)]),
        ({"batch_sizes": (1, 8)}, [("singlestream", "cpu", None, None), ("multistream", "cpu", 8, None)]),
        ({"scenarios": ("multistream",)}, [("multistream", "cpu", None, None)]),
        ({"scenarios": ("multistream",), "batch_sizes": (1,)}, [("multistream", "cpu", 1, None)]),
        (
            {"scenarios": ("singlestream", "offline"), "batch_sizes": (2, 4)},
            [("singlestream", "cpu", None, None), ("offline", "cpu", 2, 1), ("offline", "cpu", 4, 1)],
        ),
        ({"scenarios": ("offline",)}, [("offline", "cpu", None, 1)]),
        ({"scenarios": ("engine",), "batch_sizes": (1, 8)}, [("engine", "cpu", 1, None), ("engine", "cpu", 8, None)]),
        ({"scenarios": ("offline",), "threads": (2,)}, [("offline", "cpu", None, 2)]),
        ({"scenarios": ("offline",), "providers": ("openvino",)}, [("offline", "openvino", None, None)]),
        (
            {"providers": ("cpu", "openvino"), "threads": (1, 2)},
            [("singlestream", provider, None, threads) for provider in ("cpu", "openvino") for threads in (1, 2)],
        ),
    ],
)
def test_all_combinations_each_once(asked: dict[str, Any], expected: list[Any]) -> None:
    assert setups(**asked) == expected


def test_an_engine_runs_on_tensorrt_and_settings_must_fit() -> None:
    (order,) = orders_for("m.engine", ("a.jpg",), trust=True, engine_cache="cache")
    assert (order.placement.provider, order.trust, order.engine_cache) == ("tensorrt", True, "cache")
    (order,) = orders_for("m.onnx", ("a.jpg",), settings=SessionSettings(spinning=False))
    assert order.placement.settings.spinning is False
    with pytest.raises(ProviderError, match="provider openvino: has no setting spinning"):
        orders_for("m.onnx", ("a.jpg",), providers=("cpu", "openvino"), settings=SessionSettings(spinning=False))


def test_an_engine_that_is_built_at_every_start_must_be_kept() -> None:
    with pytest.raises(BenchmarkError, match="builds an engine"):
        orders_for("m.onnx", ("a.jpg",), providers=("cpu", "tensorrt"))
    assert len(orders_for("m.onnx", ("a.jpg",), providers=("cpu", "tensorrt"), engine_cache="cache")) == 2
