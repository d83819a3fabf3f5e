"""The members of an archive, one after the other, each proven before it is handed on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from trainenv.archives import tarformat
from trainenv.archives.checks import checked
from trainenv.archives.frames import Frame, read_frames
from trainenv.archives.hashing import HASHED_ASIDE, sha256
from trainenv.archives.manifest import File, Manifest
from trainenv.archives.sources import ByteSource, LocalFile, damaged
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError


@contextmanager
def opened(archive: Path | ByteSource) -> Iterator[tuple[ByteSource, Manifest, list[Frame]]]:
    """The archive as something to read from, closed at the end; its sound manifest and its frames.

    Raises ``ArchiveError``.
    """
    source = LocalFile(archive) if isinstance(archive, Path) else archive
    try:
        document, frames = read_tail(source)
        yield source, checked(source.name, document, frames), frames
    finally:
        source.close()


class MemberReader:
    """Reads the tar inside the frames, in which only what the manifest says may stand.

    Call ``header`` for each file of the manifest in order, then ``content`` or ``blocks`` if it is a
    ``"file"``; at the end ``end``. Decompressing, and hashing what is not small, is done in advance by
    another thread, which leaves the interpreter to this one.
    """

    def __init__(self, source: ByteSource, manifest: Manifest, frames: list[Frame]) -> None:
        self._archive = source.name
        self._frames = read_frames(source, frames, _Hasher(source.name, manifest.files, frames).frame)
        self._frame = b""
        self._view = memoryview(self._frame)
        self._position = 0

    def header(self, file: File) -> None:
        """Pass the header of ``file``, byte for byte the one it must have."""
        head = tarformat.header(file.path, file.kind, file.mode, file.size, file.mtime, file.target)
        if not self._passes(head, file.path):
            raise damaged(self._archive, f"the tar header of {file.path!r} is not what the manifest says")

    def content(self, file: File) -> bytes | memoryview:
        """All of the content of ``file``, which has the recorded sha256."""
        content = self._take(file.size, file.path)
        if file.size < HASHED_ASIDE and sha256(content) != file.sha256:
            raise _mismatch(self._archive, file)
        self._pass_padding(file)
        return content

    def blocks(self, file: File) -> Iterator[bytes | memoryview]:
        """The content of ``file`` in blocks; raises before the last one if the sha256 is another."""
        if file.size < HASHED_ASIDE:
            yield self.content(file)
            return
        left = file.size
        while left:
            block = self._some(left, file.path)
            left -= len(block)
            yield block
        self._pass_padding(file)

    def end(self) -> None:
        """Pass what closes the tar; nothing may follow."""
        if not self._passes(tarformat.END, "the end") or self._position != len(self._frame):
            raise damaged(self._archive, "it does not end where its manifest says")
        if next(self._frames, None) is not None:
            raise damaged(self._archive, "it does not end where its manifest says")

    def close(self) -> None:
        """Stop decompressing."""
        self._frames.close()

    def _pass_padding(self, file: File) -> None:
        if not self._passes(bytes(tarformat.padding(file.size)), file.path):
            raise damaged(self._archive, f"there is something behind the content of {file.path!r}")

    def _passes(self, expected: bytes, path: str) -> bool:
        """Whether ``expected`` comes next; then it is passed."""
        if self._frame.startswith(expected, self._position):
            self._position += len(expected)
            return True
        return self._take(len(expected), path) == expected

    def _take(self, size: int, path: str) -> bytes | memoryview:
        end = self._position + size
        if end <= len(self._frame):
            taken = self._view[self._position : end]
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
                self._frame = next(self._frames)
            except StopIteration:
                raise damaged(self._archive, f"it ends within {path!r}") from None
            except ValueError as error:
                raise damaged(self._archive, f"{path!r} can't be decompressed ({error})") from None
            self._view = memoryview(self._frame)
            self._position = 0
        taken = self._view[self._position : self._position + most]
        self._position += len(taken)
        return taken


class _Hasher:
    """Hashes the content of all files from ``HASHED_ASIDE`` bytes on, frame by frame."""

    def __init__(self, archive: str, files: Sequence[File], frames: Sequence[Frame]) -> None:
        self._archive = archive
        self._begins = [0, *accumulate(frame.size for frame in frames)]
        self._waiting = (file for file in files if file.size >= HASHED_ASIDE)
        self._passed = 0
        self._next()

    def frame(self, content: bytes) -> None:
        """Take the next frame. Raises ``ArchiveError`` if a file that ends in it has another sha256."""
        view = memoryview(content)
        while self._file is not None and self._begin < self._passed + len(content):
            self._digest.update(view[max(0, self._begin - self._passed) : self._end - self._passed])
            if self._end > self._passed + len(content):
                break
            if self._digest.hexdigest() != self._file.sha256:
                raise _mismatch(self._archive, self._file)
            self._next()
        self._passed += len(content)

    def _next(self) -> None:
        """Turn to the next file: where its content begins and ends in the tar."""
        self._file = file = next(self._waiting, None)
        self._digest = hashlib.sha256()
        if file is not None:
            header_size = tarformat.header_size(file.path, file.kind, file.size, file.target)
            self._begin = self._begins[file.frame] + file.offset + header_size
            self._end = self._begin + file.size


def _mismatch(archive: str, file: File) -> ArchiveError:
    return damaged(archive, f"{file.path!r} has not the sha256 that the manifest records")
