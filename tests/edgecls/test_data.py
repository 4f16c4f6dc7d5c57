from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.data import Sample, find_samples
from edgecls_runtime.errors import DataError


def touch(*paths: Path) -> None:
    """Make empty files: what is found depends on names alone."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def fill(folder: Path, counts: dict[str, int]) -> Path:
    touch(*(folder / label / f"{number}.jpg" for label, count in counts.items() for number in range(count)))
    return folder


def names(samples: tuple[Sample, ...], root: Path) -> set[str]:
    return {sample.path.relative_to(root).as_posix() for sample in samples}


def write_list(folder: Path, text: str | bytes, name: str = "list.csv", pictures: str = "a.jpg b.jpg c.jpg") -> Path:
    touch(*(folder / picture for picture in pictures.split()))
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- folders ---


def test_a_folder_for_each_class(tmp_path):
    touch(tmp_path / "dog" / "1.jpg", tmp_path / "cat" / "2.jpg", tmp_path / "cat" / "1.jpg")
    found = find_samples(tmp_path)
    assert found.labels == ("cat", "dog")
    assert found.train == (
        Sample(tmp_path / "cat" / "1.jpg", (0,)),
        Sample(tmp_path / "cat" / "2.jpg", (0,)),
        Sample(tmp_path / "dog" / "1.jpg", (1,)),
    )
    assert (found.val, found.task, found.origin, found.notes) == ((), "single", "one folder", ())


@pytest.mark.parametrize("second", ["val", "valid", "validation", "test"])
def test_two_splits(tmp_path, second):
    fill(tmp_path / "train", {"cat": 2, "dog": 1})
    fill(tmp_path / second, {"cat": 1, "dog": 1})
    found = find_samples(str(tmp_path))
    assert names(found.train, tmp_path) == {"train/cat/0.jpg", "train/cat/1.jpg", "train/dog/0.jpg"}
    assert names(found.val, tmp_path) == {f"{second}/cat/0.jpg", f"{second}/dog/0.jpg"}
    assert found.origin == f"train/ and {second}/"


def test_val_goes_before_test_and_other_folders_are_named(tmp_path):
    for split in ("train", "test", "val", "spare"):
        fill(tmp_path / split, {"cat": 1, "dog": 1})
    found = find_samples(tmp_path)
    assert found.origin == "train/ and val/"
    assert all(sample.path.parts[-3] == "val" for sample in found.val)
    assert found.notes == (f"{tmp_path}: neither train nor val, so passed over: spare",)


def test_a_missing_val_leaves_nothing_to_measure_on(tmp_path):
    fill(tmp_path / "train", {"cat": 1, "dog": 1})
    found = find_samples(tmp_path)
    assert (found.val, found.origin) == ((), "train/ alone")


def test_names_as_people_give_them(tmp_path):
    touch(tmp_path / "Grüne Äpfel" / "mein Bild (1).JPG", tmp_path / "日本 犬" / "x.y.Png", tmp_path / "-x" / "a.jpeg")
    found = find_samples(tmp_path)
    assert found.labels == ("-x", "Grüne Äpfel", "日本 犬")
    assert [sample.path.name for sample in found.train] == ["a.jpeg", "mein Bild (1).JPG", "x.y.Png"]


def test_nested_folders_belong_to_the_class_at_the_top(tmp_path):
    touch(tmp_path / "cat" / "2024" / "may" / "1.jpg", tmp_path / "cat" / "2.jpg", tmp_path / "dog" / "cat" / "1.jpg")
    found = find_samples(tmp_path)
    assert found.labels == ("cat", "dog")
    assert Counter(sample.targets for sample in found.train) == {(0,): 2, (1,): 1}


def test_what_is_no_picture_is_passed_over_and_counted(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1})
    touch(tmp_path / "cat" / ".DS_Store", tmp_path / "cat" / "._0.jpg", tmp_path / ".cache" / "thumb.jpg")
    touch(tmp_path / "README.txt", tmp_path / "dog" / "Thumbs.db", tmp_path / "dog" / "LICENSE")
    found = find_samples(tmp_path)
    assert len(found.train) == 2
    expected = "files passed over, no pictures by their names: 1 .db, 1 .txt, 3 hidden, 1 no suffix"
    assert found.notes == (f"{tmp_path}: {expected}",)


def test_an_empty_class_folder_is_no_class_and_is_named(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "fish").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "__pycache__").mkdir()
    found = find_samples(tmp_path)
    assert found.labels == ("cat", "dog")
    assert found.notes == (f"{tmp_path / 'fish'}: holds no pictures, so it is no class",)


def test_links_to_pictures_and_to_folders_are_followed(tmp_path):
    store, data = tmp_path / "store", tmp_path / "data"
    fill(store, {"many cats": 2, "dogs": 1})
    (data / "dog").mkdir(parents=True)
    (data / "cat").symlink_to(store / "many cats")
    (data / "dog" / "rex.jpg").symlink_to(store / "dogs" / "0.jpg")
    (data / "dog" / "gone.jpg").symlink_to(store / "nowhere.jpg")
    found = find_samples(data)
    assert names(found.train, data) == {"cat/0.jpg", "cat/1.jpg", "dog/rex.jpg"}
    assert found.labels == ("cat", "dog")


def test_links_in_a_circle_come_to_an_end(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "up").symlink_to(tmp_path)
    assert names(find_samples(tmp_path).train, tmp_path) == {"cat/0.jpg", "dog/0.jpg"}


def test_numbers_are_sorted_as_strings_as_torchvision_does(tmp_path):
    fill(tmp_path, {"1": 1, "2": 1, "10": 1})
    assert find_samples(tmp_path).labels == ("1", "10", "2")


def test_a_picture_beside_the_class_folders_is_refused(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1})
    touch(tmp_path / "loose.jpg")
    with pytest.raises(DataError, match="loose.jpg: lies beside the class folders") as caught:
        find_samples(tmp_path)
    assert "--labels-from name" in caught.value.remedy


@pytest.mark.parametrize("split", [".", "train"])
def test_an_empty_folder_is_refused_with_the_layout_to_give(tmp_path, split):
    (tmp_path / split).mkdir(exist_ok=True)
    with pytest.raises(DataError, match="no pictures to learn from") as caught:
        find_samples(tmp_path)
    assert caught.value.remedy.startswith("Give a folder of pictures for each class")
    with pytest.raises(DataError) as caught:
        find_samples(tmp_path, labels_from="name")
    assert "cat.12.jpg" in caught.value.remedy


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder or file"):
        find_samples(tmp_path / "nowhere")
    with pytest.raises(DataError, match="nnn: cannot be read: File name too long"):
        find_samples(tmp_path / ("n" * 300))
    os.mkfifo(tmp_path / "list.csv")  # opening it would wait for ever
    with pytest.raises(DataError, match=r"list\.csv: is neither a folder nor a file"):
        find_samples(tmp_path / "list.csv")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has one class \(cat\), and there is nothing to tell apart"):
        find_samples(fill(tmp_path, {"cat": 3}))


def test_one_class_is_welcome_where_the_classes_are_given(tmp_path):
    found = find_samples(fill(tmp_path, {"cat": 3}), labels=("dog", "cat"))
    assert found.labels == ("dog", "cat")
    assert {sample.targets for sample in found.train} == {(1,)}


def test_a_class_name_with_a_control_character_is_refused(tmp_path):
    fill(tmp_path, {"cat": 1, "do\x1bg": 1})
    with pytest.raises(DataError, match=r"label 'do\\x1bg' is empty or holds a control character"):
        find_samples(tmp_path)


# --- file names ---


def test_labels_from_names(tmp_path):
    touch(tmp_path / "cat.0.jpg", tmp_path / "sub" / "cat.1.jpg", tmp_path / "dog.a b.c.JPG")
    found = find_samples(tmp_path, labels_from="name")
    assert found.labels == ("cat", "dog")
    assert Counter(sample.targets for sample in found.train) == {(0,): 2, (1,): 1}


def test_a_name_without_a_label_is_refused(tmp_path):
    touch(tmp_path / "cat.0.jpg", tmp_path / "IMG_1234.jpg")
    with pytest.raises(DataError, match="IMG_1234.jpg: has no label in its name"):
        find_samples(tmp_path, labels_from="name")


# --- the classes are given ---


def test_given_labels_keep_their_order_and_may_have_no_pictures(tmp_path):
    found = find_samples(fill(tmp_path, {"cat": 1, "dog": 1}), labels=["dog", "fish", "cat"])
    assert found.labels == ("dog", "fish", "cat")
    assert [(sample.path.parent.name, sample.targets) for sample in found.train] == [("cat", (2,)), ("dog", (0,))]


def test_a_label_that_is_none_of_the_given_ones_is_refused(tmp_path):
    with pytest.raises(DataError, match="'caat' is none of the 2 classes; did you mean 'cat'") as caught:
        find_samples(fill(tmp_path, {"caat": 1, "dog": 1}), labels=("cat", "dog"))
    assert "caat/0.jpg: label" in caught.value.cause
    assert "The classes are: cat, dog." in caught.value.remedy


def test_labels_given_twice_are_refused(tmp_path):
    """Or the number of a class would not be its place among the labels."""
    with pytest.raises(DataError, match="label 'cat' is given twice"):
        find_samples(fill(tmp_path, {"cat": 1, "dog": 1}), labels=("cat", "cat", "dog"))


@pytest.mark.parametrize("label", ["", "a\nb"])
def test_given_labels_that_cannot_be_printed_are_refused(tmp_path, label):
    with pytest.raises(DataError, match="is empty or holds a control character"):
        find_samples(fill(tmp_path, {"cat": 1, "dog": 1}), labels=("cat", "dog", label))


# --- slips of the pen ---


@pytest.mark.parametrize(("rare", "frequent"), [("catt", "cat"), ("Cat", "cat"), ("spaniell", "spaniel")])
def test_a_rare_label_much_like_a_frequent_one_is_refused(tmp_path, rare, frequent):
    with pytest.raises(DataError, match=f"label '{rare}' occurs .*'{frequent}' 20 times") as caught:
        find_samples(fill(tmp_path, {frequent: 20, rare: 2, "zebra": 20}))
    assert f"{rare}/0.jpg" in caught.value.cause
    assert "--labels FILE" in caught.value.remedy


@pytest.mark.parametrize(
    "counts",
    [
        {"cat": 20, "catt": 3},  # thrice is no slip
        {"cat": 19, "catt": 2},  # nor is what is nearly as frequent
        {"room1": 20, "room2": 2},  # numbers are meant
        {"cat": 20, "ox": 1},  # nothing alike
    ],
)
def test_a_rare_label_that_is_meant_is_kept(tmp_path, counts):
    assert find_samples(fill(tmp_path, counts)).labels == tuple(sorted(counts))


def test_naming_the_classes_allows_any(tmp_path):
    fill(tmp_path, {"cat": 20, "catt": 1})
    assert find_samples(tmp_path, labels=("cat", "catt")).labels == ("cat", "catt")


# --- CSV ---


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.jpg,cat\nb.jpg,dog\n",
        "\ufeffpath,label\r\na.jpg,cat\r\nb.jpg,dog",  # as spreadsheets write it
        'label,extra,path\n"cat","1,5",a.jpg\n\n dog ,,"b.jpg"\n',
    ],
)
def test_csv(tmp_path, text):
    found = find_samples(write_list(tmp_path, text))
    assert found.labels == ("cat", "dog")
    assert found.train == (Sample(tmp_path / "a.jpg", (0,)), Sample(tmp_path / "b.jpg", (1,)))
    assert found.origin == "as list.csv says"


def test_csv_paths_are_relative_to_it_or_absolute(tmp_path):
    elsewhere = tmp_path / "else where" / "ä, b.jpg"
    touch(elsewhere)
    path = write_list(tmp_path / "lists", f'path,label\n"{elsewhere}",cat\n../lists/a.jpg,dog\n', "LIST.CSV")
    assert [sample.path.resolve() for sample in find_samples(path).train] == [elsewhere, tmp_path / "lists" / "a.jpg"]


def test_csv_with_a_split_column(tmp_path):
    found = find_samples(write_list(tmp_path, "path,label,split\na.jpg,cat,train\nb.jpg,dog,train\nc.jpg,dog, val\n"))
    assert names(found.train, tmp_path) == {"a.jpg", "b.jpg"}
    assert names(found.val, tmp_path) == {"c.jpg"}


def test_csv_with_several_labels(tmp_path):
    path = write_list(tmp_path, "path,label\na.jpg,sun; beach\nb.jpg,\nc.jpg,beach\n")
    found = find_samples(path, task="multilabel")
    assert found.labels == ("beach", "sun")
    assert [sample.targets for sample in found.train] == [(0, 1), (), (0,)]
    with pytest.raises(DataError, match=r"list.csv:3: has 0 labels") as caught:
        find_samples(path)
    assert "--task multilabel" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "list.csv: has the columns none"),
        ("file,label\na.jpg,cat\n", "list.csv: has the columns file, label"),
        ("path;label\na.jpg;cat\n", "list.csv: has the columns path;label"),
        ("path,label\na.jpg,cat\nb.jpg\n", "list.csv:3: does not have 2 columns"),
        ("path,label\na.jpg,cat\nb.jpg,dog,fish\n", "list.csv:3: does not have 2 columns"),
        ('path,label\na.jpg,cat\n"b.jpg,dog\n', "list.csv: cannot be read: unexpected end of data"),
        ("path,label\na.jpg,cat\nnot.jpg,dog\n", "list.csv:3: .*not.jpg: no such file"),
        ("path,label\n,cat\n", "list.csv:2: .*: no such file"),
        ("path,label,split\na.jpg,cat,train\nb.jpg,dog,holdout\n", "list.csv:3: split is 'holdout'"),
        ("path,label\na.jpg,cat\nb.jpg, \n", "list.csv:3: has 0 labels"),
        ("path,label\na.jpg,cat\nb.jpg,c\x07t\n", r"list.csv:3: label 'c\\x07t' is empty or holds a control"),
        ("path,label\n", "list.csv: no pictures to learn from"),
        ("path,label,split\na.jpg,cat,val\n", "list.csv: no pictures to learn from"),
        (b"path,label\na.jpg,k\xe4fer\n", "list.csv: cannot be read: .*utf-8"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "list.csv: cannot be read"),
    ],
)
def test_a_damaged_csv_is_refused_with_its_line(tmp_path, text, cause):
    with pytest.raises(DataError, match=cause) as caught:
        find_samples(write_list(tmp_path, text))
    assert "\n" not in caught.value.cause
    assert caught.value.remedy


def test_a_slip_in_a_csv_is_refused_with_its_line(tmp_path):
    rows = [f"a.jpg,{'spaniel' if number % 2 else 'terrier'}" for number in range(40)]
    rows[16] = "a.jpg,terier"
    text = "\n".join(["path,label", *rows])
    with pytest.raises(DataError, match=r"list.csv:18: label 'terier' occurs 1 .*'terrier' 19 times"):
        find_samples(write_list(tmp_path, text))
    with pytest.raises(DataError, match="csv:18: label 'terier' is none of the 2 classes; did you mean 'terrier'"):
        find_samples(tmp_path / "list.csv", labels=("spaniel", "terrier"))


def test_a_label_twice_for_one_picture_is_refused(tmp_path):
    path = write_list(tmp_path, "path,label\na.jpg,sun;sea;sun\nb.jpg,sea\n")
    with pytest.raises(DataError, match=r"list.csv:2: names a label twice \(sun, sea, sun\)"):
        find_samples(path, task="multilabel")


def test_the_same_picture_may_stand_in_two_rows(tmp_path):
    """What the inspection then finds is a duplicate, or a conflict."""
    found = find_samples(write_list(tmp_path, "path,label\na.jpg,cat\na.jpg,dog\n"))
    assert [sample.targets for sample in found.train] == [(0,), (1,)]


@pytest.mark.parametrize("name", ["list.txt", "picture.jpg", "list"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="is neither a folder nor a .csv or .json list"):
        find_samples(write_list(tmp_path, "path,label\na.jpg,cat\n", name))


# --- JSON ---


def test_json(tmp_path):
    rows = [
        {"path": "a.jpg", "label": "Käfer", "source": "ignored"},
        {"path": "b.jpg", "label": "cat", "split": "train"},
        {"path": "c.jpg", "labels": ["cat"], "split": "val"},
    ]
    found = find_samples(write_list(tmp_path, "\ufeff" + json.dumps(rows, ensure_ascii=False), "list.json"))
    assert found.labels == ("Käfer", "cat")
    assert found.train == (Sample(tmp_path / "a.jpg", (0,)), Sample(tmp_path / "b.jpg", (1,)))
    assert found.val == (Sample(tmp_path / "c.jpg", (1,)),)


def test_json_with_several_labels_or_none(tmp_path):
    rows = [{"path": "a.jpg", "labels": ["sun", "sea"]}, {"path": "b.jpg", "labels": []}]
    found = find_samples(write_list(tmp_path, json.dumps(rows), "list.json"), task="multilabel")
    assert [sample.targets for sample in found.train] == [(0, 1), ()]


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ("{", "list.json: cannot be read: "),
        ("[" * 100_000, "list.json: cannot be read: "),
        ('{"a.jpg": "cat"}', "list.json: is not a list"),
        ("[]", "no pictures to learn from"),
        ('["a.jpg"]', r'list.json\[0\]: is "a.jpg"'),
        ('[{"path": "a.jpg", "label": "x"}, {"path": "b.jpg"}]', r"list.json\[1\]: is "),
        ('[{"path": "a.jpg", "label": 3}]', r"list.json\[0\]: is "),
        ('[{"path": "a.jpg", "labels": "cat"}]', r"list.json\[0\]: is "),
        ('[{"label": "cat"}]', r"list.json\[0\]: is "),
        ('[{"path": 1, "label": "cat"}]', r"list.json\[0\]: is "),
        ('[{"path": "a.jpg", "labels": ["cat", "dog"]}]', r"list.json\[0\]: has 2 labels"),
        ('[{"path": "a.jpg", "label": "cat", "split": "Train"}]', r"list.json\[0\]: split is 'Train'"),
        ('[{"path": "a.jpg", "label": "cat", "split": null}]', r"list.json\[0\]: split is 'None'"),
        ('[{"path": "z.jpg", "label": "cat"}]', r"list.json\[0\]: .*z.jpg: no such file"),
        ('[{"path": "a.jpg", "label": ""}, {"path": "b.jpg", "label": "x"}]', r"list.json\[0\]: label '' is empty"),
    ],
)
def test_a_damaged_json_is_refused_with_its_place(tmp_path, document, cause):
    with pytest.raises(DataError, match=cause):
        find_samples(write_list(tmp_path, document, "list.json"))


# --- val_split ---


@pytest.mark.parametrize("share", [0, 1, -0.2, 20])
def test_a_share_beyond_0_to_1_is_refused(tmp_path, share):
    with pytest.raises(DataError, match="val_split is "):
        find_samples(fill(tmp_path, {"cat": 2, "dog": 2}), val_split=share)


def test_what_is_split_already_is_not_split_again(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split, {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match=r"is split already \(train/ and val/\)"):
        find_samples(tmp_path, val_split=0.2)


def test_the_same_share_of_every_class_is_held_out(tmp_path):
    found = find_samples(fill(tmp_path, {"cat": 40, "dog": 10, "emu": 2, "fox": 1}), val_split=0.2)
    assert Counter(sample.path.parent.name for sample in found.val) == {"cat": 8, "dog": 2, "emu": 1}
    assert Counter(sample.path.parent.name for sample in found.train) == {"cat": 32, "dog": 8, "emu": 1, "fox": 1}
    assert found.origin == "one folder, 20% of each class held out (seed 0)"
    assert len({sample.path for sample in (*found.train, *found.val)}) == 53


def test_no_class_loses_its_last_picture(tmp_path):
    found = find_samples(fill(tmp_path, {"cat": 1, "dog": 2, "emu": 3}), val_split=0.99)
    assert Counter(sample.path.parent.name for sample in found.train) == {"cat": 1, "dog": 1, "emu": 1}


def test_the_choice_depends_on_the_seed_and_not_on_the_folders_place(tmp_path):
    fill(tmp_path / "a", {"cat": 20, "dog": 20})
    shutil.copytree(tmp_path / "a", tmp_path / "deep" / "er" / "b")
    first = names(find_samples(tmp_path / "a", val_split=0.25).val, tmp_path / "a")
    moved = tmp_path / "deep" / "er" / "b"
    assert names(find_samples(moved, val_split=0.25).val, moved) == first
    assert names(find_samples(os.path.relpath(moved), val_split=0.25).val, Path(os.path.relpath(moved))) == first
    assert names(find_samples(tmp_path / "a", val_split=0.25, seed=1).val, tmp_path / "a") != first


def test_the_choice_does_not_depend_on_a_lists_order(tmp_path):
    rows = [f"{number}.jpg,{'cat' if number % 2 else 'dog'}" for number in range(20)]
    pictures = " ".join(f"{number}.jpg" for number in range(20))
    forwards = write_list(tmp_path, "\n".join(["path,label", *rows]), "a.csv", pictures)
    backwards = write_list(tmp_path, "\n".join(["path,label", *reversed(rows)]), "b.csv", pictures)
    first, second = (find_samples(path, val_split=0.3).val for path in (forwards, backwards))
    assert len(first) == 6
    assert names(first, tmp_path) == names(second, tmp_path)


def test_adding_to_a_class_leaves_the_others_as_they_were(tmp_path):
    fill(tmp_path, {"cat": 20, "dog": 20})
    before = names(find_samples(tmp_path, val_split=0.25).val, tmp_path)
    fill(tmp_path, {"cat": 31, "emu": 5})
    after = names(find_samples(tmp_path, val_split=0.25).val, tmp_path)
    assert {name for name in before if "dog" in name} == {name for name in after if "dog" in name}


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=6), share=st.floats(0.01, 0.99))
def test_no_more_pictures_change_sides_than_were_added(tmp_path_factory, counts, share):
    """A picture that was learnt from is measured on later only where a larger class holds out more."""
    root = tmp_path_factory.mktemp("data")
    previous: tuple[set[str], set[str]] | None = None
    for count in itertools.accumulate(counts):
        found = find_samples(fill(root, {"cat": count, "dog": 2}), val_split=share)
        train, val = names(found.train, root), names(found.val, root)
        assert not train & val
        if previous is not None:
            assert len(previous[0] & val) <= max(0, len(val) - len(previous[1]))
            assert len(previous[1] & train) <= len((train | val) - (previous[0] | previous[1]))
        previous = train, val


def test_names_that_are_not_utf8_can_be_held_out(tmp_path):
    """As an old archive unpacks them."""
    fill(tmp_path, {"cat": 3, "dog": 3})
    os.close(os.open(os.fsencode(tmp_path / "cat") + b"/k\xe4fer.jpg", os.O_CREAT))
    found = find_samples(tmp_path, val_split=0.5)
    assert (len(found.train), len(found.val)) == (3, 4)


def test_several_labels_are_held_out_by_the_rarest(tmp_path):
    rows = [f"{number}.jpg,{'sea' if number else 'sea;sun'}" for number in range(9)] + ["9.jpg,sun", "10.jpg,"]
    pictures = " ".join(f"{number}.jpg" for number in range(11))
    path = write_list(tmp_path, "\n".join(["path,label", *rows]), pictures=pictures)
    found = find_samples(path, task="multilabel", val_split=0.25)
    assert len(found.val) == 3  # 2 of 8 that show the sea alone, 1 of 2 with the sun; the empty one stays
    assert len({"0.jpg", "9.jpg"} & names(found.val, tmp_path)) == 1
