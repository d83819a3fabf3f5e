"""What the files of this machine's environments hold: their sha256, by what ``stat`` says of them.

A file that was hashed once need not be read again while device, inode, size, mtime and ctime are the same. Whoever
writes into a file changes the ctime, which nobody can set. A link to it that is made or removed changes that as well,
so who does that must note the file anew (see ``still_known``). A ctime in whole seconds says nothing: in a mounted
image whoever made that chose it, and the next image mounted may get the same device and inodes; and on an old file
system a second write may leave it as it was.

The index is a cache: one that is damaged, locked or can't be written is done without. It is an SQLite file that several
processes may use at once.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from trainenv import sharing

_FILE = "contents.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS contents (
    device INTEGER, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, sha256 BLOB,
    PRIMARY KEY (device, inode)
) WITHOUT ROWID
"""
_FIND = "SELECT inode, size, mtime_ns, ctime_ns, sha256 FROM contents WHERE device = ? AND inode IN ({})"
_AT_ONCE = 500
_BATCH = 4 * _AT_ONCE
_NOTE = "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?, ?)"

_LARGEST = 256 << 20
"""Bytes of an index that is begun anew: most of it is about files that are gone."""

_UNWRITTEN = struct.Struct("<QQQQI")
_64_BITS = (1 << 64) - 1
_WAIT_SECONDS = 5.0
_MOST_WAITING = 20_000
_UNSETTLED_NS = 50_000_000
"""A file written to this recently may be written to again without another time: clocks of file systems tick slowly."""

_SECOND_NS = 1_000_000_000
_BLOCK = 1 << 20


_Item = TypeVar("_Item")


class ContentIndex:
    """The index in ``cache_dir`` (None: one that knows nothing); leaving its block writes what was noted."""

    def __init__(self, cache_dir: Path | None) -> None:
        self._waiting: list[tuple[int, int, int, int, int, bytes]] = []
        self._known: dict[int, bytes] = {}
        self._database: sqlite3.Connection | None = None
        if cache_dir is not None:
            with suppress(sqlite3.Error, OSError):
                self._database = _opened(cache_dir / _FILE)

    def __enter__(self) -> ContentIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write()
        if self._database is not None:
            self._database.close()

    def forget(self) -> None:
        """Have nothing at hand any more, to save memory."""
        self._known.clear()

    def look_up(self, statuses: Iterable[os.stat_result]) -> None:
        """Have at hand what is known of the files with ``statuses``: much quicker than to ask for each alone."""
        wanted: dict[int, dict[int, os.stat_result]] = {}
        for status in statuses:
            wanted.setdefault(status.st_dev, {})[_signed(status.st_ino)] = status
            self._known[_key(status)] = _ctime(status)
        for device, files in wanted.items():
            inodes = list(files)
            for start in range(0, len(inodes), _AT_ONCE):
                for inode, size, mtime_ns, ctime_ns, sha256 in self._rows(device, inodes[start : start + _AT_ONCE]):
                    status = files[inode]
                    if (size, mtime_ns, ctime_ns) == (status.st_size, status.st_mtime_ns, status.st_ctime_ns):
                        self._known[_key(status)] = _ctime(status) + bytes(sha256)

    def sha256(self, status: os.stat_result) -> str | None:
        """The sha256 of the file with ``status``, None where it is not known."""
        known, ctime = self._known.get(_key(status), b""), _ctime(status)
        if not known.startswith(ctime):
            self.look_up([status])
            known = self._known[_key(status)]
        return known[len(ctime) :].hex() or None

    def note(self, status: os.stat_result, sha256: str) -> None:
        """Remember that the file with ``status`` has this sha256, if each write from now on will show."""
        if self._database is None:
            return
        if abs(time.time_ns() - status.st_mtime_ns) < _UNSETTLED_NS or not status.st_ctime_ns % _SECOND_NS:
            return
        key = _signed(status.st_dev), _signed(status.st_ino)
        times = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        self._waiting.append((*key, *times, bytes.fromhex(sha256)))
        if len(self._waiting) >= _MOST_WAITING:
            self.write()

    def hashed(self, path: str) -> tuple[os.stat_result, str] | None:
        """The status and sha256 of a regular file, read if it must be; None if it can't, or changes meanwhile."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return None
            digest = hashlib.sha256()
            while block := os.read(descriptor, _BLOCK):
                digest.update(block)
            after = os.fstat(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return (after, digest.hexdigest()) if identity(before) == identity(after) else None

    def _rows(self, device: int, inodes: Sequence[int]) -> list[tuple[Any, ...]]:
        if self._database is None:
            return []
        try:
            marks = ",".join("?" * len(inodes))
            return self._database.execute(_FIND.format(marks), (_signed(device), *inodes)).fetchall()
        except sqlite3.Error:
            self._give_up()
            return []

    def write(self) -> None:
        """Have what was noted on the disk, for others to know."""
        rows, self._waiting = self._waiting, []
        if self._database is None or not rows:
            return
        try:
            with self._database:
                self._database.executemany(_NOTE, rows)
        except (sqlite3.Error, OverflowError):
            self._give_up()

    def _give_up(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()


def batches(files: Iterable[_Item]) -> Iterator[list[_Item]]:
    """``files`` in lists of a length at which looking them up together is quick and takes little memory."""
    remaining = iter(files)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


@contextmanager
def still_known(cache_dir: Path, prefix: Path) -> Iterator[None]:
    """A block in which links to files of ``prefix`` are made or removed, and nobody writes into them.

    What the index in ``cache_dir`` knows of these files before it, it knows afterwards.
    """
    if not (cache_dir / _FILE).is_file():
        yield
        return
    with ContentIndex(cache_dir) as index:
        known: dict[str, tuple[bytes, str]] = {}
        for batch in batches(regular_files(prefix)):
            index.look_up(status for _, status in batch)
            for path, status in batch:
                if (sha256 := index.sha256(status)) is not None:
                    known[path] = unwritten(status), sha256
            index.forget()
        yield
        for path, now in regular_files(prefix) if known else ():
            if path in known and unwritten(now) == known[path][0]:
                index.note(now, known[path][1])


def regular_files(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The path, relative to ``prefix``, and the status of each regular file in it that can be looked at."""
    root = os.fspath(prefix)
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{folder}{entry.name}/")
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield folder + entry.name, status


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What of ``status`` is another after any change of the file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _key(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino


def _ctime(status: os.stat_result) -> bytes:
    return status.st_ctime_ns.to_bytes(12, "little", signed=True)


def unwritten(status: os.stat_result) -> bytes:
    """What of ``status`` stays when a file gets another name, and not when it is written to."""
    times = status.st_mtime_ns & _64_BITS
    return _UNWRITTEN.pack(status.st_dev & _64_BITS, status.st_ino & _64_BITS, status.st_size, times, status.st_mode)


def _opened(file: Path) -> sqlite3.Connection:
    sharing.make_folder(file.parent)
    with suppress(OSError):
        if file.stat().st_size > _LARGEST:
            file.unlink()
    os.close(sharing.open_file(file, os.O_RDWR))
    try:
        return _with_table(file)
    except sqlite3.OperationalError:
        raise  # Locked, read-only or no space: nothing is wrong with what it holds.
    except sqlite3.DatabaseError:
        file.unlink()
        return _with_table(file)


def _with_table(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_WAIT_SECONDS, check_same_thread=False)
    try:
        with database:
            database.execute(_TABLE)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _signed(number: int) -> int:
    """SQLite's integers have 63 bits and a sign."""
    return number - (1 << 64) if number >= 1 << 63 else number
