"""The members of an archive, one after the other, each proven before it is handed on."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from trainenv.archives import tarformat
from trainenv.archives.checks import checked
from trainenv.archives.folder import Folder, FolderReader
from trainenv.archives.frames import Frame, read_frames
from trainenv.archives.hashing import HASHED_ASIDE, sha256
from trainenv.archives.image import ImageReader
from trainenv.archives.manifest import Manifest
from trainenv.archives.members import File, Files
from trainenv.archives.self_extracting import payload_of
from trainenv.archives.sources import ByteSource, LocalFile, damaged
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError


@contextmanager
def opened(archive: Path | ByteSource) -> Iterator[tuple[ByteSource, Manifest, list[Frame]]]:
    """The archive as something to read from, its sound manifest and its frames, if it has any. Raises ``ArchiveError``.

    A file is closed at the end; a source stays open, for who opened it.
    """
    if isinstance(archive, Path) and archive.is_dir():
        folder = Folder(archive)
        yield folder, checked(folder.name, folder.manifest(), []), []
        return
    source = LocalFile(archive) if isinstance(archive, Path) else archive
    try:
        payload = payload_of(source)
        manifest, frames = _ending(source.name, payload)
        yield payload, manifest, frames
    finally:
        if source is not archive:
            source.close()


def _ending(archive: str, payload: ByteSource) -> tuple[Manifest, list[Frame]]:
    """The manifest, whose text is forgotten on return, and the frames."""
    document, frames = read_tail(payload)
    return checked(archive, document, frames), frames


class Reader(Protocol):
    """Reads members in the order of the manifest.

    Call ``header`` for each, then ``content`` or ``blocks`` if it is a ``"file"``; at the end ``end``, if all were
    read. Raises ``ArchiveError`` that names the member for whatever is not as the manifest says.
    """

    def header(self, file: File) -> None:
        """Come to ``file``, whose kind, mode and the like must be the recorded ones."""

    def content(self, file: File) -> bytes | memoryview:
        """All of the content of ``file``, which has the recorded sha256."""

    def blocks(self, file: File) -> Iterator[bytes | memoryview]:
        """The content of ``file`` in blocks; raises before the last one if the sha256 is another."""

    def end(self) -> None:
        """Nothing may be left."""

    def close(self) -> None:
        """Stop what is done in advance."""


def member_reader(
    source: ByteSource, manifest: Manifest, frames: list[Frame], wanted: Container[int] | None = None
) -> Reader:
    """What reads the members of an archive that was ``opened``: those whose numbers are ``wanted``, by default all."""
    if isinstance(source, Folder):
        return FolderReader(source, manifest)
    return TarReader(source, manifest, frames, wanted) if frames else ImageReader(source, manifest)


class TarReader:
    """Reads the tar inside the frames, in which only what the manifest says may stand.

    Frames that hold none of what is ``wanted`` are neither read nor checked. Decompressing, and hashing what is not
    small, is done in advance by another thread, which leaves the interpreter to this one.
    """

    def __init__(
        self, source: ByteSource, manifest: Manifest, frames: list[Frame], wanted: Container[int] | None = None
    ) -> None:
        self._archive = source.name
        self._begins = _begins(frames)
        self._places = manifest.files.begins
        chosen: Sequence[int] = range(len(frames))
        if wanted is not None:
            chosen = frames_of(manifest.files, (file for file in manifest.files if file.number in wanted), frames)
        self._chosen = iter(chosen)
        hasher = _Hasher(source.name, manifest.files, wanted, self._begins, chosen)
        self._frames = read_frames(source, [frames[index] for index in chosen], hasher.frame)
        self._begin = 0
        self._frame = b""
        self._view = memoryview(self._frame)
        self._position = 0

    def header(self, file: File) -> None:
        """Pass the header of ``file``, byte for byte the one it must have."""
        place = self._places[file.number]
        while place >= self._begin + len(self._frame):
            self._turn(file.path)
        self._position = place - self._begin
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
            self._turn(path)
        taken = self._view[self._position : self._position + most]
        self._position += len(taken)
        return taken

    def _turn(self, path: str) -> None:
        """Go to the beginning of the next frame, in which ``path`` goes on or is looked for."""
        try:
            self._frame = next(self._frames)
        except StopIteration:
            raise damaged(self._archive, f"it ends within {path!r}") from None
        except ValueError as error:
            raise damaged(self._archive, f"{path!r} can't be decompressed ({error})") from None
        self._begin = self._begins[next(self._chosen)]
        self._view = memoryview(self._frame)
        self._position = 0


def frames_of(files: Files, some: Iterable[File], frames: Sequence[Frame]) -> Sequence[int]:
    """Which of ``frames`` hold ``some`` of the members ``files`` that are not absent, by their numbers, in order."""
    begins, places = _begins(frames), files.begins
    found: set[int] = set()
    for file in some:
        if not file.absent:
            begin, end = places[file.number], places[file.number + 1]
            found.update(range(bisect_right(begins, begin) - 1, bisect_right(begins, end - 1)))
    return sorted(found)


class _Hasher:
    """Hashes the content of those of ``files`` that are ``wanted`` and have ``HASHED_ASIDE`` bytes, frame by frame.

    The frames come in the order of ``numbers``, all that hold any of these.
    """

    def __init__(
        self,
        archive: str,
        files: Files,
        wanted: Container[int] | None,
        begins: Sequence[int],
        numbers: Iterable[int],
    ) -> None:
        self._archive = archive
        self._begins = begins
        self._places = files.begins
        self._numbers = iter(numbers)
        big = (files[number] for number, size in enumerate(files.sizes) if size >= HASHED_ASIDE)
        self._waiting = (file for file in big if not file.absent and (wanted is None or file.number in wanted))
        self._next()

    def frame(self, content: bytes) -> None:
        """Take the next frame. Raises ``ArchiveError`` if a file that ends in it has another sha256."""
        view = memoryview(content)
        passed = self._begins[next(self._numbers)]
        while self._file is not None and self._begin < passed + len(content):
            self._digest.update(view[max(0, self._begin - passed) : self._end - passed])
            if self._end > passed + len(content):
                break
            if self._digest.hexdigest() != self._file.sha256:
                raise _mismatch(self._archive, self._file)
            self._next()

    def _next(self) -> None:
        """Turn to the next file: where its content begins and ends in the tar."""
        self._file = file = next(self._waiting, None)
        self._digest = hashlib.sha256()
        if file is not None:
            self._begin = self._places[file.number] + _header_size(file)
            self._end = self._begin + file.size


def _begins(frames: Iterable[Frame]) -> list[int]:
    """Where each frame begins in the tar, and where the last one ends."""
    return [0, *accumulate(frame.size for frame in frames)]


def _header_size(file: File) -> int:
    return tarformat.header_size(file.path, file.kind, file.size, file.target)


def _mismatch(archive: str, file: File) -> ArchiveError:
    return damaged(archive, f"{file.path!r} has not the sha256 that the manifest records")
