"""TensorBoard's event files of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecls.training.progress import Progress
from edgecls_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    import os

__all__ = ["EventFiles"]


class EventFiles(Progress):
    """Write every figure of every epoch for TensorBoard."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Check that TensorBoard is there; the folder is made with the first epoch.

        Raises:
            MissingDependencyError: it is not.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                "--tensorboard needs the package tensorboard, which is not installed",
                "Install it with: pip install tensorboard",
            ) from error
        self._folder, self._make_writer = folder, SummaryWriter

    def record(self, record: dict[str, Any]) -> None:
        """Add an epoch's figures."""
        with self._make_writer(str(self._folder)) as writer:
            for name, value in record.items():
                if name != "epoch":
                    writer.add_scalar(name, value, record["epoch"])
