from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="evaluate needs the training packages")

from edgecls_runtime import Classifier, Preprocess
from edgecls_runtime.golden import draw_picture

if TYPE_CHECKING:
    from conftest import Refused, Run

LABELS = ("ant", "bee", "cat", "dog", "eel")
PICTURES = 8


@pytest.fixture
def shapes(models: Path, tmp_path: Path) -> Path:
    """Pictures sorted into the classes that the tiny model takes them for, but the first one, which is no ant."""
    classifier = Classifier.load(models / "tiny.onnx")
    red, blue = (np.full((40, 40, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    for index, pixels in enumerate([*map(draw_picture, range(PICTURES - 2)), red, blue]):
        label = classifier.predict(pixels, 1)[0].label
        assert label != "ant"
        path = tmp_path / "shapes" / "val" / (label if index else "ant") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "shapes" / "train" / "bee").mkdir(parents=True)
    shutil.copy(path, tmp_path / "shapes" / "train" / "bee")
    return tmp_path / "shapes"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from edgecls import checkpoint, models
    from edgecls.checkpoint import Checkpoint

    model = models.build("mobilenet_v3_small", num_classes=5)
    made = Checkpoint(
        arch="mobilenet_v3_small",
        labels=LABELS,
        preprocess=Preprocess(resize_size=36, crop_size=(32, 32)),
        state_dict=dict(model.state_dict()),
    )
    checkpoint.save(made, tmp_path / "best.pt")
    return tmp_path / "best.pt"


def test_an_artifact(edgecls: Run, models: Path, shapes: Path, tmp_path: Path) -> None:
    (shapes / "val" / "eel" / "bad.png").write_text("no picture")
    done = edgecls("evaluate", models / "tiny.onnx", "shapes", "--predictions", "p.csv", "--output", "out")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "8 pictures, 1 unreadable left out"
    assert "  acc@1         87.50 %" in lines
    assert any(line.startswith("  shapes/val/ant/0.png: is ant, taken for ") for line in lines)
    assert "left out: shapes/val/eel/bad.png: is not a picture of a kind that is read" in done.stderr
    assert "written to out: evaluation.json, confusion_matrix.png, worst_mistakes.png" in done.stderr
    assert "\r" not in done.stderr  # no bar where nobody watches

    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (document["data"], document["origin"], document["metrics"]["acc@1"]) == ("shapes", "val/", 87.5)
    assert sorted(os.listdir(tmp_path / "out")) == ["confusion_matrix.png", "evaluation.json", "worst_mistakes.png"]
    for name in ("confusion_matrix.png", "worst_mistakes.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.format == "PNG"

    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    classifier = Classifier.load(models / "tiny.onnx")
    assert len(rows) == PICTURES
    for row in rows:
        predictions = classifier.predict(shapes / row["id"])
        assert [row["label"], *(row[f"label_{rank}"] for rank in range(2, 6))] == [p.label for p in predictions]
        assert float(row["score"]) == pytest.approx(predictions[0].score, rel=1e-5)


def test_a_checkpoint_as_json(in_process: Run, checkpoint: Path, shapes: Path) -> None:
    arguments = ("--split", "train", "--tta", 10, "--device", "cpu", "--format", "json", "--workers", 1)
    done = in_process("evaluate", "best.pt", "shapes", *arguments)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["model"], document["task"], document["tta"], document["images"]) == ("best.pt", "single", 10, 1)
    assert document["provider"].startswith("cpu (torch ")
    assert document["origin"] == "train/"
    assert [item["label"] for item in document["classes"]] == list(LABELS)


def test_several_labels(in_process: Run, models: Path, shapes: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name};dog" for path in sorted(shapes.glob("val/*/*"))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "confusion_matrix.png").touch()
    arguments = ("evaluate", models / "multilabel.onnx", "list.csv", "--predictions", "p.csv", "-o", "out")
    refusal = in_process(*arguments)
    assert refusal.returncode == 1
    done = in_process(*arguments, "--force")
    assert done.returncode == 0, done.stderr
    assert "  mAP " in done.stdout
    assert not (tmp_path / "out" / "confusion_matrix.png").exists()  # that of an earlier model
    header, *answers = csv.reader((tmp_path / "p.csv").read_text().splitlines())
    assert header == ["id", "labels", *(f"score_{label}" for label in LABELS)]
    assert len(answers) == len(rows)


def test_pictures_without_labels(in_process: Run, refused: Refused, models: Path, photo: Path) -> None:
    (photo.parent / "flat").mkdir()
    for name in ("b.jpg", "a.jpg"):
        shutil.copy(photo, photo.parent / "flat" / name)
    tiny = models / "tiny.onnx"
    refused(in_process("evaluate", tiny, "flat"), "flat: its pictures have no labels", "--predictions FILE.csv")
    refused(in_process("evaluate", tiny, "photo.jpg"), "photo.jpg: has no labels", "--predictions FILE.csv")
    done = in_process("evaluate", tiny, "flat", "--predictions", "flat.csv")
    assert (done.returncode, done.stdout) == (0, "2 pictures answered, 0 unreadable\n")
    assert "note: the pictures have no labels, so nothing is measured" in done.stderr
    assert in_process("evaluate", tiny, "photo.jpg", "--predictions", "one.csv", "--format", "json").returncode == 0
    best = Classifier.load(tiny).predict(photo)[0]
    flat, one = ([*csv.reader((photo.parent / name).read_text().splitlines())] for name in ("flat.csv", "one.csv"))
    assert [row[:2] for row in flat] == [["id", "label"], ["a.jpg", best.label], ["b.jpg", best.label]]
    assert one == [flat[0], ["photo.jpg", *flat[1][1:]]]


def test_predictions_of_an_artifact_need_no_torch(models: Path, photo: Path) -> None:
    code = (
        "import sys\n"
        "from edgecls.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    print(end.code, *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    arguments = ["evaluate", str(models / "tiny.onnx"), str(photo), "--predictions", str(photo.with_suffix(".csv"))]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert {"torch", "torchmetrics", "matplotlib", "onnx"}.isdisjoint(loaded)


def test_missing_training_packages_are_named(models: Path, shapes: Path) -> None:
    code = "import sys; sys.modules['torchmetrics'] = None; from edgecls.cli import main; main(sys.argv[1:])"
    arguments = ["evaluate", str(models / "tiny.onnx"), str(shapes)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: this command needs the package torchmetrics" in done.stderr
    assert "pip install 'edgecls[train,cpu]'" in done.stderr


def test_a_foreign_model_takes_labels_and_preprocess(
    in_process: Run, models: Path, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (tmp_path / "pre.json").write_text('{"resize_size": 36, "crop_size": [32, 32]}')
    (tmp_path / "map.json").write_text('{"eel": "ant", "nobody": 3}')
    done = in_process(
        *("evaluate", models / "foreign.onnx", "shapes", "--labels", "labels.txt", "--preprocess", "pre.json"),
        *("--class-map", "map.json", "--format", "json", "--threads", 1),
    )
    assert done.returncode == 0, done.stderr
    classes = {item["label"]: item["images"] for item in json.loads(done.stdout)["classes"]}
    assert classes["eel"] == 0
    assert sum(classes.values()) == PICTURES


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["tiny.onnx", "none"], "none: no such folder or file", "Check the path."),
        (["tiny.onnx", "empty"], "empty: holds no pictures", "for each class"),
        (["tiny.onnx", "other"], "label 'fox' is none of the 5 classes", "--class-map FILE.json"),
        (["tiny.onnx", "bad"], "none of the 1 pictures can be read: bad/ant/1.png: is empty", "Give JPEG"),
        (["tiny.onnx", "shapes", "--strict"], "shapes/val/ant/zero.png: is empty (0 bytes)", "without --strict"),
        (["tiny.onnx", "bad", "--split", "val"], "bad: has no val/", "Leave out --split"),
        (["tiny.onnx", "shapes", "--class-map", "typo.json"], "'x': 'bea' is none of the", "Correct it"),
        (["tiny.onnx", "shapes", "--class-map", "none.json"], "none.json: cannot be read", "--class-map"),
        (["tiny.onnx", "shapes", "--predictions", "typo.json"], "typo.json: exists already", "--force"),
        (["tiny.onnx", "shapes", "--predictions", "no/p.csv"], "the folder no does not exist", "mkdir"),
        (["tiny.onnx", "shapes", "--output", "typo.json"], "typo.json: is a file", "--output DIR"),
        (["tiny.onnx", "shapes", "--output", "no/out"], "the folder no does not exist", "mkdir"),
        (["tiny.onnx", "shapes", "--output", "old"], "old/evaluation.json: exists already", "--force"),
        (["tiny.onnx", "shapes", "--labels", "labels.txt"], "carries its own labels", "Leave out --labels"),
        (["typo.json", "shapes"], "typo.json: is not a whole ONNX file", "ONNX"),
        (["text.pt", "shapes"], "text.pt: is not a file of torch.save", "checkpoint"),
        (["none.onnx", "shapes"], "none.onnx: no such file", "edgecls export"),
        (["full.onnx", "shapes", "--tta", "3"], "there is no margin for corners", "--tta 2"),
    ],
)
def test_bad_input(
    in_process: Run,
    refused: Refused,
    models: Path,
    shapes: Path,
    tmp_path: Path,
    arguments: list[str],
    cause: str,
    remedy: str,
) -> None:
    shutil.copy(models / "tiny.onnx", tmp_path)
    for name in ("empty/ant", "bad/ant", "other/fox", "old"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("bad/ant/1.png", "shapes/val/ant/zero.png", "old/evaluation.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    Image.fromarray(draw_picture(0)).save(tmp_path / "other" / "fox" / "1.png")
    (tmp_path / "typo.json").write_text('{"x": "bea"}')
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    content = (models / "tiny.onnx").read_bytes()
    (tmp_path / "full.onnx").write_bytes(content.replace(b'"resize_size":36', b'"resize_size":32'))
    before = sorted(tmp_path.rglob("*"))
    refused(in_process("evaluate", *arguments), cause, remedy)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["m.onnx"], "Missing argument 'DATA'"),
        (["m.onnx", "photo.jpg", "--device", "cpu"], "--device is for checkpoints"),
        (["m.pt", "photo.jpg", "--provider", "cpu"], "--provider is for exported models"),
        (["m.pt", "photo.jpg", "--threads", "1"], "--threads is for exported models"),
        (["m.pt", "photo.jpg", "--preprocess", "imagenet"], "--preprocess is for exported models"),
        (["m.onnx", "photo.jpg", "--labels-from", "name"], "--labels-from is for folders"),
        (["m.onnx", "photo.jpg", "--predictions", "p.csv", "--split", "val"], "--split is for labelled"),
        (["m.onnx", "photo.jpg", "--predictions", "p.csv", "--class-map", "m.json"], "--class-map is for labelled"),
        (["m.onnx", "photo.jpg", "--predictions", "p.csv", "-o", "out"], "--output is for labelled"),
        (["m.onnx", "photo.jpg", "--tta", "11"], "is not in the range 1<=x<=10"),
        (["m.onnx", "photo.jpg", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_usage_is_2(in_process: Run, photo: Path, arguments: list[str], said: str) -> None:
    done = in_process("evaluate", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_cuda_that_is_not_there(in_process: Run, refused: Refused, checkpoint: Path, shapes: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch has CUDA")
    refused(in_process("evaluate", "best.pt", "shapes", "--device", "cuda"), "device cuda: torch", "--device cpu")
