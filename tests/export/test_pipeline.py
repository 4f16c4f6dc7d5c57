from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecls_export import fp32, pipeline
from edgecls_export.pipeline import ModelCard, export_onnx
from edgecls_export.provenance import parity_of
from edgecls_runtime import Classifier, golden, manifest
from edgecls_runtime.errors import EdgeclsError, ExportError, OutputError, ParityError, VerificationError


def test_the_file_carries_all_that_a_device_needs(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    steps: list[str] = []
    report = export_onnx(network, tmp_path / "m.onnx", card, progress=steps.append)
    assert steps == ["convert", "parity", "golden outputs", "verify"]
    assert os.listdir(tmp_path) == ["m.onnx"]
    document = manifest.read(tmp_path / "m.onnx")
    assert document == report.manifest
    assert document is not None
    agreement = parity_of(document)
    assert agreement is not None
    assert agreement.images == 64
    assert agreement.max_relative_diff < 1e-5
    assert (document.labels, document.preprocess, document.metrics) == (card.labels, card.preprocess, card.metrics)
    assert document.tools["torch"] == torch.__version__.partition("+")[0]
    assert golden.verify(tmp_path / "m.onnx")

    picture = golden.draw_picture(2)
    with Classifier.load(tmp_path / "m.onnx") as classifier, torch.no_grad():
        from edgecls_runtime.preprocess import load

        expected = network.eval()(torch.from_numpy(load(picture, card.preprocess)[None]))[0]
        np.testing.assert_allclose(classifier.logits(picture), expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    network.train()
    network[1].eval()  # as with a frozen batch norm
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_onnx(network, tmp_path / "m.onnx", card, batch_size=2)
    assert [module.training for module in network] == [True, False, True, True, True, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


Damage = Callable[[onnx.ModelProto], None]


def one_weight(model: onnx.ModelProto) -> None:
    (weight,) = (item for item in model.graph.initializer if numpy_helper.to_array(item).ndim == 4)
    values = numpy_helper.to_array(weight).copy()
    values.flat[17] *= -1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def lost_activation(model: onnx.ModelProto) -> None:
    (relu,) = (node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Abs"


def normalized_twice(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Div", ["input", "std"], ["normalized"])
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, 3, 1, 1), 0.226, np.float32), "std"))
    next(item for item in model.graph.node if item.op_type == "Conv").input[0] = "normalized"
    model.graph.node.insert(0, node)


def turned_outputs(model: onnx.ModelProto) -> None:
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        if 5 in values.shape:
            turned = np.roll(values, 1, axis=values.shape.index(5))
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(turned), item.name))


@pytest.mark.parametrize("damage", [one_weight, lost_activation, normalized_twice, turned_outputs])
@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_graph_leaves_no_file(
    network: nn.Module, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage, force: bool
) -> None:
    """A converter with a bug: what it makes loads and runs, and is not the model."""
    right = fp32.onnx_from_torch

    def buggy(model: nn.Module, path: Path, **options: object) -> None:
        right(model, path, **options)  # type: ignore[arg-type]
        proto = onnx.load(path)
        damage(proto)
        onnx.save(proto, path)

    monkeypatch.setattr(fp32, "onnx_from_torch", buggy)
    target = tmp_path / "m.onnx"
    if force:
        target.write_bytes(b"the old model")
    with pytest.raises(ParityError, match="the artifact does not agree with PyTorch on 64 pictures"):
        export_onnx(network, target, card, force=force)
    assert os.listdir(tmp_path) == (["m.onnx"] if force else [])
    assert not force or target.read_bytes() == b"the old model"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"labels": ("bee", "cat", "dog", "eel", "ant")}, VerificationError),
        ({"activation": "sigmoid", "thresholds": (0.5,) * 5}, VerificationError),
        ({"preprocess": "swapped"}, ParityError),
    ],
)
def test_a_manifest_that_says_something_else_leaves_no_file(
    network: nn.Module,
    card: ModelCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    error: type[EdgeclsError],
) -> None:
    """A bug between the card and the file: labels shifted by one, mean and std swapped."""
    right = manifest.write
    if changes.get("preprocess") == "swapped":
        changes = {"preprocess": card.preprocess.replace(mean=card.preprocess.std, std=card.preprocess.mean)}

    def buggy(document: manifest.Manifest, source: Path, target: Path) -> None:
        right(dataclasses.replace(document, **changes), source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "write", buggy)
    with pytest.raises(error, match=r"m\.onnx: contract: " if error is VerificationError else "does not agree"):
        export_onnx(network, tmp_path / "m.onnx", card)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".engine", ".plan"])
def test_no_onnx_file_is_called_an_engine(network: nn.Module, card: ModelCard, tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match="is called an engine, and an ONNX file is made\nLet it end in .onnx"):
        export_onnx(network, tmp_path / f"m{suffix}", card)


def test_an_existing_file_stops_before_any_work(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"old")
    steps: list[str] = []
    with pytest.raises(OutputError, match="exists already"):
        export_onnx(network, tmp_path / "m.onnx", card, progress=steps.append)
    assert steps == []


def test_a_card_that_does_not_fit_is_refused(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"returns \[1, 5\] for one picture, and there are 2 labels"):
        export_onnx(network, tmp_path / "m.onnx", dataclasses.replace(card, labels=("a", "b")))
    small = card.preprocess.replace(crop_size=(4, 4))
    with pytest.raises(ExportError, match=r"does not take float32 \[1, 3, 4, 4\]: "):
        export_onnx(network, tmp_path / "m.onnx", dataclasses.replace(card, preprocess=small))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b\nc", "d", "e", "f")}, r"card: labels\[1\]: .* holds a control character"),
        ({"labels": ("a", "\ud800", "d", "e", "f")}, r"card: labels\[1\]: .* holds a control character"),
        ({"labels": range(5)}, r"card: labels\[0\]: is 0, not of type str"),
        ({"activation": "tanh"}, "card: activation: is .*tanh.*, not one of softmax, sigmoid"),
        ({"activation": "sigmoid"}, "card: thresholds: go with activation sigmoid alone"),
        ({"activation": "sigmoid", "thresholds": (0.5,) * 4}, "card: thresholds: has 4 values for 5 labels"),
        ({"thresholds": (0.5,) * 5}, r"card: thresholds: go with .* \(activation is softmax\)"),
        ({"metrics": {"acc@1": np.float32(3)}}, "card: .*float32 is not JSON serializable\nGive .* numbers as finite"),
        ({"metrics": {"acc@1": float("nan")}}, "card: Out of range float values"),
    ],
)
def test_what_no_manifest_can_say_is_refused_before_any_work(
    network: nn.Module, card: ModelCard, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    steps: list[str] = []
    with pytest.raises(ExportError, match=message):
        export_onnx(network, tmp_path / "m.onnx", dataclasses.replace(card, **changes), progress=steps.append)
    assert (os.listdir(tmp_path), steps) == ([], [])


def test_no_batch_of_nothing(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="batch_size: is 0\nGive 1 or more"):
        export_onnx(network, tmp_path / "m.onnx", card, batch_size=0)


class ReturnsTwo(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_a_model_that_returns_two_things_is_refused(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="returns tuple, not one tensor of logits"):
        export_onnx(ReturnsTwo(), tmp_path / "m.onnx", card)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_broken_weights_are_named_before_any_work(
    network: nn.Module, card: ModelCard, tmp_path: Path, value: str
) -> None:
    with torch.no_grad():
        network[-1].bias[0] = float(value)
    steps: list[str] = []
    with pytest.raises(ExportError, match=f"returns logits from .*{value}.*\n.* broken: 6.bias holds NaN or infinity"):
        export_onnx(network, tmp_path / "m.onnx", card, progress=steps.append)
    assert (os.listdir(tmp_path), steps) == ([], [])


def test_a_nan_that_only_some_pictures_meet_is_no_parity(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sqrt()

    with pytest.raises(EdgeclsError, match="nan"):
        export_onnx(nn.Sequential(Root(), network), tmp_path / "m.onnx", card)
    assert os.listdir(tmp_path) == []


class Refuses(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise {"value": ValueError("another size"), "assertion": AssertionError}[self.how]


@pytest.mark.parametrize(("how", "reason"), [("value", "ValueError: another size"), ("assertion", "AssertionError")])
def test_a_model_refuses_the_crop_in_its_own_way(card: ModelCard, tmp_path: Path, how: str, reason: str) -> None:
    model = Refuses(3, 5)
    model.how = how  # type: ignore[assignment]
    with pytest.raises(ExportError, match=rf"does not take float32 \[1, 3, 32, 32\]: {reason}\nGive the preprocess"):
        export_onnx(model, tmp_path / "m.onnx", card)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (nn.Module.half, r"Give model.float\(\): 0.weight is torch.float16"),
        (nn.Module.double, r"Give model.float\(\): 0.weight is torch.float64"),
        (lambda model: model.to("meta"), "Load the weights: 0.weight is on the device meta"),
    ],
)
def test_a_model_of_another_type_is_told_how_to_become_float32(
    network: nn.Module, card: ModelCard, tmp_path: Path, change: Callable[[nn.Module], nn.Module], remedy: str
) -> None:
    with pytest.raises(ExportError, match=remedy):
        export_onnx(change(network), tmp_path / "m.onnx", card)


def test_the_pictures_can_be_ones_own(
    network: nn.Module, card: ModelCard, tmp_path: Path, pictures: list[tuple[str, np.ndarray]]
) -> None:
    report = export_onnx(network, tmp_path / "m.onnx", card, images=pictures, image_set="my seven")
    agreement = parity_of(report.manifest)
    assert agreement is not None
    assert (agreement.images, agreement.image_set) == (7, "my seven")
    assert "7 pictures (my seven)" in str(report)


def test_a_full_disk_leaves_no_file(
    network: nn.Module, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pipeline.manifest, "write", full)
    with pytest.raises(OutputError, match="m.onnx: the disk is full"):
        export_onnx(network, tmp_path / "m.onnx", card)
    assert os.listdir(tmp_path) == []
