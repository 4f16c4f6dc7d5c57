"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_runtime.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_writable", "flush", "unwritable", "whole_file"]


def check_writable(target: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse a target that exists (without ``force``; a device even so) or whose folder is not there.

    Raises:
        OutputError: says which.
    """
    target, folder = Path(target), Path(target).parent
    try:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder", "Name a file in it.")
        if target.exists() and not (force and target.is_file()):
            how = ", or overwrite it with --force." if target.is_file() else ": it is a device or the like, and stays."
            raise OutputError(f"{target}: exists already", f"Choose another name{how}")
        if not folder.is_dir():
            raise OutputError(f"{target}: the folder {folder} does not exist", f"Make it: mkdir -p {folder}")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{target}: the folder {folder} may not be written to", "Choose another folder.")
    except OSError as error:  # a folder on the way that may not be entered, a name that is too long
        raise unwritable(target, error) from error


@contextlib.contextmanager
def whole_file(target: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside the target; on success it is flushed to disk and renamed into place.

    On any exception the temporary file goes and the target stays as it was.

    Raises:
        OutputError: the target exists (without ``force``), or cannot be written.
    """
    target = Path(target)
    check_writable(target, force=force)
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}.part")  # names end at 255 bytes
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        check_writable(target, force=force)  # again: a conversion takes minutes
        flush(temporary)
        temporary.replace(target)
        flush(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(target: Path, error: OSError) -> OutputError:
    """Say in our words what the disk says."""
    if error.errno == errno.ENOSPC:
        return OutputError(f"{target}: the disk is full", "Free some space, or choose another disk; no part is left.")
    return OutputError(f"{target}: cannot be written: {error.strerror or error}", "Choose another place.")
