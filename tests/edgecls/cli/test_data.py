"""``edgecls data``: also where torch is not installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[[subprocess.CompletedProcess[str], str, str], None]
Draw = Callable[..., Path]


def test_check_says_what_was_found(edgecls: Run, colours: Draw) -> None:
    data = colours()
    (data / "train" / "red" / "notes.txt").write_text("x")
    (data / "train" / "red" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    done = edgecls("data", "check", data)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "blue", "12", "6"] in rows
    assert ["2", "red", "12", "6"] in rows
    assert ["pictures", "36", "18"] in rows
    assert "unreadable, left out" in done.stdout
    assert "cut.jpg" in done.stdout
    assert "1 .txt" in done.stdout
    document = json.loads(edgecls("data", "check", data, "--format", "json").stdout)
    assert document["labels"] == ["blue", "green", "red"]
    assert len(document["unreadable"]) == 1


def test_check_fails_where_training_would(edgecls: Run, refused: Refused, colours: Draw) -> None:
    data = colours()
    (data / "val" / "red" / "again.png").write_bytes((data / "train" / "red" / "000.png").read_bytes())
    done = edgecls("data", "check", data)
    refused(done, "the same picture in both splits, 1 times", "--allow-duplicates")
    assert ["2", "red", "12", "7"] in [line.split() for line in done.stdout.splitlines()]  # the table comes first
    assert edgecls("data", "check", data, "--allow-duplicates").returncode == 0
    (data / "train" / "red" / "cut.jpg").write_bytes(b"")
    refused(
        edgecls("data", "check", data, "--allow-duplicates", "--strict"), "1 unreadable pictures", "leave out --strict"
    )


def test_check_wants_something_to_measure_on_as_training_does(edgecls: Run, refused: Refused, colours: Draw) -> None:
    data = colours()
    done = edgecls("data", "check", data / "train")
    refused(done, "no val split to measure on, or not one readable picture in it (one folder)", "--val-split 0.2")
    assert ["2", "red", "12", "0"] in [line.split() for line in done.stdout.splitlines()]
    assert edgecls("data", "check", data / "train", "--val-split", "0.2").returncode == 0
    wrong = edgecls("data", "check", data / "train", "--val-split", "nan")
    assert wrong.returncode == 2
    assert "'--val-split': 'nan' is not a finite number" in wrong.stderr
    for path in (data / "val").rglob("*.png"):
        path.write_bytes(b"")
    refused(edgecls("data", "check", data), "not one readable picture in it (train/ and val/)", "Make a val/ folder")


def test_stats_are_what_training_takes(edgecls: Run, tmp_path: Path) -> None:
    for label, value in (("dark", 51), ("light", 204)):  # 0.2 and 0.8 of 255
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((224, 224), value, np.uint8)).save(folder / f"{number}.png")
    done = edgecls("data", "stats", "data")
    assert done.stdout == "4 pictures: --mean 0.5000,0.5000,0.5000 --std 0.3000,0.3000,0.3000\n", done.stderr
    assert json.loads(edgecls("data", "stats", "data", "--format", "json").stdout)["pictures"] == 4


def test_bad_data_is_refused(edgecls: Run, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "one" / "class").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one" / "class" / "a.png")
    refused(edgecls("data", "check", "absent"), "absent: no such folder or file", "Check the path")
    refused(edgecls("data", "check", "one"), "one: has one class (class)", "another class")
    refused(edgecls("data", "stats", "one"), "one: has one class (class)", "another class")
    assert edgecls("data", "check", "one", "--val-split", "1.5").returncode == 2
    assert edgecls("data").returncode == 2
