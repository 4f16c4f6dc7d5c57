"""Choose pictures for calibration: the same ones every time, spread over the classes, and fit for it.

What is refused, because it would quietly spoil the ranges: an empty folder; pictures that the accuracy is measured
on too; noise and flat areas, which excite other filters than photos do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecls_export import drawn
from edgecls_export.picture_files import pictures_beneath
from edgecls_runtime.errors import CalibrationError, ImageError, OutputError
from edgecls_runtime.output import unwritable
from edgecls_runtime.preprocess import IMAGE_SUFFIXES, Preprocess, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

    from edgecls_runtime.preprocess import ImageSource

__all__ = ["ENOUGH", "CalibrationImages", "copy_images", "drawn_images", "pick_images"]

ENOUGH = 300
"""Fewer pictures leave the tails of the activations to chance; tools of the field ask for 300 to 1,000."""

_FLAT = 1.0
"""Standard deviation of the gray levels (0 to 255) under which a picture shows nothing."""

_NOISE = 0.2
"""Correlation of neighbouring pixels under which a picture is noise: photos have 0.8 to 1, white noise has 0."""

_UNFIT_SHARE = 0.1
"""A folder of photos holds a few odd ones; from here on it holds something else."""


@dataclass(frozen=True)
class CalibrationImages:
    """Pictures for calibration.

    Attributes:
        origin: where they came from, in words.
        sources: the pictures, in the order of the draw.
        digests: SHA-256 of each one's content.
        classes: number of class folders; 0 for a flat folder.
        warnings: what their user should know.
    """

    origin: str
    sources: tuple[ImageSource, ...]
    digests: tuple[str, ...]
    classes: int = 0
    warnings: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.sources:
            raise CalibrationError(
                f"{self.origin}: holds no pictures", "Give a folder of pictures as the model meets them."
            )

    def digest(self) -> str:
        """Return the SHA-256 over the pictures' own, sorted: the same pictures in any order and under any name."""
        return hashlib.sha256("\n".join(sorted(self.digests)).encode()).hexdigest()

    def __str__(self) -> str:
        classes = f" of {self.classes} classes" if self.classes else ""
        return "\n".join([f"{len(self.sources)} pictures{classes} from {self.origin}", *self.warnings])


def pick_images(
    folder: str | os.PathLike[str],
    count: int = 512,
    *,
    evaluation: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
) -> CalibrationImages:
    """Draw pictures from a folder of class folders (equally many of each, as far as they go), or from a flat one.

    The draw depends on the names below the folder and on the seed alone. Pictures that cannot be read and second
    copies of one are passed over.

    Args:
        folder: of pictures; folders in it are the classes.
        count: number of pictures; all there are if there are fewer.
        evaluation: pictures, or folders of them, that the accuracy is measured on.
        seed: another one draws other pictures.

    Raises:
        CalibrationError: there are no readable pictures, some of them are in ``evaluation``, or they are noise or flat;
            ``evaluation`` names a place without pictures.
        DataError: a folder cannot be read.
    """
    root = Path(folder)
    if count < 1:
        raise ValueError(f"count is {count}, must be at least 1")
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises for names that the system refuses
        raise CalibrationError(f"{root}: is not a folder", "Give a folder of pictures as the model meets them.")
    queue = _in_turn(_by_class(root, _pictures([root])), root, seed)
    held_out: dict[str, Path] = {}
    for place in evaluation:
        found = _pictures([place])
        if not found:
            raise CalibrationError(
                f"{place}: no pictures there to keep out of the calibration",
                "Check the path: give pictures or folders.",
            )
        held_out |= {_sha256(path): path for path in found}
    picked: dict[str, Path] = {}
    copies = 0
    unreadable: list[Path] = []
    flat: list[Path] = []
    noise: list[Path] = []
    shared: list[Path] = []
    for path in queue:
        if len(picked) == count:
            break
        try:
            digest, picture = _sha256(path), decode(path, Preprocess())
        except ImageError:
            unreadable.append(path)
            continue
        if digest in picked:
            copies += 1
            continue
        picked[digest] = path
        if digest in held_out:
            shared.append(path)
        (flat if _is_flat(picture) else noise if _is_noise(picture) else []).append(path)
    if not picked:
        seen = f"{len(unreadable)} pictures, none of which can be read" if unreadable else "no pictures"
        raise CalibrationError(f"{root}: holds {seen}", "Give a folder of pictures as the model meets them.")
    if shared:
        raise CalibrationError(
            f"{root}: {len(shared)} of {len(picked)} pictures are in the evaluation set too "
            f"({shared[0]} is {held_out[_sha256(shared[0])]})",
            "Calibrate on training pictures: ranges fitted to the pictures that judge them prove nothing.",
        )
    for what, paths in (("flat", flat), ("noise", noise)):
        if len(paths) > max(_UNFIT_SHARE * len(picked), 1 if len(picked) > 1 else 0):
            raise CalibrationError(
                f"{root}: {len(paths)} of {len(picked)} pictures are {what} ({paths[0]})",
                "Give pictures as the model meets them: random or constant ones give ranges for no photo.",
            )
    if copies and len(picked) == 1:
        raise CalibrationError(f"{root}: holds one picture {copies + 1} times", "Give different pictures.")
    classes = len({path.relative_to(root).parts[0] for path in picked.values() if path.parent != root})
    return CalibrationImages(
        origin=str(root),
        sources=tuple(picked.values()),
        digests=tuple(picked),
        classes=classes,
        warnings=tuple(_warnings(root, len(picked), copies, unreadable)),
    )


def copy_images(
    images: CalibrationImages, source: str | os.PathLike[str], folder: str | os.PathLike[str], *, seed: int
) -> None:
    """Copy what `pick_images` drew, in its class folders, and write ``manifest.json``.

    Args:
        images: from ``source``.
        source: folder that they were drawn from.
        folder: to fill; a new or empty one.
        seed: of the draw, for the manifest.

    Raises:
        OutputError: the folder holds something already, lies in ``source``, or cannot be written; then nothing is left
            of it.
    """
    folder = Path(folder)
    if folder.resolve().is_relative_to(Path(source).resolve()):
        raise OutputError(
            f"{folder}: lies in {source}, where its copies would be drawn again", "Name a folder beside it."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists already", "Name a new or an empty folder.")
    paths = [Path(str(path)) for path in images.sources]
    names = [path.relative_to(source).as_posix() for path in paths]
    document = {
        "format": "edgecls.calibration-images/1",
        "source": str(source),
        "seed": seed,
        "classes": images.classes,
        "images": dict(zip(names, images.digests, strict=True)),
    }
    made = not folder.exists()
    try:
        for path, name in zip(paths, names, strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        (folder / "manifest.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    except OSError as error:
        for child in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        if made and folder.is_dir():
            folder.rmdir()
        raise unwritable(folder, error) from error


def drawn_images(count: int = 64) -> CalibrationImages:
    """Return pictures drawn by the project, for those who have none; a warning says that own ones are better."""
    pictures = dict(drawn.draw_pictures(count))
    return CalibrationImages(
        origin=f"drawn by edgecls, version {drawn.GENERATOR_VERSION} of the drawing",
        sources=tuple(pictures.values()),
        digests=tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures.values()),
        warnings=(f"calibrated on {count} drawn pictures: {ENOUGH} or more as the model meets them are better",),
    )


def _warnings(root: Path, picked: int, copies: int, unreadable: list[Path]) -> Iterable[str]:
    if picked < ENOUGH:
        yield f"{root}: {picked} pictures are few for calibration: give {ENOUGH} or more"
    if unreadable:
        yield f"{root}: {len(unreadable)} pictures cannot be read and were passed over ({unreadable[0]})"
    if copies:
        yield f"{root}: {copies} pictures are copies of others and were passed over"


def _pictures(places: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the pictures among files and beneath folders, by suffix; those of a folder sorted."""
    found = []
    for place in map(Path, places):
        if place.is_dir():
            found += pictures_beneath(place)
        elif place.suffix.lower() in IMAGE_SUFFIXES and place.is_file():
            found.append(place)
    return found


def _by_class(root: Path, paths: list[Path]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for path in paths:
        parts = path.relative_to(root).parts
        classes.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    return classes


def _in_turn(classes: dict[str, list[Path]], root: Path, seed: int) -> Iterable[Path]:
    """Yield a picture of each class in turn, each class in an order that a hash of the names decides."""

    def rank(path: Path) -> bytes:
        return hashlib.sha256(f"{seed}/{path.relative_to(root).as_posix()}".encode()).digest()

    queues = [deque(sorted(paths, key=rank)) for _, paths in sorted(classes.items())]
    while queues:
        for queue in queues:
            yield queue.popleft()
        queues = [queue for queue in queues if queue]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}", "Check the file.") from error


def _is_flat(picture: Image.Image) -> bool:
    return float(np.asarray(picture.convert("L"), np.float32).std()) < _FLAT


def _is_noise(picture: Image.Image) -> bool:
    gray = np.asarray(picture.convert("L"), np.float32)
    if min(gray.shape) < 2:
        return False
    centred = gray - gray.mean()
    down, right = (centred[1:] * centred[:-1]).mean(), (centred[:, 1:] * centred[:, :-1]).mean()
    return float(down + right) / 2 < _NOISE * float(centred.var())
