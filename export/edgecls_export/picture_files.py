"""Walk folders of pictures: through links to folders, not in circles, and not silently past what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_runtime.errors import DataError
from edgecls_runtime.preprocess import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["files_beneath", "pictures_beneath"]


def pictures_beneath(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files beneath a folder that are pictures by their suffix, sorted.

    Raises:
        DataError: a folder cannot be read.
    """
    return sorted(path for path in files_beneath(folder) if path.suffix.lower() in IMAGE_SUFFIXES)


def files_beneath(folder: str | os.PathLike[str], above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files beneath a folder, through links to folders too, but not in circles.

    Args:
        folder: to walk.
        above: the folders that this one is being walked for, links resolved; none, where a walk begins.

    Raises:
        DataError: a folder cannot be read.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = list(Path(folder).iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}", "Change its permissions.") from error
    for path in entries:
        # Path.is_dir and is_file raise where a link leads to what may not be looked at.
        if os.path.isdir(path):  # noqa: PTH112
            yield from files_beneath(path, above | {here})
        elif os.path.isfile(path):  # noqa: PTH113
            yield path
