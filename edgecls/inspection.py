"""Look at labelled pictures before anything is learnt from them: `inspect_data` and `measure_channels`."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.data import Unreadable
from edgecls_runtime.cpus import usable_cpus
from edgecls_runtime.errors import DataError, ImageError
from edgecls_runtime.parallel import bounded_map
from edgecls_runtime.preprocess import Preprocess, decode, resize_and_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgecls.data import Dataset, Sample

__all__ = ["ChannelStats", "DataReport", "inspect_data", "measure_channels"]

_SHOWN = 5
_IMBALANCE = 10


@dataclass(frozen=True)
class DataReport:
    """What was found in labelled pictures.

    Attributes:
        dataset: the readable pictures.
        unreadable: the others, left out of ``dataset``.
        counts: for each class, pictures to learn from and to measure on.
        duplicates: groups of files with the same content that all lie in one split.
        leaks: groups of files with the same content in both splits: measuring on them would flatter.
        conflicts: groups of files with the same content and different labels.
        sizes: (width, height) of the smallest, the median and the largest picture, by area.
    """

    dataset: Dataset
    unreadable: tuple[Unreadable, ...]
    counts: tuple[tuple[int, int], ...]
    duplicates: tuple[tuple[Path, ...], ...]
    leaks: tuple[tuple[Path, ...], ...]
    conflicts: tuple[tuple[Path, ...], ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def imbalance(self) -> float:
        """How many times more pictures the largest class has to learn from than the smallest that has any."""
        found = [train for train, _ in self.counts if train]
        return max(found) / min(found) if found else 1.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What deserves a look before training, a sentence each."""
        labels, data = self.dataset.labels, self.dataset
        found = list(data.notes)
        found += [f"unreadable, left out: {item.cause}" for item in self.unreadable[:_SHOWN]]
        if len(self.unreadable) > _SHOWN:
            found.append(f"unreadable, left out: {len(self.unreadable) - _SHOWN:,} more")
        only_train = [label for label, (train, val) in zip(labels, self.counts, strict=True) if train and not val]
        if data.val and only_train:
            found.append(f"no picture to measure on of {_some(only_train)}")
        if self.imbalance >= _IMBALANCE:
            found.append(
                f"the largest class has {self.imbalance:.0f} times the pictures of the smallest: "
                "consider --class-weights or --balanced-sampling"
            )
        for kind, groups in (
            ("the same picture under different labels", self.conflicts),
            ("the same picture in both splits", self.leaks),
            ("the same picture several times in one split", self.duplicates),
        ):
            if groups:
                found.append(f"{kind}: {len(groups):,} times, first {' = '.join(map(str, groups[0][:3]))}")
        if all(label.isdecimal() for label in labels) and list(labels) != sorted(labels, key=int):
            found.append(
                f"numbers as labels are sorted as texts: {', '.join(labels[:4])}, ...; --labels FILE sets another"
            )
        return tuple(found)

    def require(self, *, strict: bool = False, allow_duplicates: bool = False) -> DataReport:
        """Return the report itself if the data can be trained on.

        Args:
            strict: refuse unreadable pictures.
            allow_duplicates: accept the same picture in both splits.

        Raises:
            DataError: says what stands in the way.
        """
        self.dataset.require_val()
        for label, (train, val) in zip(self.dataset.labels, self.counts, strict=True):
            if not train:
                found = f"{val} to measure on" if val else "none at all"
                raise DataError(
                    f"class {label!r}: no picture to learn from, {found}", "Add pictures of it, or remove the class."
                )
        if strict and self.unreadable:
            raise DataError(
                f"{len(self.unreadable)} unreadable pictures, first {self.unreadable[0].cause}",
                "Repair or remove them, or leave out --strict to train without them.",
            )
        if self.leaks and not allow_duplicates:
            raise DataError(
                f"the same picture in both splits, {len(self.leaks)} times: {' = '.join(map(str, self.leaks[0][:3]))}",
                "Remove one of each, or accept flattering figures with --allow-duplicates.",
            )
        return self

    def to_document(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return {
            "task": self.dataset.task,
            "origin": self.dataset.origin,
            "labels": list(self.dataset.labels),
            "train": {label: count[0] for label, count in zip(self.dataset.labels, self.counts, strict=True)},
            "val": {label: count[1] for label, count in zip(self.dataset.labels, self.counts, strict=True)},
            "unreadable": [{"path": str(item.path), "cause": item.cause} for item in self.unreadable],
            "duplicates": [list(map(str, group)) for group in self.duplicates],
            "leaks": [list(map(str, group)) for group in self.leaks],
            "conflicts": [list(map(str, group)) for group in self.conflicts],
            "imbalance": self.imbalance,
            "sizes": [list(size) for size in self.sizes],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        width = max(len("pictures"), *(min(len(label), 40) for label in self.dataset.labels))
        lines = [f"{'':>5}  {'class':{width}}  {'train':>9}  {'val':>9}"]
        for index, (label, (train, val)) in enumerate(zip(self.dataset.labels, self.counts, strict=True)):
            lines.append(f"{index:>5}  {label[:40]:{width}}  {train:>9,}  {val:>9,}")
        lines.append(f"{'':>5}  {'pictures':{width}}  {len(self.dataset.train):>9,}  {len(self.dataset.val):>9,}")
        sizes = " / ".join(f"{width}x{height}" for width, height in self.sizes)
        lines.append(f"{self.dataset.origin}; smallest / median / largest picture {sizes}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


@dataclass(frozen=True)
class ChannelStats:
    """Mean and standard deviation of each channel, red, green, blue, on the scale 0 to 1.

    Attributes:
        pictures: how many were measured, as the network sees them: resized and cropped.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pictures: int

    def __str__(self) -> str:
        mean, std = (",".join(f"{value:.4f}" for value in values) for values in (self.mean, self.std))
        return f"{self.pictures:,} pictures: --mean {mean} --std {std}"


@dataclass(frozen=True)
class _Look:
    digest: bytes
    size: tuple[int, int]
    error: str | None


def inspect_data(
    dataset: Dataset,
    *,
    preprocess: Preprocess | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> DataReport:
    """Decode every picture as the device would, and find unreadable ones, duplicates and lopsided classes.

    Args:
        dataset: the labelled pictures.
        preprocess: what they will go through; torchvision's ImageNet preset if None.
        workers: threads; as many as there are CPUs if None.
        progress: called with the number of pictures done since the last call.

    Raises:
        DataError: there are no pictures, or not one is readable.
    """
    preprocess = preprocess or Preprocess()
    if not (dataset.train or dataset.val):
        raise DataError("there are no pictures to look at", "Give some.")

    def look(sample: Sample) -> _Look:
        try:
            content = sample.path.read_bytes()
        except OSError as error:
            return _Look(b"", (0, 0), f"{sample.path}: cannot be read: {error.strerror or error}")
        digest = hashlib.sha256(content).digest()
        try:
            image = decode(content, preprocess)
            resize_and_crop(image, preprocess)
        except ImageError as error:
            return _Look(digest, (0, 0), f"{sample.path}: {error.cause.partition('>: ')[2] or error.cause}")
        return _Look(digest, image.size, None)

    samples = (*dataset.train, *dataset.val)
    looks = []
    for result in bounded_map(look, samples, workers=workers or usable_cpus()):
        looks.append(result)
        progress(1)
    unreadable = tuple(
        Unreadable(sample.path, result.error)
        for sample, result in zip(samples, looks, strict=True)
        if result.error is not None
    )
    if len(unreadable) == len(samples):
        raise DataError(
            f"not one of {len(samples):,} pictures is readable, first {unreadable[0].cause}",
            "Give JPEG, PNG, WebP, GIF, BMP or TIFF files.",
        )
    train, val = (
        tuple(sample for sample, result in zip(split, found, strict=True) if result.error is None)
        for split, found in ((dataset.train, looks[: len(dataset.train)]), (dataset.val, looks[len(dataset.train) :]))
    )
    counted = [Counter(target for sample in split for target in sample.targets) for split in (train, val)]
    duplicates, leaks, conflicts = _same_content(dataset, looks)
    areas = sorted((result.size for result in looks if result.error is None), key=lambda size: size[0] * size[1])
    return DataReport(
        dataset=replace(dataset, train=train, val=val),
        unreadable=unreadable,
        counts=tuple((counted[0][index], counted[1][index]) for index in range(len(dataset.labels))),
        duplicates=duplicates,
        leaks=leaks,
        conflicts=conflicts,
        sizes=(areas[0], areas[len(areas) // 2], areas[-1]),
    )


def measure_channels(
    samples: Sequence[Sample],
    *,
    preprocess: Preprocess | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> ChannelStats:
    """Measure mean and standard deviation over all pixels of all pictures, one picture in memory at a time.

    The sums are integers, so the result is exact and does not depend on the order.

    Args:
        samples: pictures; those to learn from, or the figures leak what should be held out.
        preprocess: how they are resized and cropped; torchvision's ImageNet preset if None.
        workers: threads; as many as there are CPUs if None.
        progress: called with the number of pictures done since the last call.

    Raises:
        ImageError: a picture is unreadable.
        DataError: there are no pictures, or all pixels of a channel are the same.
    """
    preprocess = preprocess or Preprocess()
    values = np.arange(256, dtype=np.uint64)

    def histogram(sample: Sample) -> list[Any]:
        pixels = resize_and_crop(decode(sample.path, preprocess), preprocess)
        return [np.bincount(pixels[:, :, channel].ravel(), minlength=256) for channel in range(3)]

    if not samples:
        raise DataError("there are no pictures to measure", "Give some.")
    total = np.zeros((3, 256), np.uint64)
    for found in bounded_map(histogram, samples, workers=workers or usable_cpus()):
        total += np.asarray(found, np.uint64)
        progress(1)
    pixels = total.sum(axis=1)
    mean = (total * values).sum(axis=1) / pixels
    variance = (total * values**2).sum(axis=1) / pixels - mean**2
    if not (variance > 0).all():
        raise DataError(
            f"all {int(pixels[0]):,} pixels of a channel are the same (mean {mean / 255})",
            "Give --std in figures; a standard deviation of 0 cannot be divided by.",
        )
    return ChannelStats(_triple(mean / 255), _triple(np.sqrt(variance) / 255), len(samples))


def _same_content(
    dataset: Dataset, looks: Sequence[_Look]
) -> tuple[tuple[tuple[Path, ...], ...], tuple[tuple[Path, ...], ...], tuple[tuple[Path, ...], ...]]:
    """Return groups of same content: within a split, across the splits, and under different labels."""
    groups: dict[bytes, list[tuple[Sample, bool]]] = defaultdict(list)
    for position, (sample, result) in enumerate(zip((*dataset.train, *dataset.val), looks, strict=True)):
        if result.error is None:  # what is left out anyway leaks nothing
            groups[result.digest].append((sample, position < len(dataset.train)))
    duplicates: list[tuple[Path, ...]] = []
    leaks: list[tuple[Path, ...]] = []
    conflicts: list[tuple[Path, ...]] = []
    for group in groups.values():
        if len(group) > 1:
            paths = tuple(sample.path for sample, _ in group)
            (leaks if len({split for _, split in group}) > 1 else duplicates).append(paths)
            if len({sample.targets for sample, _ in group}) > 1:
                conflicts.append(paths)
    return tuple(duplicates), tuple(leaks), tuple(conflicts)


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more
