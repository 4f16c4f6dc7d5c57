"""Several files, or a folder of them, that appear together or not at all (`edgecls_runtime.output`: a single one)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_runtime.backends import is_engine
from edgecls_runtime.errors import OutputError
from edgecls_runtime.output import check_writable, flush, unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["check_new_folder", "check_no_engine", "whole_files", "whole_folder"]


@contextlib.contextmanager
def whole_files(targets: Sequence[str | os.PathLike[str]], *, force: bool = False) -> Iterator[tuple[Path, ...]]:
    """Yield a temporary path for each of several files; on success all appear, or none.

    The temporary files of a folder lie side by side under the names of their targets, so that what belongs together
    can be tried before it appears. On any exception they go, and the targets stay as they were.

    Raises:
        OutputError: a target exists (without ``force``), or cannot be written.
    """
    named = tuple(Path(target) for target in targets)
    for target in named:
        check_writable(target, force=force)
    with contextlib.ExitStack() as stack:
        folders: dict[Path, Path] = {}
        for target in named:
            if target.parent not in folders:
                folders[target.parent] = stack.enter_context(_folder_beside(target))
        temporaries = tuple(folders[target.parent] / target.name for target in named)
        yield temporaries
        for target in named:
            check_writable(target, force=force)
        _swap(temporaries, named)


@contextlib.contextmanager
def whole_folder(target: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside the target; on success it is flushed to disk and gets the target's name.

    On any exception it goes, and the target stays as it was.

    Raises:
        OutputError: the target exists (without ``force``), or cannot be written.
    """
    target = Path(target)
    check_new_folder(target, force=force)
    with _folder_beside(target) as folder:
        made = folder / target.name
        made.mkdir()
        yield made
        check_new_folder(target, force=force)
        _swap((made,), (target,))


def check_no_engine(target: str | os.PathLike[str]) -> None:
    """Refuse to call an ONNX file what engines are called: whoever opens it would take it for one.

    Raises:
        OutputError: says what to call it.
    """
    if is_engine(target):
        raise OutputError(
            f"{target}: is called an engine, and an ONNX file is made",
            "Let it end in .onnx; --tensorrt makes an engine of it.",
        )


def check_new_folder(target: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse a folder that exists (without ``force``), or that cannot be made where it shall be.

    Raises:
        OutputError: says which.
    """
    target = Path(target)
    try:
        exists = target.exists()
    except OSError as error:  # a name that the system refuses
        raise unwritable(target, error) from error
    if exists and not target.is_dir():
        raise OutputError(f"{target}: is a file, not a folder", "Choose another folder.")
    if exists and not force:
        raise OutputError(f"{target}: exists already", "Choose another folder, or replace it with --force.")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} does not exist", f"Make it: mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"{target}: the folder {target.parent} may not be written to", "Choose another folder.")


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Lend a folder on the disk of the target; say in our words what the disk says."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise unwritable(target, error) from error


def _swap(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename all into place; if one cannot be, all are as they were."""
    for temporary in temporaries:
        for path in (*temporary.rglob("*"), temporary):
            flush(path)
    with contextlib.ExitStack() as undo:
        for temporary, target in zip(temporaries, targets, strict=True):
            if target.exists():
                old = temporary.with_name(f"{target.name}.old")
                target.replace(old)
                undo.callback(old.replace, target)
            temporary.replace(target)
            undo.callback(target.replace, temporary)
        undo.pop_all()
    for folder in {target.parent for target in targets}:
        flush(folder)
