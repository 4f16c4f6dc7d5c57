"""Find what a model is measured on, and match its labels to the model's by their names."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgecls.data import VAL_NAMES, Sample, find_samples
from edgecls_export.picture_files import files_beneath
from edgecls_runtime.errors import DataError
from edgecls_runtime.preprocess import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from edgecls.data import LabelsFrom, Task

__all__ = ["EvaluationData", "Split", "find_evaluation_data", "read_class_map", "unlabelled_pictures"]

Split: TypeAlias = Literal["train", "val"]


@dataclass(frozen=True)
class EvaluationData:
    """Labelled pictures to measure on.

    Attributes:
        samples: the pictures; targets are indices of the model's labels.
        origin: where they come from, in words.
        notes: what was passed over, a sentence each.
    """

    samples: tuple[Sample, ...]
    origin: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.samples):,} pictures, {self.origin}"


def find_evaluation_data(
    data: str | os.PathLike[str],
    labels: Sequence[str],
    *,
    task: Task = "single",
    split: Split | None = None,
    labels_from: LabelsFrom = "folder",
    class_map: Mapping[str, int] | None = None,
) -> EvaluationData:
    """Find labelled pictures: ``val/`` of a folder that has it (else ``valid/``, ``validation/``, ``test/``), or all.

    Args:
        data: a folder or a list, laid out as `edgecls.data` describes.
        labels: the model's.
        task: the model's.
        split: ``train`` or ``val`` of data that is split; None takes ``val``, or everything where nothing is split.
        labels_from: for a folder: the name of the folder that a picture lies in, or its own name.
        class_map: which of the model's labels, by index, a name in the data means (`read_class_map`); names that
            are not in it are the model's own.

    Raises:
        DataError: there is nothing there, a label is none of the model's, or it is several of them.
    """
    data = Path(data)
    folder, origin = data, f"as {data.name} says"
    if data.is_dir():
        folder, origin = _split_folder(data, split, labels, labels_from)
    if folder.is_dir() and not any(_is_picture(path) for path in files_beneath(folder)):
        raise DataError(
            f"{folder}: holds no pictures", "Give a folder of pictures; for acc@1, with a folder for each class."
        )
    meanings = {label: labels.index(label) for label in dict.fromkeys(labels)}
    ambiguous = {label for label, count in Counter(labels).items() if count > 1}.difference(class_map or ())
    meanings |= class_map or {}
    names = tuple(meanings)
    try:
        found = find_samples(folder, task=task, labels_from=labels_from, labels=names, one_split=True)
    except DataError as error:
        folders = _class_folders(folder, labels_from)
        if class_map is None and folders and folders.isdisjoint(labels):
            hint = " Folders with names of their own (WordNet ids, say) need --class-map FILE.json."
            raise DataError(error.cause, error.remedy + hint) from error
        unknown = next((name for name in sorted(folders.difference(names)) if repr(name) in error.cause), None)
        if class_map is not None and unknown is not None:
            raise DataError(
                f"{folder / unknown}: is neither in --class-map nor one of the model's {len(labels):,} labels",
                "Add it to --class-map, or correct its name.",
            ) from error
        raise
    chosen = found.train
    if data.is_file():
        if split == "val" and not found.val:
            raise DataError(f"{data}: names no pictures of the split val", "Leave out --split, or take --split train.")
        if split == "train" and not found.train:
            raise DataError(f"{data}: names no pictures of the split train", "Leave out --split.")
        chosen = found.val if found.val and split != "train" else found.train
        origin += f", split {'val' if chosen is found.val else 'train'}" if found.val or split else ", all of it"
    samples = []
    for sample in chosen:
        own = [found.labels[target] for target in sample.targets]
        for name in own:
            if name in ambiguous:
                several = " and ".join(str(index) for index, label in enumerate(labels) if label == name)
                raise DataError(
                    f"{sample.path}: {name!r} is the label of several outputs, {several}",
                    f'Say which it means with --class-map FILE.json: {{"{name}": {labels.index(name)}}}',
                )
        samples.append(Sample(sample.path, tuple(sorted({meanings[name] for name in own}))))
    return EvaluationData(tuple(samples), origin, found.notes)


def read_class_map(path: str | os.PathLike[str], labels: Sequence[str]) -> dict[str, int]:
    """Read a JSON object from names in the data to the model's labels: ``{"n01440764": "tench"}``.

    A number means the output of that index; where several outputs have one name, nothing else will do. Names that
    the data does not hold do no harm: one map of 1,000 serves every selection of ImageNet.

    Returns:
        Index of the label by name.

    Raises:
        DataError: the file cannot be read, or a label is none of the model's.
    """
    path = Path(path)
    form = 'Give JSON: {"n01440764": "tench", ...}'
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "Check the path of --class-map.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON: {error}", form) from error
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path}: is not an object with at least one name", form)
    return {name: _index(f"{path}: {name!r}", label, labels) for name, label in document.items()}


def unlabelled_pictures(data: str | os.PathLike[str], *, labels_from: LabelsFrom = "folder") -> tuple[Path, ...] | None:
    """Return the pictures of data that has no labels: a picture, or a folder that holds nothing but pictures.

    None if it has labels, is no folder or file, or is neither one thing nor the other (`find_evaluation_data` then
    says what is wrong).
    """
    data = Path(data)
    if data.is_file():
        return None if data.suffix.lower() in (".csv", ".json") else (data,)
    if not data.is_dir() or labels_from == "name":
        return None
    pictures = tuple(sorted(path for path in data.iterdir() if _is_picture(path)))
    deeper = any(_is_picture(path) for folder in data.iterdir() if folder.is_dir() for path in files_beneath(folder))
    return pictures if pictures and not deeper else None


def _split_folder(data: Path, split: Split | None, labels: Sequence[str], labels_from: LabelsFrom) -> tuple[Path, str]:
    """Return the folder to measure on, and how it was chosen."""
    train = data / "train"
    # A class may be called "test"; beside train/ it is a split all the same, as edgecls.data has it.
    names = [name for name in VAL_NAMES if (data / name).is_dir() and (train.is_dir() or name not in labels)]
    if split == "train" and train.is_dir():
        return train, "train/"
    if split != "train" and names:
        return data / names[0], f"{names[0]}/"
    # So may one be called "train": beside another class of the model it is no split.
    is_class = "train" in labels and len(_class_folders(data, labels_from).intersection(labels)) > 1
    if split is None and (is_class or not train.is_dir()):
        return data, "all of the folder"
    if split is None:
        raise DataError(
            f"{data}: has train/ but none of {', '.join(f'{name}/' for name in VAL_NAMES)}",
            "Add pictures that the model has not seen; --split train measures on those that it may have learnt.",
        )
    raise DataError(f"{data}: has no {split}/", "Leave out --split to measure on all of it, or name another folder.")


def _index(where: str, label: object, labels: Sequence[str]) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
        if 0 <= label < len(labels):
            return label
        raise DataError(f"{where}: {label} is no output of the model", f"Outputs go from 0 to {len(labels) - 1}.")
    if not isinstance(label, str) or label not in labels:
        nearest = difflib.get_close_matches(label, labels, n=1) if isinstance(label, str) else []
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise DataError(
            f"{where}: {label!r} is none of the model's {len(labels):,} labels{hint}",
            f"Correct it, or give the number of the output, 0 to {len(labels) - 1}.",
        )
    first = labels.index(label)
    if label in labels[first + 1 :]:
        several = " and ".join(str(index) for index, other in enumerate(labels) if other == label)
        raise DataError(
            f"{where}: {label!r} is the label of several outputs, {several}", f"Give the one you mean: {first}, say."
        )
    return first


def _class_folders(folder: Path, labels_from: LabelsFrom) -> set[str]:
    if labels_from == "name" or not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")
