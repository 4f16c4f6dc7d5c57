from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgecls_export import triton
from edgecls_export.triton import DEFAULT_MAX_BATCH, triton_from_onnx
from edgecls_runtime import engine_file, manifest
from edgecls_runtime.engine_file import BatchProfile, EngineSidecar
from edgecls_runtime.errors import ExportError, ModelError, OutputError


def parse(model: Path) -> Any:
    """Read ``config.pbtxt`` as Triton does: text format, every field known."""
    protobuf = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed: pip install 'tritonclient[grpc]'"
    )
    from google.protobuf import text_format

    return text_format.Parse((model / "config.pbtxt").read_text("utf-8"), protobuf.ModelConfig())


@pytest.fixture
def engine(models: Path, tmp_path: Path) -> Path:
    """What an engine of tensorrt looks like from outside."""
    return write_engine(tmp_path / "tiny-engine.engine", models / "tiny.onnx", BatchProfile(min=1, opt=8, max=16))


def write_engine(path: Path, onnx: Path, profile: BatchProfile, flavour: Any = "tensorrt") -> Path:
    path.write_bytes(b"a plan")
    sidecar = EngineSidecar(
        flavour=flavour,
        version="11.4.0",
        compute_capabilities=("8.9",),
        gpu="NVIDIA A10",
        platform="linux-x86_64",
        options={},
        profile=profile,
        input_dtype="float32",
        output_dtype="float32",
        onnx=onnx.name,
        onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(),
        plan_sha256=hashlib.sha256(b"a plan").hexdigest(),
        plan_bytes=6,
        rebuild="edgecls export tiny.onnx --tensorrt",
        manifest=manifest.read(onnx),
    )
    engine_file.sidecar_path(path).write_text(sidecar.to_json())
    return path


def test_an_onnx_file_in_a_repository(models: Path, tmp_path: Path) -> None:
    report = triton_from_onnx(models / "tiny.onnx", tmp_path / "repository")
    model = tmp_path / "repository" / "tiny"
    assert report.files == ("1/model.onnx", "config.pbtxt", "labels.txt")
    assert str(report) == f"{model}: onnxruntime_onnx, up to 32 a batch: 1/model.onnx, config.pbtxt, labels.txt"
    assert (model / "1" / "model.onnx").read_bytes() == (models / "tiny.onnx").read_bytes()
    assert (model / "labels.txt").read_text() == "ant\nbee\ncat\ndog\neel\n"
    text = (model / "config.pbtxt").read_text()
    assert text.startswith(f'name: "tiny"\nplatform: "onnxruntime_onnx"\nmax_batch_size: {DEFAULT_MAX_BATCH}\n')
    config = parse(model)
    assert [(item.name, item.data_type, list(item.dims)) for item in (*config.input, *config.output)] == [
        ("input", 11, [3, 32, 32]),  # TYPE_FP32
        ("logits", 11, [5]),
    ]
    assert config.output[0].label_filename == "labels.txt"
    assert config.HasField("dynamic_batching")
    assert list(config.dynamic_batching.preferred_batch_size) == []
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, 0)]  # KIND_AUTO
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    preprocess = json.loads(config.parameters["preprocess"].string_value)
    assert preprocess == json.loads(json.dumps(dataclasses.asdict(document.preprocess)))
    assert config.parameters["activation"].string_value == "softmax"


def test_an_engine_in_a_repository(models: Path, tmp_path: Path, engine: Path) -> None:
    report = triton_from_onnx(models / "tiny.onnx", tmp_path / "repository", engine=engine)
    assert report.files == ("1/model.plan", "config.pbtxt", "labels.txt")
    assert (report.path / "1" / "model.plan").read_bytes() == b"a plan"
    config = parse(report.path)
    assert (config.name, config.platform, config.max_batch_size) == ("tiny-engine", "tensorrt_plan", 16)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16]
    assert [group.kind for group in config.instance_group] == [1]  # KIND_GPU


@pytest.mark.parametrize(
    ("source", "batch", "max_batch_size", "dims", "preferred"),
    [
        ("fixed4", None, 0, [4, 3, 32, 32], None),
        ("fixed4", BatchProfile(min=4, opt=4, max=4), 0, [4, 3, 32, 32], None),
        ("tiny", BatchProfile(min=8, opt=8, max=8), 0, [8, 3, 32, 32], None),
        ("tiny", BatchProfile(min=1, opt=1, max=1), 1, [3, 32, 32], None),
        ("tiny", BatchProfile(min=1, opt=1, max=8), 8, [3, 32, 32], [8]),
        ("foreign", BatchProfile(min=1, opt=4, max=8), 8, [3, 32, 32], [4, 8]),
    ],
)
def test_batches(
    models: Path,
    tmp_path: Path,
    source: str,
    batch: BatchProfile | None,
    max_batch_size: int,
    dims: list[int],
    preferred: list[int] | None,
) -> None:
    report = triton_from_onnx(models / f"{source}.onnx", tmp_path, batch=batch)
    assert report.max_batch_size == max_batch_size
    config = parse(report.path)
    assert config.max_batch_size == max_batch_size
    assert list(config.input[0].dims) == dims
    assert list(config.output[0].dims) == [*dims[:-3], 5]
    assert config.HasField("dynamic_batching") == (preferred is not None)
    assert list(config.dynamic_batching.preferred_batch_size) == (preferred or [])
    assert (report.path / "labels.txt").exists() == (source != "foreign")
    assert bool(config.output[0].label_filename) == (source != "foreign")


def test_batches_that_cannot_be_served(models: Path, tmp_path: Path) -> None:
    for source, batch, cause in (
        ("fixed4", BatchProfile(min=1, opt=4, max=8), "takes 4 pictures a run.*\nLeave --batch out, or give --batch 4"),
        ("tiny", BatchProfile(min=2, opt=4, max=8), "Triton makes batches from 1 on\n.*--batch 1,4,8; .*--batch 8"),
    ):
        with pytest.raises(ExportError, match=f"{source}.onnx: .*{cause}"):
            triton_from_onnx(models / f"{source}.onnx", tmp_path / "repository", batch=batch)
    assert os.listdir(tmp_path) == []


def test_names_with_odd_letters(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "tiny.onnx", tmp_path / 'Grün "7" \\.onnx')
    report = triton_from_onnx(tmp_path / 'Grün "7" \\.onnx', tmp_path / "repository")
    assert parse(report.path).name == report.path.name == 'Grün "7" \\'


def test_a_file_for_cpus_is_served_by_the_cpu(models: Path, tmp_path: Path) -> None:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    manifest.write(dataclasses.replace(document, target="cpu"), models / "tiny.onnx", tmp_path / "m.onnx")
    assert "KIND_CPU" in (triton_from_onnx(tmp_path / "m.onnx", tmp_path / "r").path / "config.pbtxt").read_text()


def test_pixels_go_in_and_the_best_classes_come_out(models: Path, tmp_path: Path) -> None:
    config = parse(triton_from_onnx(models / "embedded.onnx", tmp_path / "r").path)
    assert [(item.name, item.data_type, list(item.dims)) for item in (*config.input, *config.output)] == [
        ("pixels", 2, [32, 32, 3]),  # TYPE_UINT8
        ("logits", 11, [5]),
        ("scores", 11, [3]),
        ("indices", 9, [3]),  # TYPE_INT64
    ]
    assert json.loads(config.parameters["preprocess"].string_value)["input_layout"] == "NHWC-uint8"


def test_engines_that_triton_cannot_serve(models: Path, tmp_path: Path, engine: Path) -> None:
    with pytest.raises(ExportError, match=r"foreign.onnx: is not what .*tiny-engine.engine.json says"):
        triton_from_onnx(models / "foreign.onnx", tmp_path / "r", engine=engine)
    engine.write_bytes(b"another plan")
    with pytest.raises(
        ExportError, match=r"tiny-engine.engine: is not what .* says .*\nBuild the engine again: edgecls"
    ):
        triton_from_onnx(models / "tiny.onnx", tmp_path / "r", engine=engine)
    rtx = write_engine(tmp_path / "x.engine", models / "tiny.onnx", BatchProfile(min=1, opt=1, max=8), "tensorrt_rtx")
    with pytest.raises(ExportError, match="Triton runs plans of tensorrt, not of tensorrt_rtx\nServe the ONNX file"):
        triton_from_onnx(models / "tiny.onnx", tmp_path / "r", engine=rtx)
    with pytest.raises(ModelError, match="gone.engine.json: is missing"):
        triton_from_onnx(models / "tiny.onnx", tmp_path / "r", engine=tmp_path / "gone.engine")
    assert not (tmp_path / "r").exists()


def test_nothing_is_lost_and_nothing_half_done(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="nnn: cannot be written: File name too long"):
        triton_from_onnx(models / "tiny.onnx", tmp_path / ("n" * 300))
    repository = tmp_path / "repository"
    triton_from_onnx(models / "tiny.onnx", repository)
    with pytest.raises(OutputError, match="tiny: exists already\n.*--force"):
        triton_from_onnx(models / "tiny.onnx", repository)
    assert triton_from_onnx(models / "tiny.onnx", repository, force=True, batch=BatchProfile(min=1, opt=1, max=2))
    assert "max_batch_size: 2" in (repository / "tiny" / "config.pbtxt").read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(triton.shutil, "copyfile", full)
    for folder in (repository, tmp_path / "new"):
        with pytest.raises(OutputError, match="tiny: the disk is full"):
            triton_from_onnx(models / "tiny.onnx", folder, force=True)
    assert os.listdir(tmp_path) == ["repository"]
    assert "max_batch_size: 2" in (repository / "tiny" / "config.pbtxt").read_text()
    (repository / "tiny" / "2").mkdir()
    with pytest.raises(OutputError, match="tiny: holds 2, which would be lost"):
        triton_from_onnx(models / "tiny.onnx", repository, force=True)
    (tmp_path / "file").write_text("")
    for place, cause in ((tmp_path / "file", "file: is a file"), (tmp_path / "a" / "b", "does not exist\nMake it")):
        with pytest.raises(OutputError, match=cause):
            triton_from_onnx(models / "tiny.onnx", place)
