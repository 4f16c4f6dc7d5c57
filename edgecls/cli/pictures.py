"""Find the pictures that a command line names: files, folders, globs."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["STDIN", "Pictures", "find_pictures"]

STDIN = "-"


@dataclass(frozen=True)
class Pictures:
    """Paths in the order they were named, folders sorted; and how many files in folders are no pictures by suffix."""

    paths: tuple[str, ...]
    passed_over: int


def find_pictures(arguments: Iterable[str]) -> Pictures:
    """Expand folders (with their subfolders) and globs; a name that matches nothing stays, to fail by its name."""
    from edgecls_runtime.preprocess import IMAGE_SUFFIXES

    paths: list[str] = []
    passed_over = 0
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN or path.is_file():
            paths.append(argument)
        elif path.is_dir():
            files = sorted(str(file) for file in path.rglob("*") if file.is_file())
            pictures = [file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES]
            passed_over += len(files) - len(pictures)
            paths += pictures
        else:
            matches = glob.glob(argument, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            paths += sorted(matches) or [argument]
    return Pictures(tuple(paths), passed_over)
