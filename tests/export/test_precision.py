"""The pipeline in half precision and in integers."""

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

from edgecls_export import fp32, pipeline, precision
from edgecls_export.budget import Budget, Judge
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.calibrators import Mse
from edgecls_export.drawn import draw_pictures
from edgecls_export.pipeline import ModelCard, export_all, export_onnx
from edgecls_export.precision import Fp16, Fp32, Int8
from edgecls_export.provenance import calibration_of
from edgecls_runtime import Classifier, golden, manifest
from edgecls_runtime.errors import EdgeclsError, ExportError, OutputError, ParityError
from edgecls_runtime.preprocess import load

Pictures = list[tuple[str, np.ndarray]]


@pytest.fixture
def network() -> nn.Module:
    """Answers the pictures with logits that differ."""
    torch.manual_seed(4)
    convolution = [nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU6()]
    depthwise = [nn.Conv2d(16, 16, 3, groups=16, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*convolution, *depthwise, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


def test_several_precisions_from_one_conversion(
    network: nn.Module,
    card: ModelCard,
    images: CalibrationImages,
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversions: list[Path] = []
    right = fp32.onnx_from_torch
    right(network, tmp_path / "names.onnx", crop_size=(32, 32))
    depthwise = [node.name for node in onnx.load(tmp_path / "names.onnx").graph.node if node.op_type == "Conv"][1]
    (tmp_path / "names.onnx").unlink()

    def counted(model: nn.Module, path: Path, **options: Any) -> None:
        conversions.append(path)
        right(model, path, **options)

    monkeypatch.setattr(fp32, "onnx_from_torch", counted)
    steps: list[str] = []
    done: list[tuple[int, int]] = []
    outputs = [
        (tmp_path / "a.onnx", Fp32()),
        (tmp_path / "b.onnx", Fp16()),
        (tmp_path / "c.onnx", Int8(images=images, method=Mse(), equalize=True)),
        (
            tmp_path / "d.onnx",
            Int8(images=images, target="tensorrt", bias_correction=False, exclude=(depthwise,)),
        ),
        (tmp_path / "e.onnx", Fp16(io_fp16=True)),
    ]
    reports = export_all(
        network,
        outputs,
        card,
        images=pictures,
        image_set="seven",
        progress=steps.append,
        counted=lambda *of: done.append(of),
    )
    assert len(conversions) == 1
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx", "c.onnx", "d.onnx", "e.onnx"]
    assert steps[:4] == ["convert", "a.onnx: parity", "a.onnx: golden outputs", "a.onnx: verify"]
    assert [step for step in steps if step.startswith("c.onnx")] == [
        f"c.onnx: {step}"
        for step in (
            *("calibrate without equalization", "equalize", "calibrate", "quantize", "correct biases"),
            *("parity", "golden outputs", "verify"),
        )
    ]
    assert (14, 14) in done
    documents = [manifest.read(path) for path, _ in outputs]
    assert documents == [report.manifest for report in reports]
    assert [(item.precision, item.target) for item in documents if item] == [
        *(("fp32", "any"), ("fp16", "any"), ("int8", "cpu"), ("int8", "tensorrt"), ("fp16", "any"))
    ]
    for path, _ in outputs:
        assert golden.verify(path)
        with Classifier.load(path) as classifier, torch.no_grad():
            expected = network(torch.from_numpy(load(pictures[1][1], card.preprocess)[None]))[0]
            np.testing.assert_allclose(classifier.logits(pictures[1][1]), expected, atol=0.1 * expected.abs().max())

    integer, symmetric = reports[2].manifest, reports[3].manifest
    assert integer.calibration is not None
    assert integer.calibration == {
        "method": "mse",
        "parameters": {"steps": 128.0},
        "images": 7,
        "images_sha256": images.digest(),
        "image_set": "golden pictures",
        "scheme": "cpu",
        "quantized_layers": 3,
        "bias_correction": 7,
        "equalized_pairs": 0,
        "budget": None,  # a ReLU6 lies between
    }
    assert symmetric.calibration is not None
    assert (symmetric.calibration["bias_correction"], symmetric.calibration["quantized_layers"]) == (0, 2)
    assert symmetric.float_layers == (f"{depthwise}: was asked for",)
    assert "int8 for cpu, " in str(reports[2])
    assert "calibration: mse 128 on 7 pictures (golden pictures); 3 layers in integers (cpu)" in str(reports[2])


def test_golden_outputs_below_float32_are_the_artifacts_own(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    """PyTorch's would lie so far off that saturation fits between (`edgecls_runtime.tolerance`)."""
    report = export_onnx(
        network, tmp_path / "m.onnx", card, precision=Int8(images=images), images=pictures, image_set="seven"
    )
    assert report.manifest.golden is not None
    logits = [check for check in golden.verify(tmp_path / "m.onnx").checks if check.name == "logits"]
    assert [check.found.split(" (")[0] for check in logits] == ["max |diff| 0 of max |logit|"]


def test_saturation_on_the_device_is_found(
    network: nn.Module,
    card: ModelCard,
    images: CalibrationImages,
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CPU without VNNI, as measured by emulation: logits off by a tenth of the largest. Rounding alone passes."""
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    export_onnx(network, tmp_path / "m.onnx", card, precision=Int8(images=images), images=pictures, image_set="seven")
    right = OnnxRuntimeBackend.run
    for share, passes in ((0.03, True), (0.1, False)):

        def off(self: OnnxRuntimeBackend, batch: np.ndarray, share: float = share) -> np.ndarray:
            logits = right(self, batch)
            return logits - share * np.abs(logits).max() * (np.arange(logits.shape[1]) == 1)

        monkeypatch.setattr(OnnxRuntimeBackend, "run", off)
        assert bool(golden.verify(tmp_path / "m.onnx")) is passes


Damage = Callable[[onnx.ModelProto], None]


def scale_of_one_layer(model: onnx.ModelProto) -> None:
    """As after an activation's range was read from another tensor."""
    (scale,) = (item for item in model.graph.initializer if item.name == "input_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(3), scale.name))


def channels_in_another_order(model: onnx.ModelProto) -> None:
    weight = max(
        (item for item in model.graph.initializer if "quantized" in item.name), key=lambda item: len(item.dims)
    )
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), weight.name))


def zero_point_lost(model: onnx.ModelProto) -> None:
    (zero,) = (item for item in model.graph.initializer if item.name == "input_zero_point")
    zero.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(zero)), zero.name))


@pytest.mark.parametrize("damage", [scale_of_one_layer, channels_in_another_order, zero_point_lost])
def test_a_broken_quantization_leaves_no_file(
    network: nn.Module,
    card: ModelCard,
    images: CalibrationImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
) -> None:
    right = precision.int8_from_fp32

    def buggy(source: Path, target: Path, *arguments: Any, **options: Any) -> object:
        report = right(source, target, *arguments, **options)
        model = onnx.load(target)
        damage(model)
        onnx.save(model, target)
        return report

    monkeypatch.setattr(precision, "int8_from_fp32", buggy)
    outputs = [
        (tmp_path / "a.onnx", Fp32()),
        (tmp_path / "b.onnx", Int8(images=images, bias_correction=False)),
    ]
    with pytest.raises(ParityError, match="int8 on CPUExecutionProvider: the artifact does not agree"):
        export_all(network, outputs, card, images=draw_pictures())
    assert os.listdir(tmp_path) == [], "all appear, or none"


def test_a_rewrite_that_is_another_function_leaves_no_file(
    network: nn.Module,
    card: ModelCard,
    images: CalibrationImages,
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a thousandth, which INT8's own bounds let pass a hundred times over."""
    right = precision.prepare

    def buggy(source: Path, target: Path, *, scheme: str) -> None:
        right(source, target, scheme=scheme)
        model = onnx.load(target)
        (head,) = (item for item in model.graph.initializer if list(item.dims) == [5, 16])
        head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head) * np.float32(1.001), head.name))
        onnx.save(model, target)

    monkeypatch.setattr(precision, "prepare", buggy)
    with pytest.raises(ParityError, match=r"INT8 for cpu: rewritten .* logits differ by 0\.00\d+ of the largest"):
        export_onnx(network, tmp_path / "m.onnx", card, precision=Int8(images=images), images=pictures)
    assert os.listdir(tmp_path) == []


def test_an_overflow_in_half_is_kept_in_float_and_said(
    network: nn.Module, card: ModelCard, pictures: Pictures, tmp_path: Path
) -> None:
    with torch.no_grad():
        network[3].weight *= 1e6
        network[4].running_var *= 1e12  # the batch norm takes it back: folded, the weights are small again
    report = export_onnx(network, tmp_path / "m.onnx", card, precision=Fp16(), images=pictures, image_set="seven")
    assert report.manifest.float_layers == ()
    with torch.no_grad():
        network[5] = nn.Sequential(nn.ReLU())
        network[4] = nn.Identity()  # and now nothing does
        network[8].weight /= 1e6
    report = export_onnx(network, tmp_path / "o.onnx", card, precision=Fp16(), images=pictures, image_set="seven")
    assert any("over 16376" in layer for layer in report.manifest.float_layers)
    assert f"{len(report.manifest.float_layers)} of 7 nodes stay in float32: " in str(report)


def test_a_fixed_batch(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    outputs = [(tmp_path / "h.onnx", Fp16()), (tmp_path / "i.onnx", Int8(images=images))]
    for report in export_all(network, outputs, card, batch_size=4, images=pictures, image_set="seven"):
        assert report.manifest.batch_size == 4
        assert golden.verify(report.path)


def test_without_pictures_drawn_ones_serve_and_it_is_said(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    report = export_onnx(network, tmp_path / "m.onnx", card, precision=Int8())
    assert "note: calibrated on 64 drawn pictures: 300 or more as the model meets them are better" in str(report)


def test_parity_is_held_on_pictures_as_the_model_meets_them(images: CalibrationImages, tmp_path: Path) -> None:
    """Drawn ones look like none of its classes: a good INT8 file may answer half of them otherwise."""
    pictures, origin = pipeline._parity_pictures([Fp32(), Int8(images=images), Fp16()])
    assert [name for name, _ in pictures] == [f"picture {number}" for number in range(1, 8)]
    assert [image for _, image in pictures] == list(images.sources)
    assert origin == "golden pictures, to calibrate on"
    many = dataclasses.replace(images, sources=tuple(tmp_path / f"{n}.jpg" for n in range(100)))
    pictures, _ = pipeline._parity_pictures([Fp16(images=many)])
    assert [name for name, _ in pictures] == [str(tmp_path / f"{number}.jpg") for number in range(64)]
    pictures, origin = pipeline._parity_pictures([Fp32(), Int8(), Fp16()])
    assert (len(pictures), origin.split()[0]) == (64, "drawn")


def test_mistakes_are_found_before_any_work(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="target 'tpu': is unknown\nChoose one of: cpu, cpu-any, tensorrt, cuda"):
        Int8(target="tpu")
    with pytest.raises(ExportError, match="the graph has no node 'nowhere' to keep in float\nGive .* are: node_"):
        export_onnx(network, tmp_path / "m.onnx", card, precision=Int8(exclude=("nowhere",)))
    twice = [(tmp_path / "m.onnx", Fp32()), (tmp_path / "m.onnx", Fp16())]
    with pytest.raises(OutputError, match="m.onnx: is named for two precisions"):
        export_all(network, twice, card)
    with pytest.raises(EdgeclsError, match="does not exist"):
        export_all(network, [(tmp_path / "a.onnx", Fp32()), (tmp_path / "no" / "b.onnx", Fp16())], card)
    assert os.listdir(tmp_path) == []


def test_two_ways_to_name_a_file(
    network: nn.Module, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    twice = [(tmp_path / "m.onnx", Fp32()), ("m.onnx", Fp16())]
    with pytest.raises(OutputError, match="m.onnx: is named for two precisions"):
        export_all(network, twice, card)
    assert os.listdir(tmp_path) == []


def test_a_target_that_appears_meanwhile_stops_the_others(
    network: nn.Module, card: ModelCard, pictures: Pictures, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    outputs = [(tmp_path / "a.onnx", Fp32()), (tmp_path / "other" / "a.onnx", Fp32())]

    def appear(step: str) -> None:
        (tmp_path / "a.onnx").write_bytes(b"someone else's")

    with pytest.raises(OutputError, match="a.onnx: exists already"):
        export_all(network, outputs, card, images=pictures, progress=appear)
    assert (tmp_path / "a.onnx").read_bytes() == b"someone else's"
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "other"]
    assert os.listdir(tmp_path / "other") == []


def test_integers_that_nothing_computes_in_are_refused(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    fp32.onnx_from_torch(network, tmp_path / "names.onnx", crop_size=(32, 32))
    kinds = ("Conv", "Gemm")
    every = tuple(node.name for node in onnx.load(tmp_path / "names.onnx").graph.node if node.op_type in kinds)
    (tmp_path / "names.onnx").unlink()
    without = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    three = dataclasses.replace(card, labels=card.labels[:3])
    for model, its_card, exclude, kept in ((network, card, every, 3), (without, three, (), 0)):
        with pytest.raises(ExportError, match=f"INT8 for cpu: {kept} of {kept} layers with weights stay in float"):
            export_onnx(
                model, tmp_path / "m.onnx", its_card, precision=Int8(images=images, exclude=exclude), images=pictures
            )
    assert os.listdir(tmp_path) == []


def test_no_bias_corrected_none_recorded(
    card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    """A product of matrices has no bias."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.amax((2, 3)) @ self.weight

    report = export_onnx(Product(), tmp_path / "m.onnx", card, precision=Int8(images=images), images=pictures)
    assert report.manifest.calibration is not None
    assert (report.manifest.calibration["quantized_layers"], report.manifest.calibration["bias_correction"]) == (1, 0)


def test_half_without_pictures(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="mine: holds no pictures to compare on"):
        export_onnx(network, tmp_path / "m.onnx", card, precision=Fp16(), images=[], image_set="mine")


def test_a_budget_leaves_what_it_must_in_float(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    """All that is measured agrees with float32 once the budget says so, and the manifest says what it took."""
    budget = Budget(max_drop=0, images=[picture for _, picture in pictures], targets=None, origin="golden pictures")
    report = export_onnx(
        network, tmp_path / "m.onnx", card, precision=Int8(images=images, budget=budget), images=pictures
    )
    calibration = calibration_of(report.manifest)
    assert calibration is not None
    spent = calibration.budget
    assert spent is not None
    assert (spent.measure, spent.fp32, spent.int8, spent.max_drop, spent.images) == ("agreement", 100, 100, 0, 7)
    assert [note for note in report.notes if note.startswith("tried: ")] == [f"tried: {trial}" for trial in spent.tried]
    assert (spent.tried[0].float_layers, spent.tried[-1].score) == ((), 100)
    assert manifest.read(tmp_path / "m.onnx") == report.manifest
    assert "budget: agreement 100.00 -> 100.00 % on 7 pictures (golden pictures)" in str(report)


def test_a_budget_that_cannot_be_met_leaves_no_file(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    never = Budget(max_drop=0, images=[item for _, item in pictures], targets=[0] * 7, origin="golden pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "score", lambda self, path: 100.0 if "fp32" in str(path) else 42.0)
        with pytest.raises(
            ExportError, match=r"cannot meet the budget: acc@1 100\.00 % falls by 58\.00 points"
        ) as caught:
            export_onnx(
                network, tmp_path / "m.onnx", card, precision=Int8(images=images, budget=never), images=pictures
            )
    assert "--max-drop" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_layer_kept_in_float_keeps_its_bias(
    network: nn.Module, card: ModelCard, images: CalibrationImages, pictures: Pictures, tmp_path: Path
) -> None:
    """What corrects the mean of integers would spoil that of float."""
    scores = iter([100.0, 0.0, 100.0, 100.0])
    budget = Budget(max_drop=0, images=[item for _, item in pictures], targets=None, origin="x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "score", lambda self, path: next(scores, 0.0))
        report = export_onnx(
            network, tmp_path / "m.onnx", card, precision=Int8(images=images, budget=budget), images=pictures
        )
    ((kept, reason),) = (layer.split(": ") for layer in report.manifest.float_layers)
    assert reason == "costs accuracy in integers"
    fp32.onnx_from_torch(network, tmp_path / "f.onnx", crop_size=(32, 32))
    floats, mixed = (onnx.load(tmp_path / name) for name in ("f.onnx", "m.onnx"))

    def bias(model: onnx.ModelProto) -> np.ndarray:
        (node,) = (node for node in model.graph.node if node.name == kept)
        return next(numpy_helper.to_array(item) for item in model.graph.initializer if item.name == node.input[2])

    assert np.array_equal(bias(floats), bias(mixed))
