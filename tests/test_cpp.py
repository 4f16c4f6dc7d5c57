"""The example in C++: compiled where CMake, a compiler and the headers are, and held against the runtime.

ONNX Runtime's Python wheel brings the library and no headers: EDGECLS_ONNXRUNTIME_INCLUDE says where they are, and
turns whatever is missing then from a skip into a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecls_runtime import Classifier, Preprocess, golden
from edgecls_runtime.preprocess import load

SOURCE = Path(__file__).parents[1] / "examples" / "cpp"
INCLUDE = os.environ.get("EDGECLS_ONNXRUNTIME_INCLUDE")

Classify = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnxruntime = pytest.importorskip("onnxruntime")
    missing = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
    if missing:
        reason = f"{' and '.join(missing)} are not installed"
        pytest.fail(reason) if INCLUDE else pytest.skip(reason)
    build = tmp_path_factory.mktemp("cpp")
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"), None)
    configure = ["cmake", "-S", str(SOURCE), "-B", str(build)]
    configure += [f"-DONNXRUNTIME_LIBRARY={library}"] if library else []
    configure += [f"-DONNXRUNTIME_INCLUDE_DIR={INCLUDE}"] if INCLUDE else []
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    if done.returncode:
        wanting = next((line.strip() for line in done.stderr.splitlines() if "Could" in line), done.stderr[-200:])
        reason = f"cmake: {wanting}"
        pytest.fail(done.stderr) if INCLUDE else pytest.skip(reason)
    done = subprocess.run(["cmake", "--build", str(build)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
    return build / "classify"


@pytest.fixture
def classify(program: Path) -> Classify:
    def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


def jpegs(folder: Path) -> list[Path]:
    """Pictures of many shapes, in several of JPEG's ways."""
    picture = Image.fromarray(golden.draw_picture(2))
    made = []
    for number, (size, mode, options) in enumerate(
        [
            ((400, 300), "RGB", {"quality": 90}),
            ((300, 400), "RGB", {"quality": 40, "progressive": True}),
            ((401, 299), "RGB", {"subsampling": 0}),
            ((77, 301), "RGB", {"subsampling": 2}),
            ((33, 16), "RGB", {"quality": 95}),
            ((36, 36), "RGB", {}),
            ((32, 32), "RGB", {}),
            ((35, 37), "L", {}),
            ((5, 3), "RGB", {}),
            ((640, 37), "RGB", {"exif": Image.Exif()}),
        ]
    ):
        path = folder / f"{number}.jpg"
        picture.resize(size).convert(mode).save(path, **options)
        made.append(path)
    return made


def assert_same(records: list[dict[str, Any]], model: Path, paths: list[Path]) -> None:
    assert [record["image"] for record in records] == list(map(str, paths))
    with Classifier.load(model) as classifier:
        for record, path in zip(records, paths, strict=True):
            expected = classifier.predict(path, classifier.manifest.top_k.k)
            assert record["error"] is None
            assert [item["index"] for item in record["predictions"]] == [item.index for item in expected]
            assert [item["label"] for item in record["predictions"]] == [item.label for item in expected]
            found = [item["score"] for item in record["predictions"]]
            np.testing.assert_allclose(found, [item.score for item in expected], rtol=1e-5)


def test_it_answers_as_the_runtime_does(classify: Classify, models: Path, tmp_path: Path) -> None:
    paths = jpegs(tmp_path)
    crop = load(paths[0], Preprocess(resize_size=36, crop_size=(32, 32), input_layout="NHWC-uint8"))
    (tmp_path / "crop.ppm").write_bytes(b"P6\n32 32\n255\n" + crop.tobytes())
    status, records, errors = classify(models / "embedded.onnx", *paths, tmp_path / "crop.ppm")
    assert (status, errors) == (0, "")
    assert_same(records[:-1], models / "embedded.onnx", paths)
    assert records[0]["predictions"] == records[-1]["predictions"]


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(resize_size=18, crop_size=(16, 16)),
        Preprocess(resize_size=19, crop_size=(16, 16), interpolation="bicubic"),
        Preprocess(resize_size=(16, 16), crop_size=(16, 16), color="BGR"),
        Preprocess(resize_size=(23, 31), crop_size=(16, 16)),
        Preprocess(resize_size=11, crop_size=(16, 16)),
    ],
    ids=["shorter side", "bicubic", "squashed, BGR", "squashed, then cropped", "padded"],
)
def test_its_pixels_are_those_of_the_runtime(classify: Classify, tmp_path: Path, preprocess: Preprocess) -> None:
    """By a graph that returns what it takes: 768 "classes", whose scores tell two values of a pixel apart."""
    pytest.importorskip("onnx", reason="the graph is made with onnx")
    model = identity(tmp_path, preprocess)
    paths = jpegs(tmp_path)
    status, records, _ = classify(model, *paths)
    assert status == 0
    with Classifier.load(model) as classifier:
        for record, path in zip(records, paths, strict=True):
            scores = np.zeros(768)
            for item in record["predictions"]:
                scores[item["index"]] = item["score"]
            logits = np.log(scores / scores[0]) + classifier.logits(path)[0]
            step = min(1 / 255 / std for std in preprocess.std)
            assert np.abs(logits - classifier.logits(path)).max() < step / 100, path


def identity(folder: Path, preprocess: Preprocess) -> Path:
    import onnx
    from onnx import TensorProto, helper

    from edgecls_export.embedding import Embedding, embed_preprocess
    from edgecls_runtime import manifest, onnx_file

    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["logits"])],
        "identity",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 768])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "i.onnx")
    document = manifest.Manifest(
        arch="identity",
        precision="fp32",
        labels=tuple(map(str, range(768))),
        preprocess=preprocess,
        opset=18,
        graph_sha256=onnx_file.graph_sha256(folder / "i.onnx"),
        source=manifest.Source(weights="none", sha256="0" * 64),
    )
    changed = embed_preprocess(folder / "i.onnx", folder / "e.onnx", document, Embedding(top_k=768))
    manifest.write(changed, folder / "e.onnx", folder / "embedded.onnx")
    return folder / "embedded.onnx"


@pytest.mark.parametrize("source", ["multilabel", "fixed4"])
def test_thresholds_and_fixed_batches(classify: Classify, models: Path, tmp_path: Path, source: str) -> None:
    pytest.importorskip("onnx", reason="embedding needs onnx")
    from edgecls_export.embedding import Embedding, embed_file

    embed_file(models / f"{source}.onnx", tmp_path / "m.onnx", Embedding(top_k=5), [("0", golden.draw_picture(0))])
    paths = jpegs(tmp_path)
    status, records, _ = classify(tmp_path / "m.onnx", *paths)
    assert status == 0
    assert_same(records, tmp_path / "m.onnx", paths)
    if source == "multilabel":
        assert min(len(record["predictions"]) for record in records) < 5


def test_what_it_does_not_do_it_refuses(classify: Classify, models: Path, tmp_path: Path) -> None:
    picture = Image.fromarray(golden.draw_picture(0))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    picture.save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-2000])
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture.save(tmp_path / "other.png")
    (tmp_path / "short.ppm").write_bytes(b"P6\n32 32\n255\n" + bytes(32))
    (tmp_path / "other.ppm").write_bytes(b"P6\n31 32\n255\n" + bytes(31 * 32 * 3))
    (tmp_path / "deep.ppm").write_bytes(b"P6\n1 1\n65535\n" + bytes(6))
    (tmp_path / "empty.jpg").write_bytes(b"")
    causes = {
        "turned.jpg": "EXIF orientation 6: turn it upright first",
        "cut.jpg": "Premature end of JPEG file",
        "cmyk.jpg": "Unsupported color conversion request",
        "other.png": "Not a JPEG file",
        "short.ppm": "is cut short",
        "other.ppm": "is no crop of 32x32",
        "deep.ppm": "is no PPM of 8 bits",
        "empty.jpg": "",
        "gone.jpg": "cannot be opened",
    }
    status, records, _ = classify(
        models / "embedded.onnx", *(tmp_path / name for name in causes), tmp_path / "good.jpg"
    )
    assert status == 1
    for record, (name, cause) in zip(records, causes.items(), strict=False):
        assert record["predictions"] == []
        assert record["error"].startswith(f"{tmp_path / name}: ")
        assert cause in record["error"]
    assert records[-1]["error"] is None


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        ("foreign.onnx", "carries no manifest: edgecls did not export it"),
        ("tiny.onnx", "export it with --embed-preprocess --embed-top-k K"),
        ("pixels.onnx", "export it with --embed-preprocess --embed-top-k K"),
        ("gone.onnx", "gone.onnx"),
    ],
)
def test_models_that_it_cannot_run(classify: Classify, models: Path, tmp_path: Path, model: str, cause: str) -> None:
    status, records, errors = classify(models / model, tmp_path / "photo.jpg")
    assert (status, records) == (1, [])
    assert errors.startswith("error: ")
    assert cause in errors
    assert classify()[0] == 2
