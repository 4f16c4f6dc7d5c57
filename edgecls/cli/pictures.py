"""Find the pictures that a command line names: files, folders, globs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["STDIN", "Pictures", "stable_hash"]

STDIN = "-"

# A folder with more entries is read several times, to be sorted in a memory that does not grow with it.
_NAMES_AT_ONCE = 50_000


class Pictures:
    """The pictures that arguments name: those arguments in turn, folders (with their subfolders) sorted by path.

    Folders are walked while the pictures are asked for, so that a million files cost no more memory than a thousand,
    and the first answer does not wait for the last name. A name that matches nothing stays, to fail by its name.

    Args:
        arguments: files, folders, globs, or `STDIN`.
        shard: (number from 1, count) leaves only the pictures whose path, relative to the folder that was named, has
            the hash of that shard. So it matters neither where the folder is mounted, nor what else is in it: every
            machine decides alike about each picture, and one that is added later moves no other.

    Attributes:
        found: pictures met so far, of all shards.
        passed_over: files met so far that are no pictures by their suffix.
        unreadable: folders met so far whose names cannot be read, and why.
    """

    def __init__(self, arguments: Sequence[str], *, shard: tuple[int, int] | None = None) -> None:
        from edgecls_runtime.preprocess import IMAGE_SUFFIXES

        self.found = 0
        self.passed_over = 0
        self.unreadable: list[str] = []
        self._arguments = arguments
        self._shard = shard
        self._suffixes = IMAGE_SUFFIXES

    def __iter__(self) -> Iterator[str]:
        """Yield the paths; the counters begin anew."""
        self.found = self.passed_over = 0
        self.unreadable = []
        return self._pictures(ordered=True)

    def count(self) -> int:
        """Return how many there are, more quickly than by walking them in order."""
        counted = Pictures(self._arguments, shard=self._shard)
        return sum(1 for _ in counted._pictures(ordered=False))

    def _pictures(self, *, ordered: bool) -> Iterator[str]:
        for argument in self._arguments:
            if argument == STDIN or os.path.isfile(argument):  # noqa: PTH113 - the start of one picture is timed
                yield from self._met(argument, argument)
                continue
            import glob
            from pathlib import Path

            path = Path(argument)
            if os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir raises where a name may not be looked up
                for relative in self._walk(str(path), "", ordered, frozenset()):
                    if os.path.splitext(relative)[1].lower() in self._suffixes:  # noqa: PTH122 - a Path for each is slow
                        yield from self._met(str(path / relative), relative)
                    else:
                        self.passed_over += 1
            else:
                matches = glob.glob(argument, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
                for match in sorted(matches) or [argument]:
                    yield from self._met(match, match)

    def _met(self, path: str, name: str) -> Iterator[str]:
        self.found += 1
        if self._shard is None or stable_hash(name) % self._shard[1] == self._shard[0] - 1:
            yield path

    def _walk(self, root: str, relative: str, ordered: bool, above: frozenset[str]) -> Iterator[str]:
        """Yield the files' paths relative to the root, with slashes; through links to folders, but not in circles."""
        from heapq import nsmallest

        here = os.path.realpath(os.path.join(root, relative))  # noqa: PTH118 - a Path for each is slow
        if here in above:
            return
        last = ""
        while True:
            try:
                new = (name for name in _names(os.path.join(root, relative)) if name > last)  # noqa: PTH118 - likewise
                names = nsmallest(_NAMES_AT_ONCE, new) if ordered else new
                for name in names:
                    if name.endswith("/"):
                        yield from self._walk(root, relative + name, ordered, above | {here})
                    else:
                        yield relative + name
            except OSError as error:
                folder = os.path.join(root, relative).rstrip("/")  # noqa: PTH118 - likewise
                self.unreadable.append(f"{folder}: the folder cannot be read: {error.strerror}")
                return
            if not isinstance(names, list) or len(names) < _NAMES_AT_ONCE:
                return
            last = names[-1]


def stable_hash(text: str) -> int:
    """Return 64 bits of BLAKE2b: the same on every machine and in every run, which Python's own ``hash`` is not."""
    from hashlib import blake2b

    return int.from_bytes(blake2b(os.fsencode(text), digest_size=8).digest(), "big")


def _names(folder: str) -> Iterator[str]:
    """Yield the names in a folder; those of folders end with a slash, which makes them sort as whole paths do."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to where one may not look: it fails by its name, and not the whole folder
                is_folder, is_file = False, True
            if is_folder:
                yield f"{entry.name}/"
            elif is_file:
                yield entry.name
