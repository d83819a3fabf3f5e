"""Members become files of a prefix: relocated in memory as they are written, or linked to files that are there."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import PREFIX_FILE, Manifest
from trainenv.archives.members import File, Files
from trainenv.archives.windows import rewritten, windows
from trainenv.environments.content_index import ContentIndex, unwritten
from trainenv.errors import ArchiveError, RelocationError
from trainenv.relocation import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    growth,
    rewrite,
    room,
    with_source_size,
)

_UNUSABLE_RECORD = (MismatchError, NoRoomError, ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What ``relocation`` raises when occurrences are not those of the content."""


@dataclass(frozen=True)
class Placement:
    """What ``prefix`` makes of an archive's members.

    ``resized`` are the sizes of sources, before and after, that the prefix makes longer or shorter, as the bytecode
    of each records its size.
    """

    prefix: str
    resized: Mapping[str, tuple[int, int]]

    def changes(self, member: File) -> bool:
        """Whether ``member`` is written with another content than it has in the archive."""
        return member.occurrences is not None or self._sizes_for(member) is not None

    def of_whole(self, member: File, content: bytes | memoryview) -> bytes | memoryview:
        """``content``, that of ``member`` in the archive, as it is written."""
        if member.occurrences is not None:
            occurrences = _parsed(member.occurrences)
            content = rewrite(bytes(content), occurrences, PLACEHOLDER, self.prefix, member.path)[0]
        if (sizes := self._sizes_for(member)) is not None:
            content = with_source_size(bytes(content), *sizes)
        return content

    def of_open(self, member: File, descriptor: int) -> Iterator[bytes]:
        """The same for a file of any size, whose content in the archive can be read from ``descriptor``."""
        parts = windows(_parsed(member.occurrences or ""), PLACEHOLDER, member.size)
        return rewritten(descriptor, member.size, parts, PLACEHOLDER, self.prefix, member.path)

    def _sizes_for(self, member: File) -> tuple[int, int] | None:
        if not self.resized or not member.path.endswith(".pyc"):
            return None
        return self.resized.get(source_of(member.path) or "")


def placement(manifest: Manifest, prefix: str) -> Placement:
    """What ``prefix`` makes of the members, if it fits wherever the placeholder is.

    Raises ``RelocationError`` if it doesn't, ``ArchiveError`` for records that can't be true.
    """
    if not os.path.isabs(prefix) or os.path.normpath(prefix) != prefix:
        raise RelocationError(f"{prefix!r} can't be a prefix", hint="Give an absolute path")
    files = manifest.files
    resized = {}
    try:
        for number, text in files.occurrences.items():
            path, size, occurrences = files.path(number), files.sizes[number], _parsed(text)
            check_room(occurrences, prefix, path)
            if path.endswith(".py") and (grown := growth(occurrences, PLACEHOLDER, prefix)):
                resized[path] = size, size + grown
    except NoRoomError as error:
        rooms = map(room, map(_parsed, files.occurrences.values()))
        longest = min((limit for limit in rooms if limit is not None), default=0)
        raise RelocationError(
            f"{error.path} has no room for the prefix {prefix}",
            cause=f"a string of it would need {error.needed} bytes and has {error.room}",
            hint=f"Choose a prefix of at most {longest} bytes; nothing was unpacked",
        ) from None
    except _UNUSABLE_RECORD:
        raise ArchiveError(f"the prefix occurrences that the manifest of {manifest.name} lists are wrong") from None
    return Placement(prefix, resized)


def _parsed(occurrences: str) -> Occurrences:
    return Occurrences.from_json(json.loads(occurrences))


class Writer:
    """Writes members below ``target``, placed as ``placed`` says; notes in ``index`` what they hold.

    ``archive`` is what messages call it.
    """

    def __init__(self, archive: str, target: Path, placed: Placement, index: ContentIndex | None = None) -> None:
        self._archive = archive
        self._root = os.fspath(target)
        self._placed = placed
        self._index = index
        self._umask = os.umask(0)
        os.umask(self._umask)

    def folder(self, member: File) -> None:
        os.mkdir(f"{self._root}/{member.path}", 0o700)

    def whole(self, member: File, content: bytes | memoryview) -> None:
        """Write a file that is in memory."""
        try:
            content = self._placed.of_whole(member, content)
        except _UNUSABLE_RECORD:
            raise self._wrong(member) from None
        self._write(member, (content,))

    def streamed(self, member: File, blocks: Iterable[bytes | memoryview]) -> None:
        """Write a big file block by block; if it holds the prefix, by way of a nameless file."""
        if member.occurrences is None:
            self._write(member, blocks)
            return
        with tempfile.TemporaryFile(dir=self._root, buffering=0) as canonical:
            for block in blocks:
                canonical.write(block)
            try:
                self._write(member, self._placed.of_open(member, canonical.fileno()))
            except _UNUSABLE_RECORD:
                raise self._wrong(member) from None

    def link(self, member: File, place: str, verified: bytes) -> bool:
        """Make ``member`` another name of the file ``place``, which ``unwritten`` as ``verified`` holds its content.

        False, and nothing is there, if that file can't be linked to or has changed since.
        """
        path = f"{self._root}/{member.path}"
        try:
            os.link(place, path, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        now = os.lstat(path)
        if unwritten(now) != verified:
            os.unlink(path)
            return False
        if self._index is not None:
            self._index.note(now, member.sha256)
        return True

    def finish(self, files: Files) -> None:
        """Write what must come last: links, the record of the prefix, folders' modes."""
        for number, target in files.targets.items():
            os.symlink(target, f"{self._root}/{files.path(number)}")
        with open(f"{self._root}/{PREFIX_FILE}", "x", encoding="utf-8") as file:
            file.write(self._placed.prefix + "\n")
        for folder in reversed(list(files.of_kind("folder"))):
            os.chmod(f"{self._root}/{folder.path}", folder.mode)

    def _write(self, member: File, blocks: Iterable[bytes | memoryview]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(f"{self._root}/{member.path}", flags, member.mode)
        try:
            for block in blocks:
                written = os.write(descriptor, block)
                while written < len(block):
                    written += os.write(descriptor, block[written:])
            if member.mode & self._umask:
                os.fchmod(descriptor, member.mode)
            os.utime(descriptor, (member.mtime, member.mtime))
            if self._index is not None and not self._placed.changes(member):
                self._index.note(os.fstat(descriptor), member.sha256)
        finally:
            os.close(descriptor)

    def failed(self, error: OSError) -> ArchiveError:
        """The error for a file system that refuses a member."""
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return ArchiveError(
            f"{self._archive} can't be unpacked into {self._root}",
            cause=error.strerror or str(error),
            hint="Free some space, or choose another disk" if no_space else "",
        )

    def _wrong(self, member: File) -> ArchiveError:
        return ArchiveError(
            f"{self._archive} is refused",
            cause=f"the prefix occurrences that its manifest lists are not those of {member.path!r}",
            hint="Pack it again; nothing was unpacked",
        )
