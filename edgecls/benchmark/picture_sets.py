"""The pictures that a model is measured on: files, so that reading them is part of the way as it is in use."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecls.benchmark.document import Pictures
from edgecls.benchmark.drawn_pictures import draw_jpegs
from edgecls_export.picture_files import pictures_beneath
from edgecls_runtime.errors import BenchmarkError, ImageError
from edgecls_runtime.preprocess import Preprocess, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAX_PICTURES", "PictureSet", "open_pictures"]

MAX_PICTURES = 512
"""Of a folder with more a sample of so many is taken: far more than fits into a cache, and read in a second or two."""


@dataclass(frozen=True)
class PictureSet:
    """Files to measure on.

    Attributes:
        paths: of the files, in an order without any order of classes or sizes, the same every time: however few of
            them a measurement reaches, they are a fair sample.
        description: for the document.
        left_out: number of pictures that a large folder has beyond those.
    """

    paths: tuple[str, ...]
    description: Pictures
    left_out: int = 0


@contextlib.contextmanager
def open_pictures(images: Path | None = None) -> Iterator[PictureSet]:
    """Yield the pictures of a folder, or drawn ones in a temporary folder, each of them read and decoded once.

    So none of them fails midway, and all lie in the file system's cache.

    Args:
        images: folder, searched with its folders; None for drawn pictures.

    Raises:
        BenchmarkError: there are no pictures, or no place for the drawn ones.
        ImageError: one of them cannot be read.
    """
    if images is not None:
        yield _from_folder(images)
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgecls-bench-"))
            pictures = _drawn(Path(folder))
        except OSError as error:
            raise BenchmarkError(
                f"{tempfile.gettempdir()}: the drawn pictures cannot be written: {error.strerror or error}",
                "Make room there, set TMPDIR to another folder, or give pictures: --images DIR",
            ) from error
        yield pictures


def _drawn(folder: Path) -> PictureSet:
    paths = []
    for number, jpeg in enumerate(draw_jpegs()):
        paths.append(folder / f"drawn-{number:04}.jpg")
        paths[-1].write_bytes(jpeg)
    return PictureSet(tuple(map(str, paths)), _describe("drawn", paths))


def _from_folder(folder: Path) -> PictureSet:
    if not folder.is_dir():
        raise BenchmarkError(f"{folder}: is not a folder", "Give a folder of pictures: --images DIR")
    found = pictures_beneath(folder)
    if not found:
        raise BenchmarkError(f"{folder}: no pictures there", "Give a folder with JPEG, PNG or WebP files.")
    chosen = random.Random(0).sample(found, min(len(found), MAX_PICTURES))  # noqa: S311 - reproducible, not secret
    for path in chosen:
        decode(path, Preprocess())
    return PictureSet(tuple(map(str, chosen)), _describe("folder", chosen), len(found) - len(chosen))


def _describe(source: Literal["drawn", "folder"], paths: Sequence[Path]) -> Pictures:
    size, digests = 0, []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:  # it could be decoded a moment ago
            cause = f"{path}: cannot be read: {error.strerror}"
            raise ImageError(cause, "Leave the pictures as they are while they are measured.") from error
        size += len(data)
        digests.append(hashlib.sha256(data).hexdigest())
    total = hashlib.sha256("".join(sorted(digests)).encode())
    return Pictures(source=source, count=len(paths), bytes=size, sha256=total.hexdigest())
