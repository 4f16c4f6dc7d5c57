"""Every error that a user's world can cause.

::

    EdgeclsError
    ├── ImageError               a picture cannot be read, or is not one
    ├── ModelError               a model file cannot be used
    │   ├── ManifestError        its manifest is damaged, or contradicts the model
    │   └── VerificationError    it does not compute what it was exported to compute
    ├── ProfileError             a tuning profile is damaged, or of another model, machine or engine
    ├── BenchmarkError           a measurement cannot be made, read or compared
    │   └── OtherMachineError    it was made on another machine than what it is held against
    ├── ProviderError            the engine or the hardware that was asked for is not there
    ├── MissingDependencyError   an optional package is not installed
    ├── CheckpointError          weights cannot be read, or do not fit the architecture
    ├── DataError                labelled pictures are missing, or contradict themselves
    ├── TrainingError            training cannot begin, or cannot go on
    ├── ExportError              a conversion failed
    │   ├── CalibrationError     the pictures for calibration cannot be used
    │   └── ParityError          the artifact does not agree with PyTorch
    └── OutputError              a result cannot be written, or would overwrite a file

Each carries a one-line ``cause`` that names the place and the value found, and a ``remedy`` that says what
would be right or which command to run. The command line prints both and exits with ``exit_status``: 1, but for those
that continuous integration must tell apart.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BenchmarkError",
    "CalibrationError",
    "CheckpointError",
    "DataError",
    "EdgeclsError",
    "ExportError",
    "ImageError",
    "ManifestError",
    "MissingDependencyError",
    "ModelError",
    "OtherMachineError",
    "OutputError",
    "ParityError",
    "ProfileError",
    "ProviderError",
    "TrainingError",
    "VerificationError",
]


class EdgeclsError(Exception):
    """Say what is wrong (``cause``) and what to do about it (``remedy``), a line each."""

    exit_status: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n{self.remedy}"


class ImageError(EdgeclsError):
    """A picture cannot be read, or is not one."""


class ModelError(EdgeclsError):
    """A model file cannot be used."""


class ManifestError(ModelError):
    """A manifest is damaged, or contradicts the model that carries it."""


class VerificationError(ModelError):
    """A model does not compute what it was exported to compute."""


class ProfileError(EdgeclsError):
    """A tuning profile is damaged, or of another model, machine or engine."""


class BenchmarkError(EdgeclsError):
    """A measurement cannot be made, read or compared."""


class OtherMachineError(BenchmarkError):
    """A measurement was made on another machine than what it is held against."""

    exit_status = 4


class ProviderError(EdgeclsError):
    """The engine or the hardware that was asked for is not there."""


class MissingDependencyError(EdgeclsError):
    """An optional package is not installed."""


class CheckpointError(EdgeclsError):
    """Weights cannot be read, or do not fit the architecture."""


class DataError(EdgeclsError):
    """Labelled pictures are missing, or contradict themselves."""


class TrainingError(EdgeclsError):
    """Training cannot begin, or cannot go on."""


class ExportError(EdgeclsError):
    """A conversion failed."""


class CalibrationError(ExportError):
    """The pictures for calibration cannot be used."""


class ParityError(ExportError):
    """The artifact does not agree with PyTorch."""


class OutputError(EdgeclsError):
    """A result cannot be written, or would overwrite a file."""
