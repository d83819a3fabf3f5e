"""An archive becomes a prefix: checked, relocated while it is written, in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainenv.archives.content_index import ContentIndex
from trainenv.archives.frames import Frame
from trainenv.archives.hosts import require_host
from trainenv.archives.local_files import environments_of_machine
from trainenv.archives.manifest import Archive, File, Manifest
from trainenv.archives.origins import Origins, find_origins
from trainenv.archives.placing import Writer, placement
from trainenv.archives.reading import MemberReader, opened
from trainenv.archives.sources import ByteSource
from trainenv.archives.windows import in_memory
from trainenv.environments.staging import staged
from trainenv.progress import Reporter, SilentReporter
from trainenv.settings import Settings


def read_manifest(archive: Path) -> Manifest:
    """The manifest of ``archive``, from the end of the file alone. Raises ``ArchiveError``."""
    with opened(archive) as (_, manifest, _):
        return manifest


def open_archive(archive: Path | ByteSource) -> Archive:
    """What ``inspect`` shows of ``archive``."""
    with opened(archive) as (source, manifest, _):
        size = archive.stat().st_size if isinstance(archive, Path) else archive.size
        return Archive(Path(source.name), manifest, size)


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


def new_here(settings: Settings, manifest: Manifest) -> tuple[int, int]:
    """How many files of an archive, and bytes of these, no environment of this machine has already."""
    with (
        ContentIndex(settings.cache_dir) as index,
        environments_of_machine(settings) as prefixes,
    ):
        placed = placement(manifest, settings.target_prefix_of(manifest.name))
        origins = find_origins(manifest, placed, prefixes, index, _device_of(settings.envs_dir))
        return len(origins.fetched), origins.new_bytes


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
    What this machine lacks is said before the first byte is written. Files that another environment has are linked,
    and their part of the archive is not read. ``confirm`` is called when all has been read, and may raise. Returns the
    name and manifest.
    """
    with opened(archive) as (source, manifest, frames), ContentIndex(settings.cache_dir) as index:
        name = name or manifest.name
        target = settings.prefix_of(name)
        placed = placement(manifest, prefix or settings.target_prefix_of(name))
        with environments_of_machine(settings, but=target) as prefixes:
            with reporter.step("look for files that are here"):
                origins = find_origins(manifest, placed, prefixes, index, _device_of(settings.envs_dir))
            require_host(
                source.name, manifest, target, reporter, new_bytes=origins.new_bytes, target_prefix=placed.prefix
            )
            with staged(settings, name) as staging:
                writer = Writer(source.name, staging.path, placed, index)
                _write_all(source, manifest, frames, origins, writer, reporter)
                confirm()
    return name, manifest


def unpack(archive: Path | ByteSource, target: Path, *, target_prefix: str, reporter: Reporter) -> Manifest:
    """Unpack ``archive`` into the empty folder ``target``; its files will carry ``target_prefix``.

    Raises ``ArchiveError`` for an archive that is damaged or hostile, ``RelocationError`` if a binary
    has no room for the prefix. What was written until then is the caller's to remove.
    """
    with opened(archive) as (source, manifest, frames):
        writer = Writer(source.name, target, placement(manifest, target_prefix))
        _write_all(source, manifest, frames, Origins(), writer, reporter)
    return manifest


def _write_all(
    source: ByteSource, manifest: Manifest, frames: list[Frame], origins: Origins, writer: Writer, reporter: Reporter
) -> None:
    """Write all members. Where nothing is linked the archive is read, and so checked, to its last byte."""
    wanted = {file.path for file in origins.fetched} if origins.links else None
    reader = MemberReader(source, manifest, frames, wanted)
    try:
        with reporter.step("unpack", total=manifest.unpacked_bytes, unit="B") as step:
            for member in manifest.files:
                if wanted is None or member.path in wanted:
                    reader.header(member)
                if member.kind == "folder":
                    writer.folder(member)
                elif (place := origins.links.get(member.path)) is not None:
                    if not writer.link(member, *place):
                        _write_late(source, manifest, frames, member, writer)
                elif member.kind == "file" and (wanted is None or member.path in wanted):
                    _write(member, reader, writer)
                step.advance(member.size)
            if wanted is None:
                reader.end()
            writer.finish(manifest)
    except OSError as error:
        raise writer.failed(error) from None
    finally:
        reader.close()


def _write(member: File, reader: MemberReader, writer: Writer) -> None:
    """Write the file whose header the reader has just passed; what is no part of the environment is only checked."""
    if member.is_tool:
        for _ in reader.blocks(member):
            pass
    elif in_memory(member.path, member.size):
        writer.whole(member, reader.content(member))
    else:
        writer.streamed(member, reader.blocks(member))


def _write_late(source: ByteSource, manifest: Manifest, frames: list[Frame], member: File, writer: Writer) -> None:
    """Take one file from the archive after all, as what it was to be linked to has changed meanwhile."""
    reader = MemberReader(source, manifest, frames, {member.path})
    try:
        reader.header(member)
        _write(member, reader, writer)
    finally:
        reader.close()


def _device_of(folder: Path) -> int:
    """The device of ``folder``, or of the nearest folder upward that is there."""
    while not folder.exists():
        folder = folder.parent
    return os.stat(folder).st_dev
