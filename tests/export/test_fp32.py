from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf.message import EncodeError
from torch import nn

from edgecls_export import fp32
from edgecls_export.fp32 import onnx_from_torch
from edgecls_runtime import onnx_file
from edgecls_runtime.errors import ExportError


def run(path: Path, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"input": batch})[0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_batch_axis_is_free(network: nn.Module, tmp_path: Path, count: int) -> None:
    network.eval()
    onnx_from_torch(network, tmp_path / "m.onnx", crop_size=(32, 32))
    batch = torch.randn(count, 3, 32, 32)
    with torch.no_grad():
        np.testing.assert_allclose(run(tmp_path / "m.onnx", batch.numpy()), network(batch), rtol=1e-4, atol=1e-5)


def test_names_opset_and_one_file(network: nn.Module, tmp_path: Path) -> None:
    onnx_from_torch(network.eval(), tmp_path / "m.onnx", crop_size=(40, 32), opset=17 + 2)
    header = onnx_file.read_header(tmp_path / "m.onnx")
    assert [str(info) for info in (*header.inputs, *header.outputs)] == [
        "input: float32 [batch, 3, 40, 32]",
        "logits: float32 [batch, 5]",
    ]
    assert header.opset == 19
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_fixed_batch_size(network: nn.Module, tmp_path: Path) -> None:
    onnx_from_torch(network.eval(), tmp_path / "m.onnx", crop_size=(32, 32), batch_size=3)
    assert str(onnx_file.read_header(tmp_path / "m.onnx").inputs[0]) == "input: float32 [3, 3, 32, 32]"


def test_nothing_of_this_machine_stays_in_the_file(network: nn.Module, tmp_path: Path) -> None:
    onnx_from_torch(network.eval(), tmp_path / "m.onnx", crop_size=(32, 32))
    content = (tmp_path / "m.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
    assert {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node} >= {"Conv", "Gemm"}


def test_the_same_model_makes_the_same_bytes(network: nn.Module, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        onnx_from_torch(network.eval(), tmp_path / name, crop_size=(32, 32))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


class DependsOnValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_what_torch_cannot_convert_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="export to opset 18: torch cannot convert the model: .*data-dependent"):
        onnx_from_torch(DependsOnValues(), tmp_path / "m.onnx", crop_size=(32, 32))
    assert list(tmp_path.iterdir()) == []


def test_an_onnxscript_that_is_too_old_is_named(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: object, **__: object) -> None:
        name = "onnxscript._framework_apis.torch_2_11"
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ExportError, match=r"No module named 'onnxscript.*\n.*pip install --upgrade onnxscript"):
        onnx_from_torch(network, tmp_path / "m.onnx", crop_size=(32, 32))


def test_an_opset_that_torch_cannot_make_is_an_error_not_another_opset(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="opset 99"):
        onnx_from_torch(network.eval(), tmp_path / "m.onnx", crop_size=(32, 32), opset=99)
    assert list(tmp_path.iterdir()) == []


def test_what_wraps_a_model_is_named(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot convert.*\nExport what OptimizedModule wraps: model._orig_mod"):
        onnx_from_torch(torch.compile(network.eval()), tmp_path / "m.onnx", crop_size=(32, 32))  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="cannot convert.*\nExport what DataParallel wraps: model.module"):
        onnx_from_torch(nn.DataParallel(network), tmp_path / "m.onnx", crop_size=(32, 32))


class Large:
    """A model of 3 GB, as protobuf sees it."""

    graph = SimpleNamespace(initializer=[SimpleNamespace(raw_data=range(3 * 10**9))])

    def ByteSize(self) -> int:  # noqa: N802
        raise EncodeError("Failed to serialize proto")


def test_a_model_over_2_gb_is_refused() -> None:
    with pytest.raises(ExportError, match="the model is 3,000,000,000 bytes, and one ONNX file holds 2,147,483,647"):
        fp32._check_size(Large())  # type: ignore[arg-type]
