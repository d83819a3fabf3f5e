"""Where the bytes of an archive come from: a file of this machine, or whatever else can give any part of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from trainenv.archives.manifest import FORMAT_VERSION
from trainenv.errors import ArchiveError


class ByteSource(Protocol):
    """A run of bytes of known size, of which any part can be read, by several threads at once."""

    @property
    def name(self) -> str:
        """What messages call it: a path, an address."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def read(self, start: int, length: int) -> bytes:
        """Exactly the ``length`` bytes from ``start`` on. Raises ``ArchiveError`` if they can't be had."""

    def expect(self, parts: Sequence[tuple[int, int]]) -> None:
        """These parts (start, length) are what will be read next, in this order; whoever is far away can fetch ahead.

        What was expected before is not wanted any more, and who waits for it gets an ``ArchiveError``.
        """

    def close(self) -> None:
        """Let go of what it holds; nothing can be read any more."""


def at_once(path: str, flags: int) -> int:
    """An ``opener`` that does not wait for who writes into a named pipe: that is no archive."""
    return os.open(path, flags | os.O_NONBLOCK)


class LocalFile:
    """A file of this machine. Raises ``ArchiveError`` if it can't be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = os.fspath(path)
        try:
            self._file = open(path, "rb", buffering=0, opener=at_once)  # noqa: SIM115
            state = os.fstat(self._file.fileno())
        except OSError as error:
            raise unreadable(self.name, error) from None
        if stat.S_ISFIFO(state.st_mode):
            self.close()
            hint = "Write what comes out of it into a file first"
            raise ArchiveError(f"{self.name} can't be read", cause="it is a pipe", hint=hint)
        self.size = state.st_size

    def read(self, start: int, length: int) -> bytes:
        try:
            block = os.pread(self._file.fileno(), length, start)
        except OSError as error:
            raise unreadable(self.name, error) from None
        if len(block) != length:
            raise damaged(self.name, "it became shorter while it was read")
        return block

    def status(self) -> os.stat_result:
        """What the system says of it now."""
        return os.fstat(self._file.fileno())

    def expect(self, parts: Sequence[tuple[int, int]]) -> None:
        """The system reads ahead by itself."""

    def close(self) -> None:
        self._file.close()


class Part:
    """What of ``source`` begins at byte ``start``."""

    def __init__(self, source: ByteSource, start: int) -> None:
        self._source = source
        self._start = start
        self.name = source.name
        self.size = source.size - start

    def read(self, start: int, length: int) -> bytes:
        return self._source.read(self._start + start, length)

    def expect(self, parts: Sequence[tuple[int, int]]) -> None:
        self._source.expect([(self._start + start, length) for start, length in parts])

    def close(self) -> None:
        self._source.close()


_NEXT_STEPS = {
    errno.ENOENT: "See whether that is the right path",
    errno.ENOTDIR: "See whether that is the right path",
    errno.EACCES: "Ask its owner to let you read it",
    errno.EIO: "Its disk may be failing: take another copy",
}


def next_step(error: OSError) -> str:
    """What to do about a file that can't be read."""
    return _NEXT_STEPS.get(error.errno or 0, "Name another one")


def unreadable(name: object, error: OSError) -> ArchiveError:
    """The error for a file of this machine that the system does not let one read."""
    return ArchiveError(f"{name} can't be read", cause=error.strerror or str(error), hint=next_step(error))


def damaged(name: str, cause: str) -> ArchiveError:
    """The error for an archive that is not what its maker wrote."""
    return ArchiveError(
        f"{name} is damaged", cause=cause, hint="Copy it again from where it was packed; nothing was unpacked"
    )


def incomplete(name: str) -> ArchiveError:
    """The error for a file that begins as an archive and does not end as one."""
    cause = "its end is missing: it was cut short, or another program than trainenv made it"
    return ArchiveError(f"{name} is not a whole trainenv archive", cause=cause, hint="Copy or pack it again")


def of_another_version(name: str, version: int) -> ArchiveError:
    """The error for an archive that an older or newer trainenv made."""
    older = version < FORMAT_VERSION
    return ArchiveError(
        f"{name} has archive format {version}",
        cause=f"{'an earlier' if older else 'a later'} trainenv made it, and this one reads format {FORMAT_VERSION}",
        hint="Pack the environment again" if older else "Unpack it with a newer trainenv",
    )
