"""Documents on disk: written whole, read strictly. A baseline may come from anywhere."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from typing import Any

from edgecls.benchmark.document import SCHEMA, Document
from edgecls_runtime.errors import BenchmarkError, ManifestError
from edgecls_runtime.manifest import from_document
from edgecls_runtime.output import whole_file

__all__ = ["MAX_BYTES", "from_json", "read", "to_json", "write"]

MAX_BYTES = 256 * 2**20
"""Largest file that is read: two million queries with all their stages."""

_REMEDY = "Measure again: edgecls bench MODEL --json FILE"


def to_json(document: Document) -> str:
    """Return the text that `from_json` reads."""
    return json.dumps({"schema": SCHEMA, **dataclasses.asdict(document)}, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, *, where: str) -> Document:
    """Read a document strictly: every field must be there, of its type, and known.

    Args:
        text: JSON.
        where: names it in errors.

    Raises:
        BenchmarkError: says which field is wrong, and what was found there.
    """
    try:
        document = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(f"{where}: is not valid JSON: {error}", _REMEDY) from error
    found = document.pop("schema", None) if isinstance(document, dict) else None
    if found != SCHEMA:
        raise BenchmarkError(
            f"{where}: is not a benchmark: its schema is {found!r:.80}, not {SCHEMA!r}",
            "Give a file of edgecls bench --json; another edgecls may write another schema.",
        )
    _check_texts(document, where)
    try:
        read: Document = from_document(Document, document, where)
    except ManifestError as error:
        raise BenchmarkError(error.cause, _REMEDY) from error
    return read


def read(path: str | os.PathLike[str]) -> Document:
    """Read a document from a file; see `from_json`.

    Raises:
        BenchmarkError: it is not there, or not a document of ours.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BenchmarkError(f"{where}: is larger than {MAX_BYTES:,} bytes", "Give a file of edgecls bench --json.")
        return from_json(data.decode("utf-8"), where=where)
    except OSError as error:
        raise BenchmarkError(f"{where}: cannot be read: {error.strerror or error}", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{where}: is not UTF-8 text: {error.reason}", _REMEDY) from error


def write(document: Document, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a document for `read`, whole or not at all.

    Raises:
        OutputError: it exists already (without ``force``), or cannot be written.
    """
    with whole_file(path, force=force) as temporary:
        temporary.write_text(to_json(document), "utf-8")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _check_texts(value: Any, where: str) -> None:
    """Refuse what a terminal would obey: texts are printed."""
    if isinstance(value, str):
        if not value.isprintable():
            raise BenchmarkError(f"{where}: {value!r:.80} holds a control character", _REMEDY)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, where)
            _check_texts(item, where)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, where)
