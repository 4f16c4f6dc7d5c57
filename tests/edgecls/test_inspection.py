from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.data import Dataset, Sample, find_samples
from edgecls.inspection import ChannelStats, inspect_data, measure_channels
from edgecls_runtime.errors import DataError, ImageError
from edgecls_runtime.preprocess import Preprocess, load

SMALL = Preprocess(resize_size=9, crop_size=(8, 8))


@pytest.fixture
def two_splits(tmp_path, draw) -> Path:
    """cat and dog, each with three pictures to learn from and two to measure on."""
    for split, count in (("train", 3), ("val", 2)):
        for label in ("cat", "dog"):
            for number in range(count):
                draw(tmp_path / split / label / f"{number}.png")
    return tmp_path


def inspect(folder: Path, **options):
    return inspect_data(find_samples(folder, **options), preprocess=SMALL)


def test_good_data(two_splits):
    seen: list[int] = []
    dataset = find_samples(two_splits)
    report = inspect_data(dataset, workers=2, progress=seen.append)
    assert seen == [1] * 10
    assert report.dataset == dataset
    assert report.counts == ((3, 2), (3, 2))
    assert (report.unreadable, report.duplicates, report.leaks, report.conflicts, report.warnings) == ((),) * 5
    assert report.imbalance == 1
    assert report.require(strict=True) is report


def damage(path: Path, kind: str, draw) -> None:
    if kind == "text":
        path.write_text("not a picture at all")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        draw(path, size=(64, 64))
        path.write_bytes(path.read_bytes()[:-700])
    elif kind == "float":
        Image.fromarray(np.ones((4, 4), np.float32)).save(path, "TIFF")
    elif kind == "strip":
        Image.new("L", (1, 60_000)).save(path, "PNG")


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("text", "is not a picture of a kind that is read (starts with b'not a pictur')"),
        ("empty", "is empty (0 bytes)"),
        ("cut", "cannot be decoded: image file is truncated"),
        ("float", "pixels of mode F have no agreed conversion"),
        ("strip", "over the limit"),  # readable, but the network would not see it: 224 x 13 million pixels
    ],
)
def test_unreadable_pictures_are_named_and_left_out(two_splits, draw, kind, cause):
    bad = two_splits / "train" / "cat" / "bad.jpg"
    damage(bad, kind, draw)
    report = inspect_data(find_samples(two_splits))
    assert [item.path for item in report.unreadable] == [bad]
    assert cause in report.unreadable[0].cause
    assert report.unreadable[0].cause.startswith(f"{bad}: ")
    assert bad not in {sample.path for sample in report.dataset.train}
    assert report.counts == ((3, 2), (3, 2))
    assert report.warnings == (f"unreadable, left out: {report.unreadable[0].cause}",)
    assert report.require() is report
    with pytest.raises(DataError, match="1 unreadable pictures, first .*bad.jpg") as caught:
        report.require(strict=True)
    assert "--strict" in caught.value.remedy


def test_a_file_that_may_not_be_read(two_splits, monkeypatch):
    denied = two_splits / "val" / "dog" / "0.png"
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == denied:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    report = inspect(two_splits)
    assert [item.cause for item in report.unreadable] == [f"{denied}: cannot be read: Permission denied"]
    assert report.counts == ((3, 2), (3, 1))


def test_many_unreadable_pictures_are_counted_not_listed(two_splits):
    for number in range(8):
        (two_splits / "train" / "dog" / f"bad{number}.png").write_text(str(number))
    warnings = inspect(two_splits).warnings
    assert len(warnings) == 6
    assert warnings[-1] == "unreadable, left out: 3 more"


def test_not_one_readable_picture(two_splits):
    for path in two_splits.rglob("*.png"):
        path.write_text("html, perhaps")
    with pytest.raises(DataError, match="not one of 10 pictures is readable, first .*0.png"):
        inspect(two_splits)


def test_the_same_file_in_both_splits_is_a_leak(two_splits):
    first, second = two_splits / "train" / "cat" / "1.png", two_splits / "val" / "cat" / "copy.png"
    shutil.copy(first, second)
    report = inspect(two_splits)
    assert report.leaks == ((first, second),)
    assert (report.duplicates, report.conflicts) == ((), ())
    with pytest.raises(DataError, match=r"the same picture in both splits, 1 times: .*1.png = .*copy.png") as caught:
        report.require()
    assert "--allow-duplicates" in caught.value.remedy
    assert report.require(allow_duplicates=True) is report


def test_the_same_file_twice_in_one_split_is_a_duplicate(two_splits):
    first, second = two_splits / "train" / "cat" / "1.png", two_splits / "train" / "cat" / "copy.png"
    shutil.copy(first, second)
    report = inspect(two_splits)
    assert report.duplicates == ((first, second),)
    assert (report.leaks, report.conflicts) == ((), ())
    assert "several times in one split: 1 times" in report.warnings[0]
    assert report.require() is report


def test_the_same_file_under_two_labels_is_a_conflict(two_splits):
    first, second = two_splits / "train" / "cat" / "1.png", two_splits / "train" / "dog" / "copy.png"
    shutil.copy(first, second)
    report = inspect(two_splits)
    assert report.conflicts == report.duplicates == ((first, second),)
    assert report.warnings[0].startswith("the same picture under different labels: 1 times, first ")


def test_files_that_are_left_out_anyway_are_no_leak(two_splits):
    for split in ("train", "val"):
        (two_splits / split / "cat" / "empty.png").touch()
    report = inspect(two_splits)
    assert len(report.unreadable) == 2
    assert (report.leaks, report.duplicates) == ((), ())
    assert report.require() is report


def test_pictures_of_the_same_pixels_in_other_files_are_not_compared(two_splits, draw):
    """What is compared is the file's content, and the docstring says so."""
    draw(two_splits / "train" / "cat" / "x.png", seed=1)
    draw(two_splits / "val" / "cat" / "x.bmp", seed=1)
    assert inspect(two_splits).leaks == ()


@pytest.mark.parametrize(("dogs", "warned"), [(9, False), (10, True)])
def test_imbalance(tmp_path, draw, dogs, warned):
    draw(tmp_path / "cat" / "0.png")
    for number in range(dogs):
        draw(tmp_path / "dog" / f"{number}.png")
    report = inspect(tmp_path)
    assert report.imbalance == dogs
    assert any(f"has {dogs} times the pictures" in warning for warning in report.warnings) is warned


def test_imbalance_without_pictures_to_learn_from_counts_the_classes_that_have_any(two_splits, draw):
    draw(two_splits / "val" / "emu" / "0.png")
    assert inspect(two_splits).imbalance == 1


def test_a_class_to_learn_from_alone_is_a_warning(two_splits, draw):
    draw(two_splits / "train" / "emu" / "0.png")
    report = inspect(two_splits)
    assert report.warnings == ("no picture to measure on of emu",)
    assert report.require() is report


def test_without_val_no_class_is_warned_of(tmp_path, draw):
    draw(tmp_path / "cat" / "0.png")
    draw(tmp_path / "dog" / "0.png")
    assert inspect(tmp_path).warnings == ()


def test_a_class_to_measure_on_alone_is_refused(two_splits, draw):
    draw(two_splits / "val" / "emu" / "0.png")
    with pytest.raises(DataError, match="class 'emu': no picture to learn from, 1 to measure on"):
        inspect(two_splits).require()


def test_a_given_class_without_pictures_is_refused(two_splits):
    with pytest.raises(DataError, match="class 'fox': no picture to learn from, none at all"):
        inspect(two_splits, labels=("cat", "dog", "fox")).require()


def test_a_class_whose_every_picture_is_unreadable_is_refused(two_splits):
    for path in (two_splits / "train" / "dog").iterdir():
        path.write_text("no picture")
    with pytest.raises(DataError, match="class 'dog': no picture to learn from, 2 to measure on"):
        inspect(two_splits).require()


def test_numbers_as_labels_out_of_their_order_are_a_warning(tmp_path, draw):
    for label in ("1", "2", "10"):
        draw(tmp_path / label / "0.png")
    assert inspect(tmp_path).warnings == (
        "numbers as labels are sorted as texts: 1, 10, 2, ...; --labels FILE sets another",
    )
    assert inspect(tmp_path, labels=("1", "2", "10")).warnings == ()


def test_notes_of_the_search_come_along(two_splits):
    (two_splits / "train" / "cat" / "notes.txt").touch()
    assert "1 .txt" in inspect(two_splits).warnings[0]


def test_several_labels_are_counted_each(tmp_path, draw):
    rows = [{"path": "a.png", "labels": ["sun", "sea"]}, {"path": "b.png", "labels": ["sea"]}]
    rows += [{"path": "c.png", "labels": []}, {"path": "d.png", "labels": ["sun"], "split": "val"}]
    for row in rows:
        draw(tmp_path / row["path"])
    (tmp_path / "list.json").write_text(json.dumps(rows))
    report = inspect(tmp_path / "list.json", task="multilabel")
    assert report.dataset.labels == ("sea", "sun")
    assert report.counts == ((2, 0), (1, 1))
    assert len(report.dataset.train) == 3


def test_sizes_are_of_the_pictures_as_they_stand_upright(tmp_path, draw):
    for number, size in enumerate([(30, 20), (10, 10), (12, 9), (9, 50), (11, 40)]):
        draw(tmp_path / "ab"[number % 2] / f"{number}.png", size=size)
    assert inspect(tmp_path).sizes == ((10, 10), (11, 40), (30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (50, 20)).save(tmp_path / "a" / "phone.jpg", exif=exif)
    assert inspect(tmp_path).sizes == ((10, 10), (9, 50), (20, 50))


def test_the_printed_table(two_splits, draw):
    draw(two_splits / "train" / "a long name of a class" / "0.png", size=(40, 30))
    (two_splits / "train" / "dog" / "bad.png").write_text("?")
    lines = str(inspect(two_splits)).splitlines()
    assert lines[0].split() == ["class", "train", "val"]
    assert lines[1].split() == ["0", "a", "long", "name", "of", "a", "class", "1", "0"]
    assert [line.split() for line in lines[2:4]] == [["1", "cat", "3", "2"], ["2", "dog", "3", "2"]]
    assert lines[4].split() == ["pictures", "7", "4"]
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[5] == "train/ and val/; smallest / median / largest picture 12x10 / 12x10 / 40x30"
    assert [line.partition(":")[0] for line in lines[6:]] == ["warning", "warning"]


def test_the_document_is_json_and_says_it_all(two_splits):
    shutil.copy(two_splits / "train" / "cat" / "0.png", two_splits / "val" / "dog" / "copy.png")
    (two_splits / "val" / "dog" / "bad.png").touch()
    document = inspect(two_splits).to_document()
    assert json.loads(json.dumps(document)) == document
    assert document["train"] == {"cat": 3, "dog": 3}
    assert document["val"] == {"cat": 2, "dog": 3}
    assert document["labels"] == ["cat", "dog"]
    assert [Path(item["path"]).name for item in document["unreadable"]] == ["bad.png"]
    assert [[Path(path).name for path in group] for group in document["leaks"]] == [["0.png", "copy.png"]]
    assert document["conflicts"] == document["leaks"]
    assert len(document["warnings"]) == 3
    assert document["sizes"] == [[12, 10]] * 3


# --- mean and standard deviation ---

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture
def kinds(tmp_path, draw) -> list[Sample]:
    """A picture of each kind that decodes by a policy of its own."""
    modes = [("RGB", "a.png"), ("L", "b.png"), ("I;16", "c.png"), ("P", "d.png"), ("CMYK", "e.jpg"), ("RGBA", "f.png")]
    return [
        Sample(draw(tmp_path / name, size=(11 + 7 * number, 23), mode=mode), (0,))
        for number, (mode, name) in enumerate(modes)
    ]


@pytest.mark.parametrize("crop", [(8, 8), (12, 6)])  # the second reaches beyond the picture: black counts, too
def test_channels_equal_a_direct_computation_over_what_the_network_sees(kinds, crop):
    preprocess = SMALL.replace(crop_size=crop)
    pixels = np.stack([load(sample.path, preprocess.replace(**UNIT)) for sample in kinds]).astype(np.float64)
    seen: list[int] = []
    stats = measure_channels(kinds, preprocess=preprocess, workers=2, progress=seen.append)
    assert stats.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-7)
    assert stats.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-7)
    assert len({*stats.mean, *stats.std}) == 6  # no channel stands in for another
    assert stats.pictures == 6
    assert seen == [1] * 6


def test_channels_do_not_depend_on_the_order_nor_on_threads(kinds):
    forwards = measure_channels(kinds, preprocess=SMALL, workers=1)
    assert measure_channels(kinds[::-1], preprocess=SMALL, workers=3) == forwards
    assert measure_channels(kinds[1:], preprocess=SMALL) != forwards


def test_measured_channels_normalize_to_mean_0_and_std_1(kinds):
    stats = measure_channels(kinds, preprocess=SMALL)
    tensors = np.stack([load(sample.path, SMALL.replace(mean=stats.mean, std=stats.std)) for sample in kinds])
    assert tensors.mean(axis=(0, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-5)
    assert tensors.std(axis=(0, 2, 3)) == pytest.approx(np.ones(3), abs=1e-5)


def test_gray_pictures_have_three_equal_channels(tmp_path, draw):
    stats = measure_channels([Sample(draw(tmp_path / "a.png", mode="L"), (0,))], preprocess=SMALL)
    assert len({*stats.mean}) == len({*stats.std}) == 1


@pytest.mark.parametrize("color", [(77, 77, 77), (0, 0, 0), (255, 255, 255)])
def test_pictures_of_one_colour_are_refused(tmp_path, color):
    Image.new("RGB", (9, 9), color).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="all 64 pixels of a channel are the same"):
        measure_channels([Sample(tmp_path / "a.png", (0,))], preprocess=SMALL)


def test_one_constant_channel_is_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    pixels[:, :, 2] = 3
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="of a channel are the same"):
        measure_channels([Sample(tmp_path / "a.png", (0,))], preprocess=SMALL)


def test_no_pictures_and_unreadable_ones(tmp_path):
    with pytest.raises(DataError, match="no pictures to measure"):
        measure_channels([])
    with pytest.raises(ImageError, match="gone.png: no such file"):
        measure_channels([Sample(tmp_path / "gone.png", (0,))])


def test_stats_print_as_the_options_that_take_them():
    stats = ChannelStats((0.5, 0.25, 0.125), (0.2, 0.1, 0.05), 1234)
    assert str(stats) == "1,234 pictures: --mean 0.5000,0.2500,0.1250 --std 0.2000,0.1000,0.0500"


def test_a_report_of_an_empty_dataset_is_not_made():
    with pytest.raises(DataError):
        inspect_data(Dataset(("cat", "dog"), (), (), "single", "nothing"))
