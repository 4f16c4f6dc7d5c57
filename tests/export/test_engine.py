"""Real engines, built ahead of time by tensorrt-rtx; no GPU is needed."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_export import engine, engine_options
from edgecls_export.engine import DEFAULT_BATCH, engine_from_onnx
from edgecls_export.engine_options import EngineOptions
from edgecls_export.gpu import Gpu
from edgecls_runtime import engine_file, golden, manifest
from edgecls_runtime.backends import tensorrt_log
from edgecls_runtime.engine_file import BatchProfile
from edgecls_runtime.errors import EdgeclsError, ExportError, ModelError, OutputError, ProviderError, VerificationError
from edgecls_runtime.preflight import this_platform

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'edgecls[tensorrt-rtx]'"
)

AHEAD = EngineOptions(flavour="tensorrt_rtx", compute_capabilities=("8.6", "8.9"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(path: Path, nodes: Sequence[onnx.NodeProto], **values: object) -> Path:
    """Write float32 [batch, 3, 8, 8] to [batch, 3], these nodes behind a global pooling."""
    infos = [("input", ["batch", 3, 8, 8]), ("logits", ["batch", 3])]
    pool = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    graph = helper.make_graph(
        [*pool, *nodes],
        "hand-made",
        *([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in infos),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_an_engine_and_what_lies_beside_it(models: Path, tmp_path: Path) -> None:
    source = models / "tiny.onnx"
    report = engine_from_onnx(source, tmp_path / "tiny.engine", options=AHEAD)
    assert sorted(os.listdir(tmp_path)) == ["tiny.engine", "tiny.engine.json"]
    found = engine_file.read(tmp_path / "tiny.engine")
    assert found == report.sidecar
    assert found.flavour == "tensorrt_rtx"
    assert found.version.count(".") >= 2
    assert found.compute_capabilities == ("8.6", "8.9")
    assert found.gpu is None
    assert found.platform == this_platform()
    assert found.profile == DEFAULT_BATCH
    assert (found.input_dtype, found.output_dtype) == ("float32", "float32")
    assert (found.onnx, found.onnx_sha256) == ("tiny.onnx", sha256(source))
    assert (found.plan_sha256, found.plan_bytes) == (sha256(report.path), report.path.stat().st_size)
    assert found.manifest == manifest.read(source)
    assert found.options["tf32"] == "false"
    assert found.options["builder_flags"] == "", "TensorRT has TF32 on by default"
    assert report.layers["CONVOLUTION float32"] == 1
    assert found.layers["correlation float32"] == 1
    (convolution,) = (layer for layer in report.engine_layers if layer.kind == "correlation")
    assert convolution.nodes == ("node_of_a", "node_of_b"), "the activation is part of it"
    said = str(report)
    assert "tiny fp32 for compute capability 8.6, 8.9 (tensorrt_rtx " in said
    assert f"not run here: no GPU; prove it on the device: edgecls verify {tmp_path / 'tiny.engine'}" in said


def test_the_rebuild_command_makes_the_same_engine(models: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes((models / "foreign.onnx").read_bytes())
    options = replace(AHEAD, batch=BatchProfile(min=1, opt=2, max=4), workspace_mib=512, builder_level=2, tf32=True)
    first = engine_from_onnx(tmp_path / "m.onnx", tmp_path / "m.engine", options=options).sidecar
    assert first.options["builder_flags"] == "TF32"
    assert (first.options["builder_level"], first.options["workspace_mib"]) == ("2", "512")
    program, *arguments = first.rebuild.split()
    assert program == "edgecls"
    done = subprocess.run(
        [sys.executable, "-m", "edgecls", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    again = engine_file.read(tmp_path / "m.engine")
    assert replace(again, plan_sha256="", plan_bytes=0) == replace(first, plan_sha256="", plan_bytes=0)


def test_a_fixed_batch_is_the_profile(models: Path, tmp_path: Path) -> None:
    source = models / "fixed4.onnx"
    four = BatchProfile(min=4, opt=4, max=4)
    assert engine_from_onnx(source, tmp_path / "a.engine", options=AHEAD).sidecar.profile == four
    given = replace(AHEAD, batch=four)
    assert engine_from_onnx(source, tmp_path / "b.plan", options=given).sidecar.profile == four
    for batch in (BatchProfile(min=1, opt=4, max=8), BatchProfile(min=8, opt=8, max=8)):
        with pytest.raises(ExportError, match="takes 4 pictures a run, and no profile of .*\nLeave --batch out"):
            engine_from_onnx(source, tmp_path / "c.engine", options=replace(AHEAD, batch=batch))
    assert not (tmp_path / "c.engine").exists()


def test_the_profile_is_what_the_builder_is_given(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, right = [], trt.IBuilderConfig.add_optimization_profile

    def add(config: object, profile: trt.IOptimizationProfile) -> int:
        given.append([tuple(shape) for shape in profile.get_shape("input")])
        return int(right(config, profile))

    monkeypatch.setattr(trt.IBuilderConfig, "add_optimization_profile", add)
    options = replace(AHEAD, batch=BatchProfile(min=2, opt=3, max=5))
    engine_from_onnx(models / "tiny.onnx", tmp_path / "a.engine", options=options)
    engine_from_onnx(models / "fixed4.onnx", tmp_path / "b.engine", options=AHEAD)
    assert given == [[(2, 3, 32, 32), (3, 3, 32, 32), (5, 3, 32, 32)]]


def test_progress_rises_to_the_end(models: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    engine_from_onnx(
        models / "tiny.onnx",
        tmp_path / "m.engine",
        options=AHEAD,
        progress=lambda phase, share: seen.append((phase, share)),
    )
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] == 1
    assert len({phase for phase, _ in seen}) > 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_build_can_be_interrupted(models: Path, tmp_path: Path, error: type[BaseException]) -> None:
    def interrupt(phase: str, share: float) -> None:
        if share > 0.3:
            raise error

    with pytest.raises(error):
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=AHEAD, progress=interrupt)
    assert os.listdir(tmp_path) == []
    assert engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=AHEAD)  # TensorRT is none the worse


def test_an_interrupt_while_the_log_is_written_is_not_lost(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(level: int, text: str, *arguments: object) -> None:
        if "minShape" in str(arguments):  # the builder's first line
            raise KeyboardInterrupt

    monkeypatch.setattr(tensorrt_log._log, "log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=AHEAD)
    assert os.listdir(tmp_path) == []


def test_tensorrts_log_goes_to_logging(models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "edgecls_runtime"):
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=AHEAD)
    assert any("Engine generation completed" in record.message for record in caplog.records)
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def quantized(path: Path, *, bias: np.ndarray, zero_point: np.generic) -> Path:
    """A linear layer in Q/DQ form."""
    integer_bias = bias.dtype == np.int32
    dequantize = helper.make_node("DequantizeLinear", ["bias", "scale"], ["float_bias"], name="dq_bias")
    return save(
        path,
        [
            helper.make_node("QuantizeLinear", ["flat", "scale", "zero"], ["q"], name="q_input"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], name="dq_input"),
            helper.make_node("DequantizeLinear", ["weight", "scale"], ["w"], name="dq_weight"),
            *([dequantize] if integer_bias else []),
            helper.make_node("Gemm", ["x", "w", "float_bias" if integer_bias else "bias"], ["logits"], name="head"),
        ],
        scale=np.float32(0.1),
        zero=zero_point,
        weight=np.eye(3, dtype=np.int8),
        bias=bias,
    )


FLOAT_BIAS, INTEGER_BIAS = np.ones(3, np.float32), np.ones(3, np.int32)


@pytest.mark.parametrize(
    ("bias", "zero_point", "cause"),
    [
        (INTEGER_BIAS, np.int8(0), r"refuses node \d+ 'dq_bias' \(DequantizeLinear\): .*Int32"),
        (FLOAT_BIAS, np.uint8(7), r"refuses node \d+ 'q_input' \(QuantizeLinear\): .*[Nn]on-zero zero point"),
        (FLOAT_BIAS, np.uint8(0), "would read other types: .*UINT8.* INT8 instead"),
    ],
)
def test_what_is_quantized_for_another_engine_is_refused(
    tmp_path: Path, bias: np.ndarray, zero_point: np.generic, cause: str
) -> None:
    source = quantized(tmp_path / "m.onnx", bias=bias, zero_point=zero_point)
    with pytest.raises(ExportError, match=f"m.onnx: .*{cause}") as caught:
        engine_from_onnx(source, tmp_path / "m.engine", options=AHEAD)
    assert "symmetric int8 and a float bias: edgecls export" in caught.value.remedy
    assert "\n" not in caught.value.cause
    assert "catchCudaError" not in caught.value.cause
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_symmetric_int8_with_a_float_bias_builds(tmp_path: Path) -> None:
    source = quantized(tmp_path / "m.onnx", bias=FLOAT_BIAS, zero_point=np.int8(0))
    assert engine_from_onnx(source, tmp_path / "m.engine", options=AHEAD).layers["QUANTIZE int8"] == 1


def test_a_manifest_of_another_target_is_refused_at_once(models: Path, tmp_path: Path) -> None:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    manifest.write(replace(document, target="cpu-any"), models / "tiny.onnx", tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="was quantized for cpu-any: .*\nQuantize for TensorRT: edgecls export"):
        engine_from_onnx(tmp_path / "m.onnx", tmp_path / "m.engine", options=AHEAD)


def test_pixels_go_into_an_engine(models: Path, tmp_path: Path) -> None:
    """TensorRT takes uint8 as an input, and into a Cast to float alone."""
    report = engine_from_onnx(models / "pixels.onnx", tmp_path / "pixels.engine", options=AHEAD)
    assert (report.sidecar.input_dtype, report.sidecar.output_dtype) == ("uint8", "float32")
    assert report.layers["CONVOLUTION float32"] == 1
    with pytest.raises(ExportError, match="embedded.onnx: names the best classes itself") as caught:
        engine_from_onnx(models / "embedded.onnx", tmp_path / "embedded.engine", options=AHEAD)
    assert "without --embed-top-k" in caught.value.remedy
    assert sorted(os.listdir(tmp_path)) == ["pixels.engine", "pixels.engine.json"]


def test_an_unsupported_operator_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["input"], ["determinants"], name="my_det"),
        helper.make_node("Identity", ["flat"], ["logits"]),
    ]
    with pytest.raises(ExportError) as caught:
        engine_from_onnx(save(tmp_path / "m.onnx", nodes), tmp_path / "m.engine", options=AHEAD)
    assert "m.onnx: tensorrt_rtx " in caught.value.cause
    assert "refuses node 2 'my_det' (Det): UNSUPPORTED_NODE" in caught.value.cause
    assert "onnxOpCheckers.cpp" in caught.value.cause
    assert "https://github.com/onnx/onnx-tensorrt" in caught.value.remedy
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_tensorrts_own_reason_is_quoted(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no tactics .* within workspace limit.*\nRaise --workspace-mib"):
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=replace(AHEAD, workspace_mib=1))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "cause"),
    [("two_inputs", "is no classifier: inputs 2"), ("rank3", r"takes picture: float32 \[3, 32, 32\], not \[batch")],
)
def test_other_models_than_classifiers_are_refused(models: Path, tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(ExportError, match=cause):
        engine_from_onnx(models / f"{name}.onnx", tmp_path / "m.engine", options=AHEAD)


def test_files_that_cannot_be_read_or_written(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m.engine"
    with pytest.raises(ModelError, match="gone.onnx: no such file"):
        engine_from_onnx(tmp_path / "gone.onnx", target, options=AHEAD)
    for wrong, cause in ((tmp_path / "m.bin", "is not called an engine"), (tmp_path, "is a folder\nName a file in it")):
        with pytest.raises(OutputError, match=cause):
            engine_from_onnx(models / "tiny.onnx", wrong, options=AHEAD)
    for existing in ("m.engine", "m.engine.json"):
        (tmp_path / existing).write_text("old")
        with pytest.raises(OutputError, match=f"{existing}: exists already"):
            engine.check_engine_target(target, force=False)
        with pytest.raises(OutputError, match=f"{existing}: exists already"):
            engine_from_onnx(models / "tiny.onnx", target, options=AHEAD)
        (tmp_path / existing).unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="may not be written to"):
        engine_from_onnx(models / "tiny.onnx", target, options=AHEAD)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("full_at", ["plan", "sidecar", "rename"])
def test_both_files_appear_or_neither(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str, force: bool
) -> None:
    target, full = tmp_path / "m.engine", OSError(errno.ENOSPC, "No space left on device")
    if force:
        target.write_text("old plan")
        engine_file.sidecar_path(target).write_text("old sidecar")

    def failing(right: object, suffix: str, mode: str) -> object:
        def call(path: Path, *arguments: object, **keywords: object) -> object:
            if path.name.endswith(suffix) and (mode in arguments or not mode):
                raise full
            return right(path, *arguments, **keywords)  # type: ignore[operator]

        return call

    if full_at == "plan":
        monkeypatch.setattr(Path, "open", failing(Path.open, ".engine", "wb"))
    elif full_at == "sidecar":
        monkeypatch.setattr(Path, "write_text", failing(Path.write_text, ".json", ""))
    else:
        right = Path.replace

        def replace_plan_only(path: Path, to: Path) -> Path:
            if path.suffix == ".json" and path.parent != tmp_path and to.parent == tmp_path:
                raise full
            return right(path, to)

        monkeypatch.setattr(Path, "replace", replace_plan_only)
    with pytest.raises(OutputError, match="m.engine: the disk is full"):
        engine_from_onnx(models / "tiny.onnx", target, options=AHEAD, force=force)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == (["m.engine", "m.engine.json"] if force else [])
    if force:
        assert target.read_text() == "old plan"
        assert engine_file.sidecar_path(target).read_text() == "old sidecar"
        engine_from_onnx(models / "tiny.onnx", target, options=AHEAD, force=True)
        assert engine_file.read(target).plan_sha256 == sha256(target)


class Proof:
    """Stands in for a GPU and for the engine on it, which this machine has not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, passed: bool) -> None:
        self.seen: list[Path] = []
        self.passed = passed
        monkeypatch.setattr(engine_options, "find_gpu", lambda: Gpu("NVIDIA RTX 4090", "8.9"))
        monkeypatch.setattr(golden, "verify", self.verify)

    def verify(self, path: Path) -> golden.Verification:
        assert engine_file.read(path).plan_sha256 == sha256(path), "plan and sidecar lie there as they will"
        self.seen.append(path)
        return golden.Verification(str(path), (golden.Check("logits", self.passed, "max |diff| 2e-07"),))


def test_where_the_gpu_is_the_engine_is_proven(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof, target = Proof(monkeypatch, passed=True), tmp_path / "m.engine"
    assert engine_from_onnx(models / "tiny.onnx", target, options=AHEAD).proof == "max |diff| 2e-07"
    assert [path.name for path in proof.seen] == ["m.engine"]
    for source, options, said in (
        ("tiny.onnx", replace(AHEAD, compute_capabilities=("12.0",)), "NVIDIA RTX 4090 (8.9) is another GPU"),
        ("foreign.onnx", AHEAD, "the ONNX file carries no answers"),
    ):
        assert said in engine_from_onnx(models / source, target, options=options, force=True).proof
    assert len(proof.seen) == 1


def test_an_engine_that_computes_something_else_leaves_no_file(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Proof(monkeypatch, passed=False)
    with pytest.raises(VerificationError, match=r"m.engine: logits: max \|diff\|") as caught:
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=AHEAD)
    assert ".part" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_without_a_gpu_the_remedy_names_what_builds_here(models: Path, tmp_path: Path) -> None:
    if engine_options.find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProviderError, match="this machine has no GPU.*\n.*--compute-capability 8.9"):
        engine_from_onnx(models / "tiny.onnx", tmp_path / "m.engine", options=EngineOptions(flavour="tensorrt_rtx"))


def test_building_needs_neither_torch_nor_onnx(models: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = sys.modules["onnx"] = None
from edgecls_export import EngineOptions, engine_from_onnx
options = EngineOptions(flavour="tensorrt_rtx", compute_capabilities=("8.9",))
engine_from_onnx({str(models / "tiny.onnx")!r}, {str(tmp_path / "m.engine")!r}, options=options)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert json.loads((tmp_path / "m.engine.json").read_text())["compute_capabilities"] == ["8.9"]


def test_errors_are_ours(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(EdgeclsError):
        engine_from_onnx(tmp_path / "m.onnx", tmp_path / "m.engine", options=AHEAD)
