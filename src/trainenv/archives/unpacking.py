"""An archive becomes a prefix: checked, relocated while it is written, in one pass."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trainenv.archives.hosts import require_host
from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import PREFIX_FILE, Archive, File, Manifest
from trainenv.archives.reading import MemberReader, opened
from trainenv.archives.sources import ByteSource
from trainenv.archives.windows import in_memory, rewritten, windows
from trainenv.environments.staging import staged
from trainenv.errors import ArchiveError, RelocationError
from trainenv.progress import Reporter, SilentReporter
from trainenv.relocation import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    rewrite,
    room,
    with_source_size,
)
from trainenv.settings import Settings

_UNUSABLE_RECORD = (MismatchError, NoRoomError, ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What ``relocation`` raises when occurrences are not those of the content."""


def read_manifest(archive: Path) -> Manifest:
    """The manifest of ``archive``, from the end of the file alone. Raises ``ArchiveError``."""
    with opened(archive) as (_, manifest, _):
        return manifest


def open_archive(archive: Path) -> Archive:
    """What ``inspect`` shows of ``archive``."""
    with opened(archive) as (source, manifest, _):
        return Archive(archive, manifest, source.size)


def verify_archive(archive: Path | ByteSource, reporter: Reporter | None = None) -> Manifest:
    """Read and check every byte of ``archive`` and write nothing. Raises ``ArchiveError``."""
    with (
        opened(archive) as (source, manifest, frames),
        (reporter or SilentReporter()).step("verify", total=manifest.unpacked_bytes, unit="B") as step,
    ):
        reader = MemberReader(source, manifest, frames)
        try:
            for member in manifest.files:
                reader.header(member)
                if member.kind == "file":
                    for block in reader.blocks(member):
                        step.advance(len(block))
            reader.end()
        finally:
            reader.close()
        return manifest


def unpack_environment(
    settings: Settings,
    archive: Path | ByteSource,
    *,
    name: str | None = None,
    prefix: str | None = None,
    confirm: Callable[[], None] = lambda: None,
    reporter: Reporter,
) -> tuple[str, Manifest]:
    """Unpack ``archive`` as environment ``name`` (default: its own): whole or not at all.

    ``prefix`` is what its files carry, by default that of the environment (see ``visible_as``).
    What this machine lacks is said before the first byte is written. ``confirm`` is called when all has
    been read, and may raise. Returns the name and manifest.
    """
    with opened(archive) as (source, manifest, frames):
        name = name or manifest.name
        target_prefix = _checked_prefix(prefix or settings.target_prefix_of(name))
        require_host(source.name, manifest, settings.prefix_of(name), reporter, target_prefix=target_prefix)
        occurrences = _fitting(manifest, target_prefix)
        with staged(settings, name) as staging:
            writer = _Writer(source.name, staging.path, target_prefix, occurrences)
            _write_all(manifest, MemberReader(source, manifest, frames), writer, reporter)
            confirm()
    return name, manifest


def unpack(archive: Path | ByteSource, target: Path, *, target_prefix: str, reporter: Reporter) -> Manifest:
    """Unpack ``archive`` into the empty folder ``target``; its files will carry ``target_prefix``.

    Raises ``ArchiveError`` for an archive that is damaged or hostile, ``RelocationError`` if a binary
    has no room for the prefix. What was written until then is the caller's to remove.
    """
    target_prefix = _checked_prefix(target_prefix)
    with opened(archive) as (source, manifest, frames):
        writer = _Writer(source.name, target, target_prefix, _fitting(manifest, target_prefix))
        _write_all(manifest, MemberReader(source, manifest, frames), writer, reporter)
    return manifest


def _checked_prefix(prefix: str) -> str:
    if not os.path.isabs(prefix) or os.path.normpath(prefix) != prefix:
        raise RelocationError(f"{prefix!r} can't be a prefix", hint="Give an absolute path")
    return prefix


def _write_all(manifest: Manifest, reader: MemberReader, writer: _Writer, reporter: Reporter) -> None:
    try:
        with reporter.step("unpack", total=manifest.unpacked_bytes, unit="B") as step:
            for member in manifest.files:
                reader.header(member)
                if member.kind == "folder":
                    writer.folder(member)
                elif member.kind == "file" and in_memory(member.path, member.size):
                    writer.whole(member, reader.content(member))
                    step.advance(member.size)
                elif member.kind == "file":
                    writer.streamed(member, reader.blocks(member))
                    step.advance(member.size)
            reader.end()
            writer.finish(manifest)
    except OSError as error:
        raise writer.failed(error) from None
    finally:
        reader.close()


def _fitting(manifest: Manifest, prefix: str) -> dict[str, Occurrences]:
    """The occurrences by path, if ``prefix`` fits wherever the placeholder is."""
    records = {
        file.path: Occurrences.from_json(dict(file.occurrences))
        for file in manifest.files
        if file.occurrences is not None
    }
    try:
        for path, occurrences in records.items():
            check_room(occurrences, prefix, path)
    except NoRoomError as error:
        longest = min(
            (limit for occurrences in records.values() if (limit := room(occurrences)) is not None), default=0
        )
        raise RelocationError(
            f"{error.path} has no room for the prefix {prefix}",
            cause=f"a string of it would need {error.needed} bytes and has {error.room}",
            hint=f"Choose a prefix of at most {longest} bytes; nothing was unpacked",
        ) from None
    except _UNUSABLE_RECORD:
        raise ArchiveError(f"the prefix occurrences that the manifest of {manifest.name} lists are wrong") from None
    return records


class _Writer:
    """Writes members below ``target``, with ``prefix`` where the placeholder is."""

    def __init__(self, archive: str, target: Path, prefix: str, occurrences: Mapping[str, Occurrences]) -> None:
        self._archive = archive
        self._root = os.fspath(target)
        self._prefix = prefix
        self._occurrences = occurrences
        self._sizes: dict[str, tuple[int, int]] = {}
        self._umask = os.umask(0)
        os.umask(self._umask)

    def folder(self, member: File) -> None:
        os.mkdir(f"{self._root}/{member.path}", 0o700)

    def whole(self, member: File, content: bytes | memoryview) -> None:
        """Write a file that is in memory; ``conda-unpack`` and the like are no part of an environment."""
        if member.is_tool:
            return
        if member.occurrences is not None:
            content = self._relocated(member, bytes(content))
            if member.path.endswith(".py") and len(content) != member.size:
                self._sizes[member.path] = (member.size, len(content))
        if self._sizes and member.path.endswith(".pyc"):
            sizes = self._sizes.get(source_of(member.path) or "")
            if sizes is not None:
                content = with_source_size(bytes(content), *sizes)
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
                parts = windows(self._occurrences[member.path], PLACEHOLDER, member.size)
                descriptor = canonical.fileno()
                self._write(
                    member,
                    rewritten(descriptor, member.size, parts, PLACEHOLDER, self._prefix, member.path),
                )
            except _UNUSABLE_RECORD:
                raise self._wrong(member) from None

    def finish(self, manifest: Manifest) -> None:
        """Write what must come last: links, the record of the prefix, folders' modes."""
        for member in manifest.files:
            if member.kind == "link":
                os.symlink(member.target, f"{self._root}/{member.path}")
        with open(f"{self._root}/{PREFIX_FILE}", "x", encoding="utf-8") as file:
            file.write(self._prefix + "\n")
        for member in reversed(manifest.files):
            if member.kind == "folder":
                os.chmod(f"{self._root}/{member.path}", member.mode)

    def _relocated(self, member: File, content: bytes) -> bytes:
        try:
            return rewrite(content, self._occurrences[member.path], PLACEHOLDER, self._prefix, member.path)[0]
        except _UNUSABLE_RECORD:
            raise self._wrong(member) from None

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
