from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgecls_export import embedding
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.embedding import Embedding, embed_file, embed_preprocess
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_export.int8 import int8_from_fp32, prepare
from edgecls_export.pipeline import ModelCard, export_all, export_onnx
from edgecls_export.precision import Fp16, Fp32
from edgecls_export.provenance import parity_of
from edgecls_runtime import Classifier, Preprocess, golden, manifest, onnx_file
from edgecls_runtime.backends.settings import Placement
from edgecls_runtime.errors import ExportError, ManifestError, OutputError, ParityError, VerificationError
from edgecls_runtime.manifest import Manifest, Source
from edgecls_runtime.preprocess import decode, load, normalize, resize_and_crop

PREPROCESSES = [
    Preprocess(),
    Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    Preprocess(mean=(0, 0, 0), std=(1, 1, 1)),
    Preprocess(mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262)),
    Preprocess(mean=(103.53 / 255, 116.28 / 255, 123.675 / 255), std=(1 / 255, 1 / 255, 1 / 255), color="BGR"),
]
EVERY_VALUE = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
"""Every value in every channel."""


def document_of(path: Path, preprocess: Preprocess, **fields: object) -> Manifest:
    return Manifest(
        arch="small",
        labels=("ant", "bee", "cat", "dog", "eel"),
        preprocess=preprocess,
        opset=18,
        graph_sha256=onnx_file.graph_sha256(path),
        source=Source(weights="random", sha256="0" * 64),
        **{"precision": "fp32", **fields},  # type: ignore[arg-type]
    )


def identity(folder: Path) -> Path:
    """A graph that returns what it takes: 3x16x16 to as many "classes"."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["logits"])],
        "identity",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 768])],
    )
    path = folder / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def embed_identity(folder: Path, preprocess: Preprocess) -> Path:
    path = identity(folder)
    document = dataclasses.replace(document_of(path, preprocess), labels=tuple(map(str, range(768))))
    embed_preprocess(path, folder / "embedded.onnx", document, Embedding())
    return folder / "embedded.onnx"


def pixels_of(pictures: list[tuple[str, np.ndarray]], preprocess: Preprocess) -> np.ndarray:
    return np.stack([resize_and_crop(decode(picture, preprocess), preprocess) for _, picture in pictures])


@pytest.mark.parametrize("preprocess", PREPROCESSES, ids=lambda item: f"{item.mean[0]:.3g} {item.std[0]:.3g}")
def test_the_graph_computes_the_runtimes_floats_bit_for_bit(
    preprocess: Preprocess, tmp_path: Path, run: Callable[..., np.ndarray]
) -> None:
    in_order = EVERY_VALUE if preprocess.color == "RGB" else EVERY_VALUE[..., ::-1]
    (found,) = run(embed_identity(tmp_path, preprocess), in_order[None])
    expected = normalize(EVERY_VALUE, preprocess)
    np.testing.assert_array_equal(found.reshape(3, 16, 16).view(np.uint32), expected.view(np.uint32))


def test_openvino_lies_no_more_than_two_ulp_off(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'edgecls[openvino]'")
    from edgecls_runtime.backends import open_backend

    for preprocess in PREPROCESSES[:4]:
        backend = open_backend(embed_identity(tmp_path, preprocess), Placement(provider="openvino"))
        found = backend.run(EVERY_VALUE[None]).reshape(3, 16, 16)
        backend.close()
        expected = normalize(EVERY_VALUE, preprocess)
        # Of the largest value: near zero the difference of two numbers keeps the error of both.
        assert np.abs(found - expected).max() <= 2 * np.spacing(np.abs(expected).max())


def test_an_engine_that_divides_otherwise_is_not_trusted(models: Path, tmp_path: Path, monkeypatch: object) -> None:
    """As if ONNX Runtime multiplied by the reciprocal."""
    right = embedding._front

    def wrong(*arguments: object) -> onnx.GraphProto:
        front = right(*arguments)  # type: ignore[arg-type]
        white = next(item for item in front.initializer if "255" in item.name)
        white.CopyFrom(numpy_helper.from_array(1 / np.float32(255), white.name))
        next(node for node in front.node if node.op_type == "Div").op_type = "Mul"
        return front

    monkeypatch.setattr(embedding, "_front", wrong)  # type: ignore[attr-defined]
    with pytest.raises(ParityError, match=r"computes \d+ of 768 normalized values otherwise"):
        embed_file(models / "tiny.onnx", tmp_path / "m.onnx", Embedding(), [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8 cpu", "int8 cpu-any", "int8 tensorrt"])
def test_every_precision_answers_as_before_bit_for_bit(
    precision: str,
    graph_path: Path,
    images: CalibrationImages,
    card: ModelCard,
    pictures: list[tuple[str, np.ndarray]],
    batch: np.ndarray,
    tmp_path: Path,
    run: Callable[..., np.ndarray],
) -> None:
    plain = graph_path
    if precision == "fp16":
        plain = tmp_path / "fp16.onnx"
        fp16_from_fp32(graph_path, plain)
    elif precision != "fp32":
        scheme = precision.split()[1]
        prepared, plain = tmp_path / "prepared.onnx", tmp_path / "int8.onnx"
        prepare(graph_path, prepared, scheme=scheme)
        symmetric = scheme == "tensorrt"
        ranges = calibrate(prepared, images, preprocess=card.preprocess, symmetric=symmetric)
        int8_from_fp32(prepared, plain, ranges.values, scheme=scheme)
    document = document_of(plain, card.preprocess)
    changed = embed_preprocess(plain, tmp_path / "embedded.onnx", document, Embedding(top_k=2))
    found = run(tmp_path / "embedded.onnx", pixels_of(pictures, card.preprocess))
    np.testing.assert_array_equal(found, run(plain, batch))
    assert changed.graph_sha256 == onnx_file.graph_sha256(tmp_path / "embedded.onnx") != document.graph_sha256
    assert changed.preprocess == card.preprocess.replace(input_layout="NHWC-uint8")
    header = onnx_file.read_header(tmp_path / "embedded.onnx")
    assert [str(info) for info in (*header.inputs, *header.outputs)] == [
        "pixels: uint8 [batch, 32, 32, 3]",
        "logits: float32 [batch, 5]",
        "scores: float32 [batch, 2]",
        "indices: int64 [batch, 2]",
    ]


@pytest.mark.parametrize(("source", "k"), [("tiny", 1), ("tiny", 5), ("multilabel", 3), ("fixed4", 2)])
def test_the_best_classes_are_those_that_the_runtime_names(
    models: Path, tmp_path: Path, pictures: list[tuple[str, np.ndarray]], source: str, k: int
) -> None:
    report = embed_file(models / f"{source}.onnx", tmp_path / "m.onnx", Embedding(top_k=k), pictures)
    assert report.max_relative_diff == 0
    assert report.images == len(pictures)
    assert str(report).splitlines()[0].startswith(f"{tmp_path / 'm.onnx'}: tiny fp32, 0.0 MB, ")
    preprocess = report.manifest.preprocess
    batch = pixels_of(pictures[:4], preprocess)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    scores, indices = session.run(["scores", "indices"], {"pixels": batch})
    assert (scores.shape, scores.dtype, indices.dtype) == ((4, k), np.float32, np.int64)
    with Classifier.load(models / f"{source}.onnx") as plain, Classifier.load(tmp_path / "m.onnx") as embedded:
        thresholds = plain.thresholds or (0.0,) * 5
        for (_, picture), score, index in zip(pictures, scores, indices, strict=False):
            named = [(i, s) for i, s in zip(index.tolist(), score.tolist(), strict=True) if s >= thresholds[i]]
            expected = plain.predict(picture, k)
            assert [i for i, _ in named] == [item.index for item in expected]
            np.testing.assert_allclose([s for _, s in named], [item.score for item in expected], rtol=1e-5)
            assert embedded.predict(picture, k) == expected
            np.testing.assert_array_equal(embedded.logits(picture), plain.logits(picture))
    assert golden.verify(tmp_path / "m.onnx")
    assert len(golden.verify(tmp_path / "m.onnx").checks) == 5


def test_equal_logits_go_by_their_index(tmp_path: Path) -> None:
    path = identity(tmp_path)
    document = dataclasses.replace(document_of(path, Preprocess()), labels=tuple(map(str, range(768))))
    embed_preprocess(path, tmp_path / "embedded.onnx", document, Embedding(top_k=4))
    session = onnxruntime.InferenceSession(str(tmp_path / "embedded.onnx"), providers=["CPUExecutionProvider"])
    _, scores, indices = session.run(None, {"pixels": np.zeros((1, 16, 16, 3), np.uint8)})
    assert indices.tolist() == [[512, 513, 514, 515]]  # blue's black, -0.406 / 0.225, is the highest of the three
    assert len(set(scores[0].tolist())) == 1


def test_names_that_are_taken_already(
    graph: onnx.ModelProto, tmp_path: Path, card: ModelCard, batch: np.ndarray, run: Callable[..., np.ndarray]
) -> None:
    """A module of the user's may be called anything."""
    before = run(graph, batch)
    renames = {"stem": "scores", "stem6": "pixels", "swish": "preprocess_mean", "gate": "indices", "pooled": "top_k_k"}
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [renames.get(name, name) for name in names]
    onnx.save(graph, tmp_path / "plain.onnx")
    document = document_of(tmp_path / "plain.onnx", card.preprocess)
    changed = embed_preprocess(tmp_path / "plain.onnx", tmp_path / "m.onnx", document, Embedding(top_k=1))
    assert changed.input_name == "pixels_"
    assert changed.top_k == manifest.TopK(k=1, scores_name="scores_", indices_name="indices_")
    pixels = np.zeros((7, 32, 32, 3), np.uint8)
    black = np.stack([normalize(picture, card.preprocess) for picture in pixels])
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", pixels), run(graph, black))
    assert not np.array_equal(before, run(graph, black))


def test_an_export_embeds_every_precision(
    network: nn.Module, card: ModelCard, tmp_path: Path, pictures: list[tuple[str, np.ndarray]]
) -> None:
    steps: list[str] = []
    outputs = [(tmp_path / "a.onnx", Fp32()), (tmp_path / "b.onnx", Fp16())]
    reports = export_all(
        network, outputs, card, embedding=Embedding(top_k=3), images=pictures, progress=steps.append, batch_size=2
    )
    assert steps.count("a.onnx: embed") == steps.count("b.onnx: embed") == 1
    for report in reports:
        document = manifest.read(report.path)
        assert document == report.manifest
        assert document is not None
        assert document.preprocess.input_layout == "NHWC-uint8"
        assert (document.input_name, document.top_k) == ("pixels", manifest.TopK(k=3))
        agreement = parity_of(document)
        assert agreement is not None
        assert agreement.top1_agreement == 1
        checks = golden.verify(report.path).checks
        assert [check.name for check in checks] == ["graph", "contract", "pixels", "logits", "top-k"]
        assert all(check.passed for check in checks)
    assert (tmp_path / "a.onnx").stat().st_size > 0
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]
    # What PyTorch answered to normalized floats, not the file itself.
    answers = reports[0].manifest.golden
    assert answers is not None
    floats = np.stack([load(golden.draw_picture(number), card.preprocess) for number in range(4)])
    with torch.inference_mode():
        np.testing.assert_array_equal(answers.logits(), network.eval()(torch.from_numpy(floats)).numpy())


def test_what_an_export_refuses_before_it_converts(network: nn.Module, card: ModelCard, tmp_path: Path) -> None:
    steps: list[str] = []

    def refused(match: str, **options: object) -> None:
        with pytest.raises(ExportError, match=match):
            export_onnx(network, tmp_path / "m.onnx", card, progress=steps.append, **options)  # type: ignore[arg-type]

    refused("top-k: the best 6 of 5 classes", embedding=Embedding(top_k=6))
    refused("io_fp16: makes the input float16", embedding=Embedding(), precision=Fp16(io_fp16=True))
    card = dataclasses.replace(card, preprocess=card.preprocess.replace(input_layout="NHWC-uint8"))
    refused("input_layout NHWC-uint8, and PyTorch takes NCHW-float")
    assert steps == []
    assert os.listdir(tmp_path) == []


def test_files_that_cannot_be_embedded(models: Path, tmp_path: Path, pictures: list[tuple[str, np.ndarray]]) -> None:
    def refused(error: type[Exception], match: str, source: Path, k: int | None = None) -> None:
        with pytest.raises(error, match=match):
            embed_file(source, tmp_path / "m.onnx", Embedding(top_k=k), pictures)
        assert not (tmp_path / "m.onnx").exists()
        assert not list(tmp_path.glob(".*"))

    refused(ExportError, "embedded.onnx: has its preprocess embedded already", models / "embedded.onnx")
    refused(ManifestError, "foreign.onnx: carries no manifest: nobody knows", models / "foreign.onnx")
    refused(ExportError, "the best 6 of 5 classes", models / "tiny.onnx", 6)
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    for name, changes in {"bare": {"golden": None}, "shifted": {"labels": document.labels[::-1]}}.items():
        changed = dataclasses.replace(document, **changes)  # type: ignore[arg-type]
        manifest.write(changed, models / "tiny.onnx", tmp_path / f"{name}.onnx")
    refused(ManifestError, "bare.onnx: carries no golden outputs", tmp_path / "bare.onnx")
    refused(VerificationError, "contract: labels, activation and preprocess are not", tmp_path / "shifted.onnx")
    (tmp_path / "m2.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        embed_file(models / "tiny.onnx", tmp_path / "m2.onnx", Embedding(), pictures)
    assert (tmp_path / "m2.onnx").read_bytes() == b"mine"
    with pytest.raises(OutputError, match="m.engine: is called an engine"):
        embed_file(models / "tiny.onnx", tmp_path / "m.engine", Embedding(), pictures)


def test_half_precision_at_the_edges_cannot_be_embedded(graph_path: Path, tmp_path: Path, card: ModelCard) -> None:
    fp16_from_fp32(graph_path, tmp_path / "half.onnx", io_fp16=True)
    with pytest.raises(ExportError, match="takes input: float16 of 4 axes; float32") as caught:
        embed_preprocess(
            tmp_path / "half.onnx",
            tmp_path / "m.onnx",
            document_of(tmp_path / "half.onnx", card.preprocess),
            Embedding(),
        )
    assert "--io-fp16" in caught.value.remedy


def test_a_graph_that_answers_otherwise_is_not_written(
    models: Path, tmp_path: Path, pictures: list[tuple[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front is right, and what was put behind it is not."""
    right = embedding._put_in_front

    def wrong(model: onnx.ModelProto, front: onnx.GraphProto) -> None:
        right(model, front)
        weight = next(item for item in model.graph.initializer if item.name == "linear")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))

    monkeypatch.setattr(embedding, "_put_in_front", wrong)
    with pytest.raises(ParityError):
        embed_file(models / "tiny.onnx", tmp_path / "m.onnx", Embedding(), pictures)
    assert os.listdir(tmp_path) == []
