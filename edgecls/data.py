"""Find labelled pictures: a folder per class, names like ``cat.0.jpg``, or a CSV / JSON list.

=============================== =================================================================================
what lies there                 what it is read as
=============================== =================================================================================
``DATA/train/CLASS/*`` and      two splits; ``val``, ``valid``, ``validation`` and ``test`` are taken for the second
``DATA/val/CLASS/*``            one, in this order, and `Dataset.origin` says which it was
``DATA/CLASS/*``                one folder, split by ``val_split``: stratified, and always the same pictures
``cat.0.jpg``, ``dog.12.jpg``   with ``labels_from="name"``: the label is what stands before the first dot
``list.csv``                    columns ``path``, ``label`` and optionally ``split`` (``train`` or ``val``)
``list.json``                   a list of objects with ``path``, ``label`` or ``labels``, and optionally ``split``
=============================== =================================================================================

Paths in a list are relative to it. With ``task="multilabel"`` a CSV's label holds several, separated by ``;``.
Classes are sorted as strings, as torchvision does (``1, 10, 2``), and stand in the checkpoint in that order.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgecls_export.picture_files import files_beneath
from edgecls_runtime.errors import DataError, ImageError
from edgecls_runtime.preprocess import IMAGE_SUFFIXES, describe_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "VAL_NAMES",
    "Dataset",
    "LabelsFrom",
    "Sample",
    "Task",
    "Unreadable",
    "find_samples",
    "with_path",
]

Task: TypeAlias = Literal["single", "multilabel"]
LabelsFrom: TypeAlias = Literal["folder", "name"]

VAL_NAMES = ("val", "valid", "validation", "test")
"""Folders that are measured on, in the order in which they are looked for."""

# A label this rare beside one that differs by a letter or two and is this much more frequent is a slip of the pen.
_TYPO_COUNT, _TYPO_FACTOR, _TYPO_LIKENESS = 2, 10, 0.66


@dataclass(frozen=True)
class Sample:
    """A picture and the indices of its labels: exactly one, or any number with ``task="multilabel"``."""

    path: Path
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be used, and why, its path included."""

    path: Path
    cause: str

    def __str__(self) -> str:
        return self.cause


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures in two splits.

    Attributes:
        labels: the classes' names, sorted as strings.
        train: samples to learn from.
        val: samples to measure on; empty if the data has none and no ``val_split`` was asked for.
        task: one label a picture, or any number.
        origin: how the splits came about, in words.
        notes: what was passed over, a sentence each.
    """

    labels: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    task: Task
    origin: str
    notes: tuple[str, ...] = ()

    def require_val(self) -> None:
        """Refuse data without a picture to measure on.

        Raises:
            DataError: says how to come by some.
        """
        if not self.val:
            raise DataError(
                f"no val split to measure on, or not one readable picture in it ({self.origin})",
                "Make a val/ folder beside train/, or hold out some pictures: --val-split 0.2",
            )


@dataclass(frozen=True)
class _Labelled:
    """A picture and the names of its labels; `where` it was said, for errors."""

    path: Path
    names: tuple[str, ...]
    where: str


@dataclass
class _Found:
    train: list[_Labelled]
    val: list[_Labelled]
    origin: str
    notes: list[str]


def find_samples(
    data: str | os.PathLike[str],
    *,
    task: Task = "single",
    labels_from: LabelsFrom = "folder",
    val_split: float | None = None,
    seed: int = 0,
    labels: Sequence[str] | None = None,
    one_split: bool = False,
) -> Dataset:
    """Find the labelled pictures of a folder or a list.

    Args:
        data: folder, or ``.csv`` or ``.json`` list.
        task: one label a picture, or any number.
        labels_from: for a folder: the name of the folder that a picture lies in, or its own name.
        val_split: share of each class to hold out (0 to 1), where the data is not split already.
        seed: of that choice.
        labels: the classes in their order, where others are allowed than are found (one class alone, too); a label
            that is none of them is an error. Pictures to measure on alone will then do, too.
        one_split: the folder is a split itself, so that a ``train`` in it is a class of that name.

    Raises:
        DataError: there is nothing there, or it contradicts itself; says what and where.
    """
    data = Path(data)
    if val_split is not None and not 0 < val_split < 1:
        raise DataError(f"val_split is {val_split:g}", "Give a share between 0 and 1, say 0.2.")
    try:
        mode = data.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{data}: no such folder or file", "Check the path.") from error
    except OSError as error:
        raise DataError(f"{data}: cannot be read: {error.strerror or error}", "Check the path.") from error
    if stat.S_ISDIR(mode):
        found = _from_folder(data, labels_from, one_split=one_split)
    elif stat.S_ISREG(mode):
        found = _from_list(data, task)
    else:  # a pipe, whose reading might wait for ever
        raise DataError(f"{data}: is neither a folder nor a file", "Check the path.")
    if not found.train and not (found.val and labels is not None):
        raise DataError(f"{data}: no pictures to learn from", _layout(data, labels_from))
    if val_split is not None:
        if found.val:
            raise DataError(f"{data}: is split already ({found.origin})", "Leave out --val-split.")
        _hold_out(found, data, val_split, seed)
    index = {label: number for number, label in enumerate(_classes(data, found, labels))}
    train, val = (
        tuple(Sample(item.path, tuple(sorted(index[name] for name in item.names))) for item in split)
        for split in (found.train, found.val)
    )
    return Dataset(tuple(index), train, val, task, found.origin, tuple(found.notes))


def _classes(data: Path, found: _Found, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Return the classes; refuse unknown, unprintable and mistyped ones."""
    counts = Counter(name for item in (*found.train, *found.val) for name in item.names)
    first = {name: item.where for item in reversed((*found.train, *found.val)) for name in item.names}
    for label in labels or counts:
        if not label or not label.isprintable():  # labels are printed, on devices too
            raise DataError(
                f"{first.get(label, data)}: label {label!r} is empty or holds a control character", "Rename it."
            )
    if labels is not None:
        unknown = [name for name in sorted(counts) if name not in labels]
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], labels, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise DataError(
                f"{first[unknown[0]]}: label {unknown[0]!r} is none of the {len(labels)} classes{hint}",
                f"Correct it. The classes are: {', '.join(labels[:8])}{', ...' if len(labels) > 8 else ''}.",
            )
        twice = next((name for name, count in Counter(labels).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"label {twice!r} is given twice", "Name every class once.")
        return tuple(labels)
    for name, count in counts.items():
        frequent = {other.casefold(): other for other in counts if counts[other] >= _TYPO_FACTOR * count}
        likest = difflib.get_close_matches(name.casefold(), frequent, n=1, cutoff=_TYPO_LIKENESS)
        nearest = [frequent[folded] for folded in likest]
        digits = name.strip("0123456789") != name  # room1 and room2 are both meant
        if count <= _TYPO_COUNT and nearest and not digits:
            raise DataError(
                f"{first[name]}: label {name!r} occurs {count} times, and {nearest[0]!r} {counts[nearest[0]]:,} times",
                "Correct it; or, if it is meant, name every class with --labels FILE.",
            )
    if len(counts) < 2:
        raise DataError(
            f"{data}: has one class ({', '.join(counts) or 'none'}), and there is nothing to tell apart",
            "Add pictures of another class; a folder of what it is not will do.",
        )
    return tuple(sorted(counts))


def _from_folder(data: Path, labels_from: LabelsFrom, *, one_split: bool) -> _Found:
    found = _Found([], [], "one folder", [])
    read = _by_folder if labels_from == "folder" else _by_name
    if one_split or not (data / "train").is_dir():
        found.train = read(data, found.notes)
        return found
    found.train = read(data / "train", found.notes)
    second = next((data / name for name in VAL_NAMES if (data / name).is_dir()), None)
    found.origin = "train/ alone" if second is None else f"train/ and {second.name}/"
    if second is not None:
        found.val = read(second, found.notes)
    known = {"train", *VAL_NAMES}
    others = sorted(path.name for path in data.iterdir() if path.is_dir() and path.name not in known)
    if others:
        found.notes.append(f"{data}: neither train nor val, so passed over: {', '.join(others)}")
    return found


def _pictures(folder: Path, notes: list[str]) -> list[Path]:
    """Return the pictures beneath a folder; hidden files and those of another suffix are noted."""
    paths, passed_over = [], Counter[str]()
    for path in sorted(files_beneath(folder), key=lambda path: path.relative_to(folder).parts):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in IMAGE_SUFFIXES:
            passed_over["hidden" if hidden else path.suffix.lower() or "no suffix"] += 1
        else:
            paths.append(path)
    if passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(passed_over.items()))
        notes.append(f"{folder}: files passed over, no pictures by their names: {kinds}")
    return paths


def with_path(path: Path, error: ImageError) -> ImageError:
    """Return what is wrong with a picture, the file named: the resize knows no more of it than its size."""
    name = describe_source(path)
    return ImageError(error.cause if error.cause.startswith(name) else f"{name}: {error.cause}", error.remedy)


def _by_folder(folder: Path, notes: list[str]) -> list[_Labelled]:
    labelled = []
    for path in _pictures(folder, notes):
        if path.parent == folder:
            raise DataError(
                f"{path}: lies beside the class folders, so it has no label",
                "Move it into a class folder, or take the labels from the names: --labels-from name",
            )
        labelled.append(_Labelled(path, (path.relative_to(folder).parts[0],), str(path)))
    inhabited = {item.names[0] for item in labelled}
    hidden = (".", "__")
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in inhabited and not path.name.startswith(hidden):
            notes.append(f"{path}: holds no pictures, so it is no class")
    return labelled


def _by_name(folder: Path, notes: list[str]) -> list[_Labelled]:
    labelled = []
    for path in _pictures(folder, notes):
        label, _, rest = path.name.partition(".")
        if "." not in rest:
            raise DataError(f"{path}: has no label in its name", "Call it LABEL.ANYTHING.jpg, like cat.12.jpg.")
        labelled.append(_Labelled(path, (label,), str(path)))
    return labelled


def _from_list(path: Path, task: Task) -> _Found:
    rows_of = {".csv": _csv_rows, ".json": _json_rows}.get(path.suffix.lower())
    if rows_of is None:
        raise DataError(f"{path}: is neither a folder nor a .csv or .json list", "Give one of these.")
    try:
        rows = list(rows_of(path, path.read_text("utf-8-sig"), task))  # spreadsheets write a byte order mark
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}", "Give UTF-8 text, CSV or JSON.") from error
    found = _Found([], [], f"as {path.name} says", [])
    for where, file, names, split in rows:
        if task == "single" and len(names) != 1:
            raise DataError(f"{where}: has {len(names)} labels", "Give one, or say --task multilabel.")
        if len(set(names)) != len(names):
            raise DataError(f"{where}: names a label twice ({', '.join(names)})", "Name it once.")
        if split not in ("train", "val"):
            raise DataError(f"{where}: split is {split!r}", "Give train or val.")
        picture = path.parent / file
        if not os.path.isfile(picture):  # noqa: PTH113 - Path.is_file raises where a name is too long
            raise DataError(f"{where}: {picture}: no such file", "Correct the path: it is relative to the list.")
        (found.train if split == "train" else found.val).append(_Labelled(picture, names, where))
    return found


def _csv_rows(path: Path, text: str, task: Task) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    columns = reader.fieldnames or ()
    if not {"path", "label"} <= set(columns):
        raise DataError(f"{path}: has the columns {', '.join(columns) or 'none'}", "Begin with a line: path,label")
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise DataError(f"{where}: does not have {len(columns)} columns", "Quote texts that hold a comma.")
        names = row["label"].split(";") if task == "multilabel" else [row["label"]]
        stripped = tuple(name.strip() for name in names if name.strip())
        yield where, row["path"], stripped, row.get("split", "train").strip()


def _json_rows(path: Path, text: str, _: Task) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    rows: Any = json.loads(text)
    if not isinstance(rows, list):
        raise DataError(f"{path}: is not a list", 'Give [{"path": "a.jpg", "label": "cat"}, ...].')
    for number, row in enumerate(rows):
        names = row.get("labels", [row.get("label")]) if isinstance(row, dict) else None
        texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not isinstance(names, list) or not texts or not isinstance(row.get("path"), str):
            raise DataError(f"{path}[{number}]: is {json.dumps(row)[:80]}", 'Give {"path": "a.jpg", "label": "cat"}.')
        yield f"{path}[{number}]", row["path"], tuple(names), str(row.get("split", "train"))


def _hold_out(found: _Found, data: Path, share: float, seed: int) -> None:
    """Hold out the same share of every class, at least one picture of it and never the last one.

    A picture's place in the draw is a digest of its name, so copying the folder to another machine or listing it in
    another order moves no picture to the other side; adding to a class moves none of another class, and of its own
    no more than were added. With several labels a picture counts for the rarest of them.
    """
    root = data if data.is_dir() else data.parent
    counts = Counter(name for item in found.train for name in item.names)
    groups: dict[str, list[_Labelled]] = defaultdict(list)
    for item in found.train:
        groups[min(item.names, key=lambda name: (counts[name], name), default="")].append(item)
    held_out: set[_Labelled] = set()
    for group in groups.values():
        group.sort(key=lambda item: _draw(f"{seed} {Path(os.path.relpath(item.path, root)).as_posix()}"))
        held_out.update(group[: min(max(1, round(share * len(group))), len(group) - 1)])
    found.val = [item for item in found.train if item in held_out]
    found.train = [item for item in found.train if item not in held_out]
    found.origin = f"{found.origin}, {share:.0%} of each class held out (seed {seed})"


def _draw(text: str) -> bytes:
    return hashlib.sha256(os.fsencode(text)).digest()  # names need not be valid UTF-8


def _layout(data: Path, labels_from: LabelsFrom) -> str:
    if data.is_file():
        return "List some, with the split train or without one."
    if labels_from == "name":
        return "Give files like cat.12.jpg, in the folder or in its train/ and val/."
    return "Give a folder of pictures for each class, in the folder or in its train/ and val/."
