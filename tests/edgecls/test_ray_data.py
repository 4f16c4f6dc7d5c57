from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.ray_data import BatchClassifier
from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        Image.fromarray(draw_picture(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_text("no picture")
    return tmp_path


def check(rows: list[dict[str, object]], models: Path) -> None:
    tiny = Classifier.load(models / "tiny.onnx")
    assert [Path(str(row["path"])).name for row in rows] == [f"{number}.png" for number in range(5)]
    for row in rows:
        if str(row["path"]).endswith("3.png"):
            assert (list(row["labels"]), list(row["scores"]), list(row["indices"])) == ([], [], [])  # type: ignore[call-overload]
            assert "is not a picture of a kind that is read" in str(row["error"])
            continue
        expected = tiny.predict(str(row["path"]), 2)
        assert row["error"] == ""
        assert list(row["labels"]) == [item.label for item in expected]  # type: ignore[call-overload]
        assert list(row["indices"]) == [item.index for item in expected]  # type: ignore[call-overload]
        np.testing.assert_allclose(row["scores"], [item.score for item in expected], rtol=1e-5)  # type: ignore[arg-type]
        assert "bytes" not in row


@pytest.mark.parametrize("column", ["bytes", "path"])
def test_a_batch_keeps_its_rows(models: Path, folder: Path, column: str) -> None:
    paths = sorted(folder.iterdir())
    batch = {"path": np.array([str(path) for path in paths])}
    if column == "bytes":
        batch["bytes"] = np.array([path.read_bytes() for path in paths], object)
    answers = BatchClassifier(models / "tiny.onnx", column=column, top_k=2)(batch)
    check([dict(zip(answers, row, strict=True)) for row in zip(*answers.values(), strict=True)], models)


def test_arrays(models: Path) -> None:
    pictures = np.stack([draw_picture(number) for number in range(3)])
    answers = BatchClassifier(models / "tiny.onnx", column="image", top_k=1)({"image": pictures})
    tiny = Classifier.load(models / "tiny.onnx")
    assert [list(labels) for labels in answers["labels"]] == [[tiny.predict(image, 1)[0].label] for image in pictures]
    assert "image" not in answers


@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_data_set_through_actors(models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'ray[data]')")
    pytest.importorskip("ray.data", reason="ray[data] is not installed", exc_type=ImportError)
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        photos = ray.data.read_binary_files(str(folder), include_paths=True, override_num_blocks=5)
        answers = photos.map_batches(
            BatchClassifier,
            fn_constructor_args=[str(models / "tiny.onnx")],
            fn_constructor_kwargs={"top_k": 2},
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        check(sorted(answers.take_all(), key=lambda row: str(row["path"])), models)
    finally:
        ray.shutdown()
