"""The folder that a training leaves.

============================ ======================================================================================
file                         what it holds
============================ ======================================================================================
``config.json``              what the training was told
``data.json``                what was found in the pictures
``metrics.jsonl``            a line of figures for each epoch
``best.pt``                  the checkpoint with the best result: what to export
``last.pt``                  the checkpoint of the last epoch
``resume.pt``                all that is needed to go on as if nothing had happened
``evaluation.json``          ``best.pt`` measured, by the code of ``edgecls evaluate``
``*.png``                    curves, confusion matrix, predictions, the first batch as the network saw it
============================ ======================================================================================
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecls.torch_file import read_torch_file, write_torch_file
from edgecls.training.config import TrainingConfig
from edgecls_runtime.errors import CheckpointError, ManifestError, OutputError, TrainingError
from edgecls_runtime.manifest import from_document
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RunFolder"]

_FORMAT = "edgecls.training/1"


class RunFolder:
    """A training's folder; every file in it appears whole or not at all."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.best = self.path / "best.pt"
        self.last = self.path / "last.pt"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"
        self._resume = self.path / "resume.pt"

    def check_new(self) -> None:
        """Refuse a folder that holds anything: another training's results are not overwritten.

        Raises:
            OutputError: says what is there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: is a file", "Choose another --output.")
        if self.path.is_dir() and any(self.path.iterdir()):
            advice = f"go on with it: edgecls train --resume {self.path}" if self._resume.exists() else "remove it"
            raise OutputError(f"{self.path}: exists already", f"Choose another --output, or {advice}")
        nearest = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if not nearest.is_dir():
            raise OutputError(f"{self.path}: cannot be made: {nearest} is a file", "Choose another --output.")
        if not os.access(nearest, os.W_OK):
            raise OutputError(f"{self.path}: the folder {nearest} may not be written to", "Choose another --output.")

    def begin(self, config: TrainingConfig) -> None:
        """Make the folder and write what the training was told.

        Raises:
            OutputError: it cannot be written.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made: {error.strerror}", "Choose another --output.") from error
        self.write_json("config.json", dataclasses.asdict(config))

    def config(self) -> TrainingConfig:
        """Return what the training was told.

        Raises:
            TrainingError: this is no run folder, or its config is damaged.
        """
        try:
            document = json.loads(self._config.read_text("utf-8"))
        except OSError as error:
            raise TrainingError(
                f"{self.path}: is no run folder: config.json cannot be read ({error.strerror})",
                "Name the folder that edgecls train wrote.",
            ) from error
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"{self._config}: is not valid JSON: {error}", "Train again.") from error
        try:
            config: TrainingConfig = from_document(TrainingConfig, document, str(self._config))
        except ManifestError as error:
            raise TrainingError(error.cause, "Put back what stood there, or train again.") from error
        return config

    def save_state(self, state: dict[str, Any]) -> None:
        """Write what is needed to go on.

        Raises:
            OutputError: it cannot be written; what was saved before stays.
        """
        write_torch_file({"format": _FORMAT, **state}, self._resume)

    def load_state(self) -> dict[str, Any]:
        """Read what `save_state` wrote.

        Raises:
            TrainingError: there is none, or it is damaged.
        """
        if not self._resume.exists():
            raise TrainingError(
                f"{self._resume}: no such file, so there is nothing to go on from",
                "Train anew into another folder.",
            )
        try:
            state = read_torch_file(self._resume)
        except CheckpointError as error:
            again = (
                f" from the last checkpoint: --weights {self.last}" if self.last.exists() else " into another folder."
            )
            raise TrainingError(error.cause, f"Train again{again}") from error
        if not isinstance(state, dict) or state.pop("format", None) != _FORMAT:
            raise TrainingError(
                f"{self._resume}: is not of format {_FORMAT!r}", "Go on with the edgecls that wrote it."
            )
        return state

    def remove_parts(self) -> None:
        """Remove what a training that was killed while it saved has left of its files."""
        for part in self.path.glob(".*.????????.part"):
            part.unlink(missing_ok=True)

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """Write a line of figures for each epoch."""
        with whole_file(self._metrics, force=True) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in history), "utf-8")

    def write_json(self, name: str, document: object) -> None:
        """Write a JSON file."""
        with whole_file(self.path / name, force=True) as temporary:
            text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            temporary.write_text(text, "utf-8", "backslashreplace")  # names that are not UTF-8
