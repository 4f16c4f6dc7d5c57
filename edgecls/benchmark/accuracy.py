"""Accuracies of model files, from what `edgecls compare` and `edgecls evaluate` wrote about them."""

from __future__ import annotations

import json
import math
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edgecls_runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_accuracies"]

_REMEDY = "Give a file of edgecls compare --data PHOTOS --format json, or of edgecls evaluate --format json."


def read_accuracies(paths: Sequence[str | os.PathLike[str]]) -> dict[str, float]:
    """Return acc@1 in percent by the name of the model's file.

    A manifest's metrics are no substitute: they are of the checkpoint, and a quantized file is not as good.

    Args:
        paths: JSON of ``edgecls.comparison/1`` or ``edgecls.evaluation/1``.

    Raises:
        BenchmarkError: a file cannot be read, is neither, or knows no acc@1.
    """
    found: dict[str, float] = {}
    for path in paths:
        where = os.fspath(path)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except OSError as error:
            raise BenchmarkError(f"{where}: cannot be read: {error.strerror or error}", "Check the path.") from error
        except (ValueError, RecursionError) as error:
            raise BenchmarkError(f"{where}: is not valid JSON: {error}", _REMEDY) from error
        for model, accuracy in _accuracies(document, where).items():
            if found.setdefault(model, accuracy) != accuracy:
                raise BenchmarkError(
                    f"{where}: says acc@1 {accuracy:g} % of {model!r}, and another file {found[model]:g} %",
                    "Give one measurement of each model.",
                )
    return found


def _accuracies(document: Any, where: str) -> dict[str, float]:
    kind = document.get("format") if isinstance(document, dict) else None
    try:
        if kind == "edgecls.comparison/1":
            pairs = [(row["path"], row["accuracy"]) for row in document["rows"]]
            pairs = [pair for pair in pairs if pair[1] is not None]
        elif kind == "edgecls.evaluation/1":
            metrics = document["metrics"]
            pairs = [(document["model"], metrics["acc@1"])] if "acc@1" in metrics else []
        else:
            raise BenchmarkError(f"{where}: is no comparison and no evaluation: its format is {kind!r:.80}", _REMEDY)
        found = {PurePath(path).name: float(accuracy) for path, accuracy in pairs}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchmarkError(f"{where}: is damaged: {type(error).__name__}: {error}", _REMEDY) from error
    if not found:
        raise BenchmarkError(f"{where}: knows no acc@1, for its pictures had no labels", _REMEDY)
    if not all(math.isfinite(value) and 0 <= value <= 100 for value in found.values()):
        raise BenchmarkError(f"{where}: has an acc@1 of {next(iter(found.values()))!r}", _REMEDY)
    return found
