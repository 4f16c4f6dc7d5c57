"""Write with torch.save, and read what it wrote as data: no file's code is ever run."""

from __future__ import annotations

import argparse
import pickle
import re
import stat
import warnings
import zipfile
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

from edgecls_runtime.errors import CheckpointError
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from pathlib import Path

__all__ = ["contents", "is_state_dict", "printable", "read_torch_file", "shortened", "write_torch_file"]

_SHOWN = 3
_LONGEST = 200


def read_torch_file(path: Path) -> object:
    """Unpickle a file of ``torch.save`` as data, or say why not."""
    whole = "Copy or download it again; it may have been cut short."
    ours = "Give a whole checkpoint of edgecls, or a state dict saved with torch.save."
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path}: is not a file", "Name the file of weights itself.")
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise CheckpointError(f"{path}: is empty", whole)
        is_zip = start.startswith(b"PK")
        if not is_zip and not start.startswith(b"\x80"):  # zip since PyTorch 1.6, a bare pickle before
            raise CheckpointError(
                f"{path}: is not a file of torch.save (it starts with {start!r})",
                ours,
            )
        if is_zip and not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: is cut short (a zip file without its directory)", whole)
        # torch itself reads a file with flipped bits without a word.
        if is_zip and (wrong := _first_wrong_member(path)):
            raise CheckpointError(f"{path}: is damaged: {printable(wrong)} does not match its checksum", whole)
        # torchvision's own training script keeps its arguments, a Namespace, beside the weights. torch warns
        # about TorchScript and other pickle protocols before it refuses them.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document: object = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file", "Check the path.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}", "Check the file.") from error
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CheckpointError(f"{path}: is damaged, or not a file of torch.save", ours) from error
        raise CheckpointError(
            f"{path}: wants to run code on loading ({printable(refused[1])}), so it was not loaded",
            "If you trust where it comes from, save its weights alone there: torch.save(model.state_dict(), FILE).",
        ) from error
    except Exception as error:  # what torch raises for a damaged file is open-ended: KeyError, ValueError, ...
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: is damaged: {printable(reason)}", whole) from error
    return document


def write_torch_file(document: object, path: str | os.PathLike[str]) -> None:
    """Write a file of ``torch.save``, whole or not at all, over whatever was there.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path, force=True) as temporary, temporary.open("wb") as file:
        try:
            torch.save(document, file)
        except RuntimeError as error:
            # When the disk is full, torch still tries to end its zip file, and that error hides the disk's own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def is_state_dict(found: object) -> TypeGuard[dict[str, Tensor]]:
    """Return whether this is tensors by printable names, at least one."""
    return (
        isinstance(found, dict)
        and len(found) > 0
        # Names are printed: no escape codes.
        and all(isinstance(name, str) and name.isprintable() for name in found)
        and all(isinstance(value, Tensor) for value in found.values())
    )


def contents(document: object) -> str:
    """Describe in a few words what a file holds."""
    if not isinstance(document, dict):
        return f"a {type(document).__name__}"
    return f"a dict of {shortened([repr(name) for name in document])}" if document else "an empty dict"


def printable(text: str) -> str:
    """Make one line of what a file or a library says: no escape codes, no pages."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shortened(items: list[str]) -> str:
    """Join the first few items, and say how many more there are."""
    more = f", +{len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def _first_wrong_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()
