from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from edgecls_runtime import Classifier
from edgecls_runtime.golden import draw_picture

if TYPE_CHECKING:
    from conftest import Refused, Run


def test_table(edgecls: Run, models: Path, photo: Path) -> None:
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg", "--top-k", 2)
    first, second = Classifier.load(models / "tiny.onnx").predict(photo, 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"photo.jpg\n  {first}\n  {second}\n"


def test_json_records(edgecls: Run, models: Path, photo: Path) -> None:
    (photo.parent / "bad.jpg").write_text("no picture")
    done = edgecls("infer", "--engine", models / "tiny.onnx", photo, "bad.jpg", "--format", "json")
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)
    expected = Classifier.load(models / "tiny.onnx").predict(photo)
    assert good == {
        "image": str(photo),
        "predictions": [{"index": p.index, "label": p.label, "score": p.score} for p in expected],
        "error": None,
    }
    assert (bad["image"], bad["predictions"]) == ("bad.jpg", [])
    assert bad["error"].startswith("bad.jpg: is not a picture of a kind that is read (starts with b'no picture')\n")


def test_jsonl_and_csv_say_the_same(edgecls: Run, models: Path, photo: Path) -> None:
    (photo.parent / "bad.jpg").touch()
    arguments = ("infer", "--engine", models / "tiny.onnx", "photo.jpg", "bad.jpg", "--format")
    records = [json.loads(line) for line in edgecls(*arguments, "jsonl").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(edgecls(*arguments, "csv").stdout)))
    assert [row["image"] for row in rows] == ["photo.jpg"] * 5 + ["bad.jpg"]
    for rank, (row, item) in enumerate(zip(rows, records[0]["predictions"], strict=False), start=1):
        assert (int(row["rank"]), int(row["index"]), row["label"]) == (rank, item["index"], item["label"])
        assert float(row["score"]) == item["score"]
    assert rows[5]["error"] == records[1]["error"].replace("\n", " ")


def test_one_bad_picture_does_not_stop_the_others(edgecls: Run, models: Path, photo: Path) -> None:
    shutil.copy(photo, photo.parent / "second.jpg")
    (photo.parent / "bad.jpg").touch()
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg", "bad.jpg", "none.jpg", "second.jpg")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if not line.startswith(" ")] == ["photo.jpg", "second.jpg"]
    assert "bad.jpg: is empty (0 bytes)" in done.stderr
    assert "none.jpg: no such file" in done.stderr
    assert done.stderr.endswith("error: 2 of 4 pictures failed\n")


def test_folders_globs_and_standard_input(edgecls: Run, models: Path, photo: Path) -> None:
    folder = photo.parent / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.webp"):
        Image.fromarray(draw_picture(0)).save(folder / name)
    (folder / "labels.json").write_text("{}")

    def images(*arguments: object, stdin: bytes = b"") -> list[str]:
        done = edgecls("infer", "--engine", models / "tiny.onnx", "--format", "jsonl", *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["image"] for line in done.stdout.splitlines()]

    assert images("folder") == ["folder/a.JPG", "folder/b.png", "folder/deep/c.webp"]
    assert images("folder/*.[jJ]*[gG]", "folder/b.png") == ["folder/a.JPG", "folder/b.png"]
    assert images("-", stdin=photo.read_bytes()) == ["-"]
    noted = edgecls("infer", "--engine", models / "tiny.onnx", "folder")
    assert "note: 1 files passed over: no pictures by their suffix" in noted.stderr


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "<stdin>: is empty (0 bytes)"),
        (b"no picture", "<stdin>: is not a picture of a kind that is read (starts with"),
    ],
)
def test_bad_standard_input(edgecls: Run, models: Path, content: bytes, cause: str) -> None:
    done = edgecls("infer", "--engine", models / "tiny.onnx", "-", stdin=content)
    assert done.returncode == 1
    assert done.stderr.startswith(cause)


@pytest.mark.parametrize("images", [["-"], ["photo.jpg", "-"]])
def test_closed_standard_input(
    in_process: Run, refused: Refused, models: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, images: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # what `<&-` leaves
    done = in_process("infer", "--engine", models / "tiny.onnx", *images)
    refused(done, "<stdin>: is closed", "Give a picture on standard input")


def test_a_folder_without_pictures_is_an_error(edgecls: Run, refused: Refused, models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(edgecls("infer", "--engine", models / "tiny.onnx", "empty"), "empty: no pictures there", "Give files")


def test_foreign_models(edgecls: Run, models: Path, photo: Path) -> None:
    guessed = edgecls("infer", "--engine", models / "foreign.onnx", "photo.jpg")
    assert guessed.returncode == 0
    assert "WARNING: " in guessed.stderr
    assert "no labels given for 5 classes" in guessed.stderr
    assert "ImageNet's assumed" in guessed.stderr
    assert "class 4" in guessed.stdout

    (photo.parent / "labels.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    (photo.parent / "labels.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    (photo.parent / "pre.json").write_text('{"resize_size": 36, "crop_size": [32, 32]}')
    own = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg")
    for labels in ("labels.txt", "labels.json"):
        told = edgecls(
            "infer", "--engine", models / "foreign.onnx", "photo.jpg", "--labels", labels, "--preprocess", "pre.json"
        )
        assert told.stdout == own.stdout
        assert "softmax over the outputs" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["--labels", "none.txt"], "none.txt: cannot be read: No such file", "Check the path of --labels."),
        (["--labels", "empty.json"], "empty.json: ", "one label a line, or a JSON list"),
        (["--labels", "empty.txt"], "empty.txt: is not a list of texts", "Give one label a line"),
        (["--labels", "three.txt"], "3 labels for 5 outputs", "one label for each output"),
        (["--labels", "colour.txt"], r"label 1 is '\x1b[31mred'", "no control characters"),
        (["--preprocess", "none.json"], "none.json: cannot be read", "Check the path of --preprocess."),
        (["--preprocess", "wrong.json"], "wrong.json: has an unknown field 'resize'", "export the model again"),
        (["--preprocess", "imagenet"], "the preprocess crops to (224, 224), the model takes (32, 32)", "trained with"),
    ],
)
def test_bad_labels_and_preprocess(
    edgecls: Run, refused: Refused, models: Path, photo: Path, arguments: list[str], cause: str, remedy: str
) -> None:
    (photo.parent / "empty.json").touch()
    (photo.parent / "empty.txt").touch()
    (photo.parent / "three.txt").write_text("a\nb\nc\n")
    (photo.parent / "colour.txt").write_text("\x1b[31mred\nb\nc\nd\ne\n")
    (photo.parent / "wrong.json").write_text('{"resize": 256}')
    refused(edgecls("infer", "--engine", models / "foreign.onnx", "photo.jpg", *arguments), cause, remedy)


@pytest.mark.parametrize(
    ("name", "cause", "remedy"),
    [
        ("none", "none.onnx: no such file", "edgecls export"),
        ("empty", "empty.onnx: is empty (0 bytes)", "again"),
        ("text", "text.onnx: is not a whole ONNX file (starts with b'This is '", "conversion to ONNX"),
        ("half", "half.onnx: is cut short", "again"),
        ("two_inputs", "two_inputs.onnx: is not a picture classifier: 2 inputs (a, b)", "a picture in, logits out"),
        ("external", "external.onnx: keeps weights in 'external.data', which is missing", "Copy external.data into"),
        ("manifest", 'manifest.onnx: manifest: precision: is "fp33"', "export the model again"),
    ],
)
def test_bad_models(
    edgecls: Run, refused: Refused, models: Path, photo: Path, name: str, cause: str, remedy: str
) -> None:
    content = (models / "tiny.onnx").read_bytes()
    made = {
        "empty": b"",
        "text": b"This is a text.\n",
        "half": content[: len(content) // 3],
        "manifest": content.replace(b'"fp32"', b'"fp33"'),
    }
    path = photo.parent / f"{name}.onnx"
    if name in made:
        path.write_bytes(made[name])
    elif name != "none":
        shutil.copy(models / f"{name}.onnx", path)
    refused(edgecls("infer", "--engine", path, "photo.jpg"), cause, remedy)


def test_a_picture_over_the_limit(edgecls: Run, models: Path, photo: Path) -> None:
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg", "--max-pixels", 1000)
    assert done.returncode == 1
    assert "photo.jpg: 400x300 is 120,000 pixels, over the limit of 1,000\n    Scale it down first" in done.stderr


def test_a_raised_limit_is_raised_for_pillow_too(edgecls: Run, models: Path, tmp_path: Path) -> None:
    """Pillow warns over 89 million pixels and refuses twice that, whatever the caller allows."""
    Image.new("1", (20_000, 9_100)).save(tmp_path / "large.png")
    arguments = ("infer", "--engine", models / "tiny.onnx", "large.png")
    refusal = edgecls(*arguments)
    assert refusal.returncode == 1
    assert refusal.stderr.startswith("large.png: Image size (182000000 pixels) exceeds limit of 178956970 pixels")
    allowed = edgecls(*arguments, "--max-pixels", 182_000_000)
    assert (allowed.returncode, allowed.stderr) == (0, "")


def test_a_picture_just_over_the_limit_gets_one_message(edgecls: Run, models: Path, tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")
    done = edgecls("infer", "--engine", models / "tiny.onnx", "large.png")
    assert done.stderr.startswith("large.png: 10000x9000 is 90,000,000 pixels, over the limit of 89,478,485\n")


def test_a_provider_that_is_not_there(edgecls: Run, refused: Refused, models: Path, photo: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    done = edgecls("infer", "--engine", models / "tiny.onnx", "photo.jpg", "--provider", "cuda")
    refused(done, "provider cuda: onnxruntime", "pip uninstall onnxruntime && pip install 'edgecls[gpu]'")


def test_fast_decoding_says_so(edgecls: Run, models: Path, photo: Path) -> None:
    exact = edgecls("infer", "--engine", models / "tiny.onnx", photo, "--decode", "exact")
    fast = edgecls("infer", "--engine", models / "tiny.onnx", photo, "--decode", "fast")
    assert (exact.returncode, exact.stderr, fast.returncode) == (0, "", 0)
    assert fast.stderr.startswith("note: decoded fast: the scores are near those of --decode exact")


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer"],
        ["infer", "photo.jpg"],
        ["infer", "--engine", "m.onnx"],
        ["infer", "--engine", "m.onnx", "photo.jpg", "--top-k", "0"],
        ["infer", "--engine", "m.onnx", "photo.jpg", "--format", "xml"],
        ["infer", "--engine", "m.onnx", "photo.jpg", "--preprocess", "squash"],
        ["infer", "--engine", "m.onnx", "photo.jpg", "--provider", "tpu"],
        ["fly"],
    ],
)
def test_wrong_usage_is_2(edgecls: Run, arguments: list[str]) -> None:
    done = edgecls(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: edgecls")


def test_infer_imports_no_torch_no_onnx_and_no_other_command(models: Path, photo: Path) -> None:
    """In a process where both may well be installed."""
    import subprocess

    code = (
        "import sys\n"
        "from edgecls.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    print(end.code, *sorted(sys.modules))\n"
    )
    arguments = [sys.executable, "-c", code, "infer", "--engine", str(models / "tiny.onnx"), str(photo)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert "onnxruntime" in loaded
    assert {"torch", "torchvision", "onnx", "edgecls_export"}.isdisjoint(loaded)
    commands = [name.rpartition(".")[2] for name in loaded if name.startswith("edgecls.cli.")]
    assert commands == ["infer", "options", "param_types", "pictures", "records"], "not those of other commands"
