"""The members of an archive, one after the other, each proven before it is handed on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainenv.archives import tarformat
from trainenv.archives.checks import checked
from trainenv.archives.frames import Frame, damaged, read_frames, read_tail
from trainenv.archives.manifest import File, Manifest
from trainenv.errors import ArchiveError


@contextmanager
def opened(archive: Path) -> Iterator[tuple[BinaryIO, Manifest, list[Frame]]]:
    """The open archive, its sound manifest and its frames. Raises ``ArchiveError``."""
    try:
        file = open(archive, "rb")  # noqa: SIM115
    except OSError as error:
        raise ArchiveError(f"{archive} can't be read", cause=error.strerror or str(error)) from None
    with file:
        document, frames = read_tail(archive, file)
        yield file, checked(archive, document, frames), frames


class MemberReader:
    """Reads the tar inside the frames, in which only what the manifest says may stand.

    Call ``header`` for each file of the manifest in order, then ``content`` or ``blocks`` if it is a
    ``"file"``; at the end ``end``.
    """

    def __init__(self, archive: Path, file: BinaryIO, frames: list[Frame]) -> None:
        self._archive = archive
        self._frames = read_frames(archive, file, frames)
        self._frame = memoryview(b"")
        self._position = 0

    def header(self, file: File) -> None:
        """Pass the header of ``file``, byte for byte the one it must have."""
        head = tarformat.header(file.path, file.kind, file.mode, file.size, file.mtime, file.target)
        if self._take(len(head), file.path) != head:
            raise damaged(self._archive, f"the tar header of {file.path!r} is not what the manifest says")

    def content(self, file: File) -> bytes | memoryview:
        """All of the content of ``file``, which has the recorded sha256."""
        content = self._take(file.size, file.path)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise self._mismatch(file)
        self._pass_padding(file)
        return content

    def blocks(self, file: File) -> Iterator[memoryview]:
        """The content of ``file`` in blocks; raises after the last one if the sha256 is another."""
        digest = hashlib.sha256()
        left = file.size
        while left:
            block = self._some(left, file.path)
            digest.update(block)
            left -= len(block)
            yield block
        if digest.hexdigest() != file.sha256:
            raise self._mismatch(file)
        self._pass_padding(file)

    def end(self) -> None:
        """Pass what closes the tar; nothing may follow."""
        if self._take(len(tarformat.END), "the end") != tarformat.END or self._position != len(self._frame):
            raise damaged(self._archive, "it does not end where its manifest says")
        if next(self._frames, None) is not None:
            raise damaged(self._archive, "it does not end where its manifest says")

    def close(self) -> None:
        """Stop decompressing."""
        self._frames.close()

    def _pass_padding(self, file: File) -> None:
        padding = tarformat.padding(file.size)
        if padding and self._take(padding, file.path) != bytes(padding):
            raise damaged(self._archive, f"there is something behind the content of {file.path!r}")

    def _take(self, size: int, path: str) -> bytes | memoryview:
        end = self._position + size
        if end <= len(self._frame):
            taken = self._frame[self._position : end]
            self._position = end
            return taken
        parts = []
        while size:
            parts.append(self._some(size, path))
            size -= len(parts[-1])
        return b"".join(parts)

    def _some(self, most: int, path: str) -> memoryview:
        """At least one and at most ``most`` bytes."""
        if self._position == len(self._frame):
            try:
                self._frame = memoryview(next(self._frames))
            except StopIteration:
                raise damaged(self._archive, f"it ends within {path!r}") from None
            except ValueError as error:
                raise damaged(self._archive, f"{path!r} can't be decompressed ({error})") from None
            self._position = 0
        taken = self._frame[self._position : self._position + most]
        self._position += len(taken)
        return taken

    def _mismatch(self, file: File) -> ArchiveError:
        return damaged(self._archive, f"{file.path!r} has not the sha256 that the manifest records")
