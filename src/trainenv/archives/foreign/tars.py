"""The members of a tar, plain or compressed, in one pass and in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from trainenv.archives.foreign.members import Limits, Member
from trainenv.errors import ArchiveError

GZIP, ZSTD, BZIP2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"

_BLOCK = 512
_PIECE = 1 << 20
"""Most bytes in memory at once: also of a header, which has no business to be longer."""
_XZ_MEMORY = 256 << 20


def decompressed(file: BinaryIO) -> BinaryIO:
    """What ``file`` holds, decompressed if its first bytes say that it is."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if head.startswith(ZSTD):
        import zstandard

        # Without the end of a frame the reader is silent; the tar in it then has no end either.
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    if head.startswith(BZIP2):
        return cast(BinaryIO, bz2.BZ2File(file))
    if head.startswith(XZ):
        return cast(BinaryIO, io.BufferedReader(_Xz(file), _PIECE))
    return file


def damage() -> tuple[type[Exception], ...]:
    """What readers raise for bytes that are not what they must be."""
    import zstandard

    return (
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
    )


def tar_members(archive: Path, raw: BinaryIO, limits: Limits) -> Iterator[Member]:
    """The members of the tar that ``raw`` reads. Raises ``ArchiveError`` if it is damaged, cut short or a bomb."""
    stream = _Stream(raw, limits)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
            while (found := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all, for a second pass
                yield _member(archive, found, stream)
        stream.finish()
    except damage() as error:
        raise broken(archive, str(error)) from None


def broken(archive: Path, cause: str) -> ArchiveError:
    """The error for an archive whose bytes are not what was packed."""
    return ArchiveError(f"{archive} is damaged", cause=cause or "it ends too early", hint="Copy it again")


def _member(archive: Path, found: tarfile.TarInfo, stream: _Stream) -> Member:
    path = found.name.removeprefix("./").rstrip("/") if found.isdir() else found.name.removeprefix("./")
    kind, size, target = "device", 0, ""
    if found.issparse():
        raise ValueError(f"{path!r} is stored as a sparse file")
    if found.isreg():
        kind, size = "file", found.size
    elif found.isdir():
        kind = "folder"
    elif found.issym():
        kind, target = "link", found.linkname
    elif found.islnk():
        kind, target = "hardlink", found.linkname.removeprefix("./")
    start = found.offset_data

    def blocks() -> Iterator[bytes]:
        left = size
        while left:
            try:
                stream.seek(start + size - left)
                block = stream.read(min(left, _PIECE))
            except damage() as error:
                raise broken(archive, str(error)) from None
            if not block:
                raise broken(archive, f"it ends in {path!r}")
            left -= len(block)
            yield block

    return Member(path, kind, found.mode & 0o7777, int(found.mtime), size, target, blocks)


class _Stream:
    """As much of a file as ``tarfile`` asks for, and only forward: reads, skips, counts."""

    def __init__(self, raw: BinaryIO, limits: Limits) -> None:
        self._raw = raw
        self._limits = limits
        self._position = 0
        self._last = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise ValueError("its headers overlap")
        while self._position < position:
            if not self.read(min(_PIECE, position - self._position)):
                raise EOFError("it ends too early")

    def read(self, size: int) -> bytes:
        if size < 0 or size > _PIECE:
            raise ValueError("it has a header of an impossible length")
        pieces: list[bytes] = []
        left = size
        while left and (piece := self._raw.read(left)):
            pieces.append(piece)
            left -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._position += len(data)
        self._limits.check(self._position)
        self._last = data
        return data

    def finish(self) -> None:
        """The tar must have ended with a block of zeros, and nothing else may follow."""
        if len(self._last) != _BLOCK or self._last.strip(b"\0"):
            raise ValueError("it ends too early" if len(self._last) < _BLOCK else "a header in it is wrong")
        while rest := self.read(_PIECE):
            if rest.strip(b"\0"):
                raise ValueError("something follows its end")


class _Xz(io.RawIOBase):
    """As ``lzma.LZMAFile``, but a file can't ask for more memory than any preset does."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = self._new()
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data or self._file.read(_PIECE)
                rest = rest.lstrip(b"\0")
                if not rest:
                    return 0
                self._decoder, self._begun = self._new(), True
                data = self._decoder.decompress(rest, len(buffer))
            else:
                fresh = self._file.read(1 << 16) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not fresh:
                    raise EOFError("it ends too early")
                data = self._decoder.decompress(fresh, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
