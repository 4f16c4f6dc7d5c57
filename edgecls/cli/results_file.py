"""The file that ``edgecls infer --output`` writes: it grows record by record, and can be continued.

Other files of edgecls appear whole or not at all. This one cannot: a million answers take hours, and what is answered
must outlive a crash. So it says itself whether it is whole::

    {"edgecls_results": 1, "model": "m.onnx", "model_sha256": "...", "options": {...}}     first line: what made it
    {"image": "a.jpg", "predictions": [...], "error": null}                                a line for each picture
    {"summary": {"pictures": 1000, "failed": 2}}                                           last line: it is complete

Only the lines with ``image`` are answers. A CSV file holds nothing but answers, and so it cannot be continued.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import OutputError
from edgecls_runtime.output import check_writable

from .pictures import stable_hash

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO, Self

    from numpy.typing import NDArray

__all__ = ["ResultsFile"]

_VERSION = 1


class ResultsFile:
    """A file of results, open to be appended to.

    Args:
        path: of the file; ``.jsonl``, or ``.csv`` with ``header=None``.
        header: what made the answers; None writes answers alone.
        resume: continue the file if it exists, after its header has been compared.
        force: overwrite it.

    Attributes:
        pictures: answers in the file.
        failed: those that are errors.
        torn: bytes of a last line that was cut short, and is dropped: that picture is answered again.

    Raises:
        OutputError: the file exists (without ``resume`` or ``force``), was made by another model or with other options,
            is damaged, or cannot be written.
    """

    def __init__(self, path: Path, header: dict[str, Any] | None, *, resume: bool = False, force: bool = False) -> None:
        self.path = path
        self.pictures = 0
        self.failed = 0
        self.torn = 0
        self._complete = False
        self._answered: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._left: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._header = None if header is None else {"edgecls_results": _VERSION, **header}
        check_writable(path, force=force or resume)
        try:
            self._file: BinaryIO = path.open("a+b")  # writes nothing and cuts nothing off before it is known to be ours
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._file.truncate(self._read() if resume else 0)
            if self._header is not None and self._file.seek(0, os.SEEK_END) == 0:
                self._line(self._header)
        except OSError as error:
            self._close()
            raise self._unwritable(error) from error
        except BaseException:
            self._close()
            raise

    def take(self, path: str) -> bool:
        """Return whether the picture is answered already; an answer serves once, as a picture may be named twice.

        Twelve bytes a picture are kept, not its path: among a million, two paths share their 64-bit hash with a chance
        of one in thirty million.
        """
        wanted = np.uint64(stable_hash(path))
        place = np.searchsorted(self._answered, wanted)
        found = bool(place < len(self._answered) and self._answered[place] == wanted and self._left[place])
        if found:
            self._left[place] -= 1
        return found

    def write(self, text: str) -> None:
        """Append text, at once.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            # A name that is not text becomes the JSON escape that gives it back.
            self._file.write(text.encode("utf-8", "backslashreplace"))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def count(self, *, failed: bool) -> None:
        """Count an answer that was written."""
        self.pictures += 1
        self.failed += failed
        self._complete = False

    def finish(self) -> None:
        """Say in the file that it is complete."""
        if self._header is not None and not self._complete:
            self._line({"summary": {"pictures": self.pictures, "failed": self.failed}})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take fails once more here; `write` said so
            self._file.close()

    def _line(self, record: dict[str, Any]) -> None:
        self.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _lock(self) -> None:
        """Keep a second process from writing into the same file, where the system can."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{self.path}: another process writes to it", "Wait for that one, or choose another --output."
            ) from error

    def _read(self) -> int:
        """Take in what the file holds; return how many bytes of it are whole lines."""
        self._file.seek(0)
        answered = array.array("Q")
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self.torn = len(line)
                break
            record = self._record(number, line)
            if number == 1:
                self._check_header(record)
            self._complete = "summary" in record
            if "image" in record:
                answered.append(stable_hash(record["image"]))
                self.pictures += 1
                self.failed += record.get("error") is not None
            whole += len(line)
        if answered:
            self._answered, counts = np.unique(np.frombuffer(answered, np.uint64), return_counts=True)
            self._left = counts.astype(np.uint32)
        return whole

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise OutputError(
                f"{self.path}: line {number} is not JSON ({line[:20]!r})", "It is damaged: choose another --output."
            ) from error
        if not isinstance(record, dict):
            raise OutputError(f"{self.path}: line {number} is no record", "It is damaged: choose another --output.")
        return record

    def _check_header(self, header: dict[str, Any]) -> None:
        if header.get("edgecls_results") != _VERSION:
            raise OutputError(
                f"{self.path}: does not begin with what made it, so it cannot be continued",
                "Only files of edgecls infer --output NAME.jsonl can be; choose another --output.",
            )
        for name in ("model_sha256", "options"):
            made, now = header.get(name), (self._header or {}).get(name)
            if isinstance(made, dict) and isinstance(now, dict) and made.keys() == now.keys():
                differing = next((key for key in now if made[key] != now[key]), None)
                if differing is not None:
                    raise self._other(differing, made[differing], now[differing])
            elif made != now:
                raise self._other(name, made, now)

    def _other(self, name: str, made: object, now: object) -> OutputError:
        return OutputError(
            f"{self.path}: was made with {name} {json.dumps(made)}, this is {json.dumps(now)}",
            "Continue it with the same model and options, or choose another --output.",
        )

    def _unwritable(self, error: OSError) -> OutputError:
        if error.errno == errno.ENOSPC:
            again = "begin anew with --force" if self._header is None else "go on with --resume"
            return OutputError(f"{self.path}: the disk is full", f"Free some space, then {again}.")
        return OutputError(f"{self.path}: cannot be written: {error.strerror or error}", "Choose another --output.")
