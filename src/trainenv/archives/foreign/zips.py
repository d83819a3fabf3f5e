"""The members of a zip file."""

from __future__ import annotations

import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trainenv.archives.foreign.members import Limits, Member
from trainenv.archives.foreign.tars import broken, damage
from trainenv.errors import ArchiveError

MAGIC = b"PK\x03\x04"

_PIECE = 1 << 20
_LONGEST_TARGET = 4095


def zip_members(archive: Path, file: BinaryIO, size: int, limits: Limits) -> Iterator[Member]:
    """The members of the zip in ``file``, which has ``size`` bytes. Raises ``ArchiveError`` for a wrong one."""
    try:
        with zipfile.ZipFile(file) as opened:
            entries = opened.infolist()
            limits.check(sum(entry.file_size for entry in entries))
            if sum(entry.compress_size for entry in entries) > size:
                raise ArchiveError(f"{archive} is refused", cause="its members share their bytes, as in a bomb")
            for entry in entries:
                yield _member(archive, opened, entry)
    except _damage() as error:
        raise broken(archive, str(error)) from None


def _member(archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    if entry.flag_bits & 1:
        raise ValueError(f"{entry.filename!r} is encrypted")
    if not entry.filename:
        raise ValueError("a member has no name")
    attributes = entry.external_attr >> 16
    kind, target = "file", ""
    if entry.is_dir():
        kind = "folder"
    elif stat.S_ISLNK(attributes):
        kind = "link"
        if entry.file_size > _LONGEST_TARGET:
            raise ValueError(f"the link {entry.filename!r} is too long")
        target = opened.read(entry).decode("utf-8", "surrogateescape")
    elif stat.S_IFMT(attributes) not in (0, stat.S_IFREG):
        kind = "device"

    def blocks() -> Iterator[bytes]:
        left = entry.file_size
        try:
            with opened.open(entry) as stream:
                while left and (block := stream.read(_PIECE)):
                    left -= len(block)
                    yield block
                if left or stream.read(1):
                    raise ValueError(f"{entry.filename!r} has another size than its list says")
        except _damage() as error:
            raise broken(archive, str(error)) from None

    mode = stat.S_IMODE(attributes) or (0o755 if kind == "folder" else 0o644)
    mtime = int(time.mktime((*entry.date_time, 0, 0, -1)))
    size = entry.file_size if kind == "file" else 0
    return Member(
        entry.filename.rstrip("/") if kind == "folder" else entry.filename, kind, mode, mtime, size, target, blocks
    )


def _damage() -> tuple[type[Exception], ...]:
    return (*damage(), zipfile.BadZipFile, NotImplementedError, RuntimeError)
