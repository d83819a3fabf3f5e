"""An archive becomes a prefix: checked, relocated while it is written, in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from trainenv.archives.canonical_files import LocalEnvironment
from trainenv.archives.copying import LocalCopy
from trainenv.archives.frames import Frame
from trainenv.archives.hosts import require_host
from trainenv.archives.local_files import Twin, environments_of_machine
from trainenv.archives.manifest import Archive, Manifest
from trainenv.archives.members import File
from trainenv.archives.origins import Origins, find_origins, nothing_local, require_all
from trainenv.archives.placing import Writer, placement
from trainenv.archives.reading import member_reader, opened
from trainenv.archives.sources import ByteSource, LocalFile
from trainenv.archives.windows import in_memory
from trainenv.environments.content_index import ContentIndex
from trainenv.environments.sizes import size_of
from trainenv.environments.staging import prefix_to_carry, require, staged
from trainenv.errors import RelocationError
from trainenv.progress import Reporter, SilentReporter, Step
from trainenv.relocation import PLACEHOLDER
from trainenv.settings import Settings


class Unpacked(NamedTuple):
    """The environment ``name``, made of the archive with ``manifest``.

    ``linked`` are the numbers of those files that are links to another environment's, which have their sha256.
    """

    name: str
    manifest: Manifest
    linked: Set[int]

    @property
    def proven(self) -> frozenset[str]:
        """The paths of those."""
        return frozenset(map(self.manifest.files.path, self.linked))


def read_manifest(archive: Path) -> Manifest:
    """The manifest of ``archive``, from the end of the file alone. Raises ``ArchiveError``."""
    with opened(archive) as (_, manifest, _):
        return manifest


def open_archive(archive: Path | ByteSource) -> Archive:
    """What ``inspect`` shows of ``archive``."""
    with opened(archive) as (source, manifest, _):
        size = size_of([archive]).apparent if isinstance(archive, Path) else archive.size
        return Archive(Path(source.name), manifest, size)


def verify_archive(archive: Path | ByteSource, reporter: Reporter | None = None) -> Manifest:
    """Read and check every byte of ``archive`` and write nothing. Raises ``ArchiveError``."""
    with (
        opened(archive) as (source, manifest, frames),
        (reporter or SilentReporter()).step("verify", total=manifest.files.bytes, unit="B") as step,
    ):
        reader = member_reader(source, manifest, frames)
        try:
            for member in manifest.files:
                if member.absent:
                    continue
                reader.header(member)
                if member.kind == "file":
                    for block in reader.blocks(member):
                        step.advance(len(block))
            reader.end()
        finally:
            reader.close()
        return manifest


def look_around(settings: Settings, manifest: Manifest) -> Origins:
    """Where the files of the archive with ``manifest`` would come from if it was unpacked here now."""
    with (
        ContentIndex(settings.cache_dir) as index,
        environments_of_machine(settings) as prefixes,
    ):
        try:
            placed = placement(manifest, settings.target_prefix_of(manifest.name))
        except RelocationError:
            placed = placement(manifest, PLACEHOLDER)  # It will not fit as it is called, but perhaps as something else.
        return find_origins(manifest, placed, prefixes, index, _device_of(settings.envs_dir))


def unpack_environment(
    settings: Settings,
    archive: Path | ByteSource,
    *,
    name: str | None = None,
    prefix: str | None = None,
    others: Sequence[Path] = (),
    replaces: bool = False,
    confirm: Callable[[], None] = lambda: None,
    reporter: Reporter,
) -> Unpacked:
    """Unpack ``archive`` as environment ``name`` (default: its own): whole or not at all.

    With ``replaces`` it takes the place of the environment of that name, which is kept for a rollback.
    ``prefix`` is what its files carry, by default that of the environment (see ``visible_as``).
    What this machine lacks is said before the first byte is written. Files that another environment has are linked,
    and their part of the archive is not read. What a delta builds on may also be in the archives ``others``.
    ``confirm`` is called when all has been read, and may raise.
    """
    with ExitStack() as stack:
        source, manifest, frames = stack.enter_context(opened(archive))
        more = [stack.enter_context(opened(other)) for other in others]
        index = stack.enter_context(ContentIndex(settings.cache_dir))
        name = name or manifest.name
        target = settings.prefix_of(name)
        require(settings, name, exists=replaces)
        placed = placement(manifest, prefix_to_carry(settings, name, prefix))
        with environments_of_machine(settings, but=target) as beside:
            prefixes = [*beside, target] if replaces else beside
            with reporter.step("look for files that are here"):
                origins = find_origins(
                    manifest,
                    placed,
                    prefixes,
                    index,
                    _device_of(settings.envs_dir),
                    others=[other for _, other, _ in more],
                    copy=not isinstance(source, LocalFile),
                )
            require_all(source.name, origins)
            require_host(
                source.name, manifest, target, reporter, new_bytes=origins.new_bytes, target_prefix=placed.prefix
            )
            with staged(settings, name, replaces=replaces, afresh=True) as staging:
                writer = Writer(source.name, staging.path, placed, index)
                unpacking = _Unpacking(source, frames, origins, writer, more)
                unpacking.run(reporter)
                index.write()
                confirm()
    return Unpacked(name, manifest, origins.links.keys() - unpacking.written_late)


def unpack(archive: Path | ByteSource, target: Path, *, target_prefix: str, reporter: Reporter) -> Manifest:
    """Unpack ``archive`` into the empty folder ``target``; its files will carry ``target_prefix``.

    Raises ``ArchiveError`` for an archive that is damaged or hostile, or a delta, ``RelocationError`` if a binary
    has no room for the prefix. What was written until then is the caller's to remove.
    """
    with opened(archive) as (source, manifest, frames):
        origins = nothing_local(manifest)
        require_all(source.name, origins)
        writer = Writer(source.name, target, placement(manifest, target_prefix))
        _Unpacking(source, frames, origins, writer).run(reporter)
    return manifest


class _Unpacking:
    """Writes all members, each from where it comes from; ``others`` are archives opened beside the one to unpack.

    ``written_late`` are the numbers of those that were to become links and could not.
    """

    def __init__(
        self,
        source: ByteSource,
        frames: list[Frame],
        origins: Origins,
        writer: Writer,
        others: Sequence[tuple[ByteSource, Manifest, list[Frame]]] = (),
    ) -> None:
        self._source = source
        self._frames = frames
        self._origins = origins
        self._writer = writer
        self._others = others
        self.written_late: set[int] = set()

    def run(self, reporter: Reporter) -> None:
        """Where all comes from the archive it is read, and so checked, to its last byte."""
        writer, manifest = self._writer, self._origins.manifest
        try:
            with reporter.step("unpack", total=manifest.files.bytes, unit="B") as step:
                if self._origins.is_whole_archive:
                    self._write_whole(step)
                else:
                    self._write_parts(step)
                writer.finish(manifest.files)
        except OSError as error:
            raise writer.failed(error) from None

    def _write_whole(self, step: Step) -> None:
        with closing(member_reader(self._source, self._origins.manifest, self._frames)) as reader:
            for member in self._origins.manifest.files:
                reader.header(member)
                if member.kind == "folder":
                    self._writer.folder(member)
                elif member.kind == "file":
                    self._write(member, reader.blocks(member))
                step.advance(member.size)
            reader.end()

    def _write_parts(self, step: Step) -> None:
        origins, writer = self._origins, self._writer
        for member in origins.manifest.files.of_kind("folder"):
            writer.folder(member)
        for number, other in enumerate(self._others):
            self._write_given(number, *other, step)
        wanted = {file.number for file in origins.fetched}
        with closing(member_reader(self._source, origins.manifest, self._frames, wanted)) as reader:
            for member in origins.manifest.files:
                if (local := origins.links.get(member.number)) is not None:
                    if not writer.link(member, local.place(member.path), local.state):
                        self.written_late.add(member.number)
                        self._write_late(member, local)
                elif (copy := origins.copies.get(member.number)) is not None:
                    self._write(member, copy.blocks())
                elif (content := origins.made.get(member.number)) is not None:
                    self._write(member, content())
                elif member.number in wanted:
                    reader.header(member)
                    self._write(member, reader.blocks(member))
                else:
                    continue
                step.advance(member.size)

    def _write_given(
        self, number: int, source: ByteSource, manifest: Manifest, frames: list[Frame], step: Step
    ) -> None:
        """Write what comes from another archive, in the order in which it lies there."""
        wanted: dict[int, list[File]] = {}
        for member in self._origins.manifest.files:
            if (found := self._origins.given.get(member.number)) is not None and found[0] == number:
                wanted.setdefault(found[1].number, []).append(member)
        with closing(member_reader(source, manifest, frames, wanted)) as reader:
            for file in manifest.files:
                for again, member in enumerate(wanted.get(file.number, ())):
                    if again:
                        self._write_alone(source, manifest, frames, file, member)
                    else:
                        reader.header(file)
                        self._write(member, reader.blocks(file))
                    step.advance(member.size)

    def _write_alone(
        self, source: ByteSource, manifest: Manifest, frames: list[Frame], file: File, member: File
    ) -> None:
        """Write ``member`` of what ``file`` holds in an archive, and read nothing else of that."""
        with closing(member_reader(source, manifest, frames, {file.number})) as reader:
            reader.header(file)
            self._write(member, reader.blocks(file))

    def _write_late(self, member: File, local: Twin) -> None:
        """Write one file after all, as it can't be linked: what it was to be linked to has changed, for one."""
        if member.absent:
            copy = LocalCopy(LocalEnvironment(Path(local.root)), local.path or member.path, member.sha256)
            self._write(member, copy.blocks())
        else:
            self._write_alone(self._source, self._origins.manifest, self._frames, member, member)

    def _write(self, member: File, blocks: Iterator[bytes | memoryview]) -> None:
        """Write a file; what is no part of the environment is only checked."""
        if member.is_tool:
            for _ in blocks:
                pass
        elif in_memory(member.path, member.size):
            parts = list(blocks)
            self._writer.whole(member, parts[0] if len(parts) == 1 else b"".join(parts))
        else:
            self._writer.streamed(member, blocks)


def _device_of(folder: Path) -> int:
    """The device of ``folder``, or of the nearest folder upward that is there."""
    while not folder.exists():
        folder = folder.parent
    return os.stat(folder).st_dev
