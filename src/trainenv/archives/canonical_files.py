"""The files of a prefix as an archive has them: opened, read once, made canonical."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainenv.archives.canonical import Canonicaliser
from trainenv.archives.columns import compact
from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import PREFIX_FILE, RELOCATION_FILE
from trainenv.archives.recorded import read_records
from trainenv.archives.windows import in_memory
from trainenv.environments.copies import placeholder_lengths
from trainenv.relocation import PLACEHOLDER

_LATEST_MTIME = (1 << 32) - 1
"""The last second that an image can hold (in the year 2106); a tar holds more."""


class ChangedError(Exception):
    """A file changed while it was read."""


@dataclass(slots=True)
class CanonicalFile:
    """A file and its canonical content, of ``size`` bytes, which ``blocks`` makes.

    ``data`` is what was read of the file itself and ``whole`` the content, both None for a big one. ``status`` is as it
    was then, ``mtime`` in whole seconds, ``occurrences`` the text of their JSON. It is ``verbatim`` if the content is
    what the file has.
    """

    place: str
    status: os.stat_result
    mode: int
    mtime: int
    size: int
    occurrences: str | None
    verbatim: bool
    data: bytes | None
    whole: bytes | None
    blocks: Callable[[], Iterator[bytes]]


class CanonicalFiles:
    """The files of the prefix at ``root``, made canonical by ``canonicaliser``; ``places`` says what lies elsewhere."""

    def __init__(self, root: Path, canonicaliser: Canonicaliser, places: Mapping[str, str]) -> None:
        self._root = os.fspath(root)
        self._canonicaliser = canonicaliser
        self._places = places

    @contextmanager
    def opened(self, path: str) -> Iterator[CanonicalFile]:
        """The file ``path``, to be read within the block. Bytecode must come after its source.

        Raises ``ChangedError``, if need be at the end of the block, and ``OSError``.
        """
        place = self._places.get(path) or f"{self._root}/{path}"
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            yield self._read(path, place, descriptor, status)
            if _differ(status, os.fstat(descriptor)):
                raise ChangedError(path)
        finally:
            os.close(descriptor)

    def _read(self, path: str, place: str, descriptor: int, status: os.stat_result) -> CanonicalFile:
        mode = status.st_mode & 0o777
        mtime = recorded_mtime(status)
        if in_memory(path, status.st_size):
            data = _read_all(descriptor, status.st_size)
            if len(data) != status.st_size or _differ(status, os.fstat(descriptor)):
                raise ChangedError(path)
            whole, found = self._canonicaliser.whole(path, data)
            plain = None if found is None else compact(found.to_json())
            verbatim = whole is data or whole == data
            return CanonicalFile(
                place, status, mode, mtime, len(whole), plain, verbatim, data, whole, lambda: iter((whole,))
            )
        size, blocks, found = self._canonicaliser.streamed(path, descriptor, status.st_size)

        def exactly() -> Iterator[bytes]:
            made = 0
            for block in blocks():
                made += len(block)
                if made > size:
                    break
                yield block
            if made != size:
                raise ChangedError(path)

        plain = None if found is None else compact(found.to_json())
        return CanonicalFile(place, status, mode, mtime, size, plain, found is None, None, None, exactly)


class LocalEnvironment:
    """The files of the environment at ``prefix``, each to be had in its canonical form."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self.records = read_records(prefix)
        canonicaliser = Canonicaliser(
            *(carried_prefix(prefix), self.records, placeholder_lengths(prefix)),
            no_room=lambda _: None,
            place=os.path.realpath(prefix),
        )
        self._files = CanonicalFiles(prefix, canonicaliser, {})
        self._sources: set[str] = set()

    @contextmanager
    def opened(self, path: str) -> Iterator[CanonicalFile]:
        """The file ``path``, after its source if it is bytecode. Raises ``ChangedError`` and ``OSError``."""
        source = source_of(path) if path.endswith(".pyc") else None
        if source is not None and source not in self._sources and (self._prefix / source).is_file():
            self._sources.add(source)
            with self._files.opened(source):
                pass
        with self._files.opened(path) as found:
            yield found


def carried_prefix(prefix: Path) -> str:
    """The prefix that the files of the environment at ``prefix`` carry: the recorded one, else its own."""
    try:
        return (prefix / PREFIX_FILE).read_text(encoding="utf-8").rstrip("\n") or str(prefix)
    except FileNotFoundError:
        return PLACEHOLDER if (prefix / RELOCATION_FILE).exists() else str(prefix)


def recorded_mtime(status: os.stat_result) -> int:
    """The time of a file as an archive has it: in whole seconds, and within what each format can hold."""
    return min(max(int(status.st_mtime), 0), _LATEST_MTIME)


def _read_all(descriptor: int, size: int) -> bytes:
    """Up to one byte more than ``size``, so that a file that grew shows."""
    data = os.read(descriptor, size + 1)
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def _differ(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
