"""How long kernels took, kept between builds: TensorRT need not measure them again.

One file for each version of TensorRT and each GPU: the times of one say nothing about another. A file begins with the
digest of the rest, because TensorRT takes a damaged cache without a word.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_runtime.errors import ExportError, OutputError
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os

    from edgecls_export.gpu import Gpu

__all__ = ["TimingCache"]

_MAGIC = b"edgecls timing cache 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class TimingCache:
    """A file of kernel times.

    Attributes:
        path: of the file, which need not be there yet.
    """

    path: Path

    @classmethod
    def of(cls, folder: str | os.PathLike[str], *, flavour: str, version: str, gpu: Gpu) -> TimingCache:
        """Return the cache of a package's version on a GPU, in a folder that is made if it is not there.

        Raises:
            OutputError: the folder cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: the timing cache cannot be made: {error.strerror}", "Choose another folder."
            ) from error
        device = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu.name} {gpu.compute_capability}")
        return cls(folder / f"{flavour}-{version}-{device}.timing")

    def read(self) -> bytes:
        """Return the times; empty if there are none yet.

        Raises:
            ExportError: the file is damaged, or cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ExportError(f"{self.path}: cannot be read: {error.strerror}", "Check the file.") from error
        head = len(_MAGIC) + _DIGEST_BYTES
        times = content[head:]
        if content[:head] != _MAGIC + hashlib.sha256(times).digest():
            raise ExportError(
                f"{self.path}: is damaged: its content has not the digest that it begins with",
                f"Delete it, it will be made again: rm '{self.path}'",
            )
        return times

    def write(self, times: bytes) -> None:
        """Keep the times for the next build.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(self.path, force=True) as temporary:
            temporary.write_bytes(_MAGIC + hashlib.sha256(times).digest() + times)
