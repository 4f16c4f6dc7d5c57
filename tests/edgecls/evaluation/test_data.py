from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from edgecls.evaluation.data import EvaluationData, find_evaluation_data, read_class_map, unlabelled_pictures
from edgecls_runtime.errors import DataError

LABELS = ("cat", "ant", "bee", "crane", "dog", "crane")


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def found(data: EvaluationData, root: Path) -> list[tuple[str, tuple[int, ...]]]:
    return [(sample.path.relative_to(root).as_posix(), sample.targets) for sample in data.samples]


def test_labels_are_matched_by_name(tmp_path: Path) -> None:
    put(tmp_path / "ant" / "1.png", tmp_path / "dog" / "2.png", tmp_path / "cat" / "3.png")
    data = find_evaluation_data(tmp_path, LABELS)
    assert found(data, tmp_path) == [("ant/1.png", (1,)), ("cat/3.png", (0,)), ("dog/2.png", (4,))]
    assert str(data) == "3 pictures, all of the folder"


def test_one_class_will_do(tmp_path: Path) -> None:
    put(tmp_path / "bee" / "1.png")
    assert found(find_evaluation_data(tmp_path, LABELS), tmp_path) == [("bee/1.png", (2,))]


@pytest.mark.parametrize("second", ["val", "valid", "validation", "test"])
def test_the_second_split_is_taken(tmp_path: Path, second: str) -> None:
    put(tmp_path / "train" / "ant" / "1.png", tmp_path / second / "bee" / "2.png")
    for split in (None, "val"):
        data = find_evaluation_data(tmp_path, LABELS, split=split)  # type: ignore[arg-type]
        assert found(data, tmp_path) == [(f"{second}/bee/2.png", (2,))]
        assert data.origin == f"{second}/"
    assert found(find_evaluation_data(tmp_path, LABELS, split="train"), tmp_path) == [("train/ant/1.png", (1,))]


def test_a_second_split_without_train_and_a_class_of_that_name(tmp_path: Path) -> None:
    put(tmp_path / "test" / "bee" / "2.png")
    assert found(find_evaluation_data(tmp_path, LABELS), tmp_path) == [("test/bee/2.png", (2,))]
    assert found(find_evaluation_data(tmp_path, ("test", "bee")), tmp_path) == [("test/bee/2.png", (0,))]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_called_train(tmp_path: Path, split: str) -> None:
    put(*(tmp_path / half / label / "1.png" for half in ("train", "val") for label in ("bus", "train")))
    data = find_evaluation_data(tmp_path, ("bus", "train"), split=split)  # type: ignore[arg-type]
    assert found(data, tmp_path) == [(f"{split}/bus/1.png", (0,)), (f"{split}/train/1.png", (1,))]
    assert find_evaluation_data(tmp_path / split, ("bus", "train")).samples == data.samples


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "store" / "1.png")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "bee").symlink_to(tmp_path / "store")
    assert found(find_evaluation_data(tmp_path / "val", LABELS), tmp_path) == [("val/bee/1.png", (2,))]
    put(tmp_path / "val" / "stray.png")
    assert unlabelled_pictures(tmp_path / "val") is None


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    put(tmp_path / "train" / "ant" / "1.png")
    with pytest.raises(DataError, match="has train/ but none of val/") as raised:
        find_evaluation_data(tmp_path, LABELS)
    assert "--split train" in raised.value.remedy
    with pytest.raises(DataError, match="has no val/"):
        find_evaluation_data(tmp_path, LABELS, split="val")
    with pytest.raises(DataError, match="has no train/"):
        find_evaluation_data(tmp_path / "train", LABELS, split="train")


def test_lists(tmp_path: Path) -> None:
    put(tmp_path / "1.png", tmp_path / "2.png")
    path = tmp_path / "list.csv"
    path.write_text("path,label\n1.png,ant\n2.png,bee\n")
    everything = [("1.png", (1,)), ("2.png", (2,))]
    assert found(find_evaluation_data(path, LABELS), tmp_path) == everything
    assert str(find_evaluation_data(path, LABELS)) == "2 pictures, as list.csv says, all of it"
    with pytest.raises(DataError, match="no pictures of the split val"):
        find_evaluation_data(path, LABELS, split="val")

    path.write_text("path,label,split\n1.png,ant,train\n2.png,bee,val\n")
    assert found(find_evaluation_data(path, LABELS), tmp_path) == everything[1:]
    assert found(find_evaluation_data(path, LABELS, split="train"), tmp_path) == everything[:1]
    assert str(find_evaluation_data(path, LABELS)) == "1 pictures, as list.csv says, split val"

    path.write_text("path,label,split\n2.png,bee,val\n")
    assert found(find_evaluation_data(path, LABELS), tmp_path) == everything[1:]
    with pytest.raises(DataError, match="no pictures of the split train"):
        find_evaluation_data(path, LABELS, split="train")

    path.write_text("path,label\n1.png,ant;dog\n2.png,\n")
    data = find_evaluation_data(path, LABELS, task="multilabel")
    assert found(data, tmp_path) == [("1.png", (1, 4)), ("2.png", ())]


def test_labels_from_names(tmp_path: Path) -> None:
    put(tmp_path / "dog.7.png")
    assert found(find_evaluation_data(tmp_path, LABELS, labels_from="name"), tmp_path) == [("dog.7.png", (4,))]


def test_a_class_map_renames_what_it_names(tmp_path: Path) -> None:
    put(tmp_path / "n01" / "1.png", tmp_path / "n02" / "2.png", tmp_path / "dog" / "3.png", tmp_path / "ant" / "4.png")
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"n01": "bee", "n02": "bee", "n03": "cat", "ant": "dog"}))
    class_map = read_class_map(path, LABELS)
    assert class_map == {"n01": 2, "n02": 2, "n03": 0, "ant": 4}
    data = find_evaluation_data(tmp_path, LABELS, class_map=class_map)
    assert found(data, tmp_path) == [("ant/4.png", (4,)), ("dog/3.png", (4,)), ("n01/1.png", (2,)), ("n02/2.png", (2,))]


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    """ImageNet has two cranes: a bird and a machine. A guess would be wrong half of the time."""
    put(tmp_path / "crane" / "1.png")
    with pytest.raises(DataError, match="'crane' is the label of several outputs, 3 and 5") as raised:
        find_evaluation_data(tmp_path, LABELS)
    assert '{"crane": 3}' in raised.value.remedy
    path = tmp_path / "map.json"
    path.write_text('{"crane": "crane"}')
    with pytest.raises(DataError, match="several outputs, 3 and 5"):
        read_class_map(path, LABELS)
    path.write_text('{"crane": 5}')
    data = find_evaluation_data(tmp_path, LABELS, class_map=read_class_map(path, LABELS))
    assert found(data, tmp_path) == [("crane/1.png", (5,))]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"n01": "bea"}', r"'n01': 'bea' is none of the model's 6 labels; did you mean 'bee'\?"),
        ('{"n01": 6}', "'n01': 6 is no output of the model"),
        ('{"n01": true}', "'n01': True is none of"),
        ('{"n01": ["bee"]}', "is none of"),
        ("[]", "is not an object"),
        ("{}", "at least one name"),
        ("{", "is not valid JSON"),
        (None, "cannot be read: No such file"),
    ],
)
def test_bad_class_maps(tmp_path: Path, content: str | None, cause: str) -> None:
    if content is not None:
        (tmp_path / "map.json").write_text(content)
    with pytest.raises(DataError, match=cause):
        read_class_map(tmp_path / "map.json", LABELS)


def test_unknown_folders(tmp_path: Path) -> None:
    put(tmp_path / "n01" / "1.png")
    with pytest.raises(DataError, match="label 'n01' is none of the 5 classes") as raised:
        find_evaluation_data(tmp_path, LABELS)
    assert "--class-map FILE.json" in raised.value.remedy
    put(tmp_path / "dog" / "1.png")
    with pytest.raises(DataError, match="label 'n01'") as raised:
        find_evaluation_data(tmp_path, LABELS)
    assert "--class-map" not in raised.value.remedy
    with pytest.raises(DataError, match="n01: is neither in --class-map nor one of the model's 6 labels") as raised:
        find_evaluation_data(tmp_path, LABELS, class_map={"n02": 0})
    assert "Add it to --class-map" in raised.value.remedy
    (tmp_path / "empty" / "dog").mkdir(parents=True)
    with pytest.raises(DataError, match="empty: holds no pictures"):
        find_evaluation_data(tmp_path / "empty", LABELS)
    with pytest.raises(DataError, match="no such folder or file"):
        find_evaluation_data(tmp_path / "none", LABELS)


def test_unlabelled(tmp_path: Path) -> None:
    put(tmp_path / "flat" / "b.png", tmp_path / "flat" / "a.jpg", tmp_path / "sorted" / "ant" / "1.png")
    (tmp_path / "flat" / "notes.txt").touch()
    (tmp_path / "flat" / "empty").mkdir()
    flat = tmp_path / "flat"
    assert unlabelled_pictures(flat) == (flat / "a.jpg", flat / "b.png")
    assert unlabelled_pictures(flat / "b.png") == (flat / "b.png",)
    assert unlabelled_pictures(flat, labels_from="name") is None
    assert unlabelled_pictures(tmp_path / "sorted") is None
    assert unlabelled_pictures(tmp_path / "none") is None
    assert unlabelled_pictures(flat / "empty") is None
    put(flat / "empty" / "1.png")
    assert unlabelled_pictures(flat) is None
    (tmp_path / "list.csv").touch()
    assert unlabelled_pictures(tmp_path / "list.csv") is None
