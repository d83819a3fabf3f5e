"""A prefix becomes an archive: read, made canonical and hashed once, compressed in threads."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from trainenv.archives import activation, formats
from trainenv.archives.canonical import Canonicaliser
from trainenv.archives.canonical_files import (
    CanonicalFile,
    CanonicalFiles,
    ChangedError,
    carried_prefix,
    recorded_mtime,
)
from trainenv.archives.checks import check_length, check_link
from trainenv.archives.conda_unpack import program
from trainenv.archives.contents import Choice, Contents, gather, present
from trainenv.archives.delta import Everything, OtherSide, note, shortened
from trainenv.archives.hashes_ahead import HashesAhead
from trainenv.archives.hashing import HASHED_ASIDE, HashingThread, measured, sha256
from trainenv.archives.host_needs import NeedsCollector
from trainenv.archives.inventory import Inventory
from trainenv.archives.local_paths import LocalPaths
from trainenv.archives.making import making
from trainenv.archives.manifest import (
    RECORDS_DIR,
    RELOCATION_FILE,
    Archive,
    Manifest,
    relocation_json,
)
from trainenv.archives.members import CONDA_UNPACK, DELTA_NOTE, PACKER, File, Files
from trainenv.archives.recorded import read_records
from trainenv.archives.writing import MemberWriter, NoWriter
from trainenv.channels.scratch import scratch_folder
from trainenv.environments import left_out
from trainenv.environments.content_index import ContentIndex
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import Reporter, SilentReporter, Step
from trainenv.relocation import PLACEHOLDER, checked_prefix, needs
from trainenv.relocation.elf import MAGIC
from trainenv.settings import Settings

MADE_MTIME = 315532800
"""1980-01-01: the time of what is made here. Not 0, as zip knows no earlier one."""

EVERYTHING = Choice()

_CAPABILITIES = "security.capability"


def pack(
    prefix: Path,
    output: Path,
    *,
    name: str,
    source_prefix: str | None = None,
    format: str | None = None,
    level: int | None = None,
    threads: int | None = None,
    self_extracting: bool = False,
    choice: Choice = EVERYTHING,
    against: OtherSide | None = None,
    reporter: Reporter,
) -> Archive:
    """Pack the environment at ``prefix`` into the new file ``output``.

    ``source_prefix`` is the prefix that its files carry: by default the recorded one, else the
    folder itself. ``format`` is one of ``formats.FORMATS``, by default the one that ``output`` is named after.
    ``level`` is that of its compression, ``threads`` how many compress (default: as many as there are cores). A
    ``self_extracting`` one is a shell script as well. The same environment gives the same bytes, wherever it lies
    and whatever ``threads`` is. ``choice`` says what of it is packed; what is ``against`` on the other side already is
    only listed. ``output`` appears whole or not at all. Raises ``ArchiveError``.
    """
    form = formats.chosen(output, format, self_extracting=self_extracting, level=level, threads=threads)
    if against is not None and form.self_extracting:
        raise UsageError("a delta can't be self-extracting", cause="it is no whole environment", hint="Leave one out")
    if against is not None and form.format in (formats.SQUASHFS, formats.FOLDER):
        raise UsageError(
            f"a delta can't be of format {form.format.name}",
            cause="it is no whole environment",
            hint="Choose from tar.zst, tar.gz and tar",
        )
    prefix = Path(os.path.realpath(prefix))
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(prefix)):
        raise ArchiveError(
            f"{output} lies inside the environment that is to be packed", hint="Write it to another folder"
        )
    carried = source_prefix or carried_prefix(prefix)
    try:
        checked_prefix(carried)
    except ValueError as error:
        raise ArchiveError(
            f"{prefix} can't be packed",
            cause=str(error),
            hint="--prefix says which one its files carry: an absolute path",
        ) from None
    with ExitStack() as stack:
        shared, _ = stack.enter_context(scratch_folder())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pack-", dir=shared)))
        contents = gather(prefix, carried, choice, scratch, reporter)
        archive = stack.enter_context(making(output, form, partial(_latest_mtime, prefix, contents.found)))
        step = stack.enter_context(reporter.step(f"pack {name}", total=len(contents.found.files), unit="files"))
        local_paths = LocalPaths(_own_folders(choice.settings))
        index = stack.enter_context(ContentIndex(None if choice.settings is None else choice.settings.cache_dir))
        packer = _Packer(prefix, carried, contents, archive.writer, local_paths, index, against, reporter)
        by_wish = contents.left_out
        del contents
        try:
            manifest = packer.run(name, step)
        finally:
            packer.close()
        del packer  # What was found in the prefix takes as much memory as the manifest that is now made of it.
        if against is not None:
            manifest = shortened(manifest, against)
        size = archive.finish(manifest)
    local_paths.tell(reporter)
    return Archive(output, manifest, size, by_wish)


def describe(prefix: Path, name: str, index: ContentIndex, reporter: Reporter) -> Manifest:
    """The manifest of the environment at ``prefix``, all files absent: what a whole archive of it would list.

    Not in it are what an archive's packer makes. Raises ``ArchiveError``.
    """
    prefix = Path(os.path.realpath(prefix))
    carried = carried_prefix(prefix)
    contents = present(prefix, carried)
    with reporter.step(f"read {name}", total=len(contents.found.files), unit="files") as step:
        packer = _Packer(prefix, carried, contents, NoWriter(), LocalPaths(()), index, Everything(), SilentReporter())
        try:
            manifest = packer.run(name, step)
        finally:
            packer.close()
    return replace(manifest, files=Files(file for file in manifest.files if file.owner != PACKER))


class _Packer:
    """Writes the members of one archive, one after the other, and lists them."""

    def __init__(
        self,
        prefix: Path,
        carried: str,
        contents: Contents,
        writer: MemberWriter,
        local_paths: LocalPaths,
        index: ContentIndex,
        against: OtherSide | None,
        reporter: Reporter,
    ) -> None:
        self._prefix = prefix
        self._reporter = reporter
        self._root = os.fspath(prefix)
        self._contents = contents
        self._found = found = contents.found
        self._local_paths = local_paths
        self._writer = writer
        self._needs = NeedsCollector()
        self._files = Files()
        self._hashing = HashingThread()
        self._unhashed: list[tuple[int, Future[str], os.stat_result | None]] = []

        def no_room(path: str) -> None:
            reporter.notice(f"{path} keeps {carried}: it has no room for any other prefix as long as the placeholder")

        canonicaliser = Canonicaliser(
            carried, read_records(prefix), found.placeholder_lengths, no_room, os.fspath(prefix)
        )
        self._canonical = CanonicalFiles(prefix, canonicaliser, found.places)
        self._index = index
        self._against = against
        self._hashes = HashesAhead(index)

    def run(self, name: str, step: Step) -> Manifest:
        for folder in sorted({*self._found.folders, "bin", "conda-meta", RECORDS_DIR}):
            self._add_folder(folder)
        if self._against is not None:
            self._add_made(DELTA_NOTE, 0o644, note(name, self._against))
            self._hashes.begin(
                (path, self._found.places.get(path) or f"{self._root}/{path}")
                for path in self._found.files
                if path not in self._found.links
            )
        owner = None
        for path in self._found.files:
            try:
                check_length(path)
                if path in self._found.links:
                    check_link(path, self._found.targets[path])
            except ValueError as error:
                raise self._refused(str(error), "Rename or remove it") from None
            new_owner = self._found.owners.get(path, "")
            if new_owner != owner:
                self._writer.end_package()
                owner = new_owner
            if path in self._found.links:
                self._add_link(path, owner)
            else:
                self._add_file(path, owner)
            step.advance()
        self._writer.end_package()
        self._add_made(CONDA_UNPACK, 0o755, program())
        if activation.TOOLS.isdisjoint(self._found.files):
            for path, text in activation.tools().items():
                self._add_made(path, 0o644, text)
        if self._contents.note is not None:
            self._add_made(left_out.PATH, 0o644, self._contents.note)
        blocks = list(relocation_json(PLACEHOLDER, self._hashed_files()))
        self._add_made(RELOCATION_FILE, 0o644, *blocks, absent=self._against is not None)
        return Manifest(
            name=name,
            platform=self._found.platform,
            python=self._found.python,
            created_by=_created_by(),
            packages=self._found.packages,
            host_needs=self._needs.host_needs(self._found.files, self._found.packages, self._found.virtual_packages),
            files=self._hashed_files(),
            left_out=self._contents.missing,
        )

    def close(self) -> None:
        """Stop the hashing threads."""
        self._hashing.close()
        self._hashes.close()

    def _hashed_files(self) -> Files:
        """What has been added so far, once the hashing thread is done with it."""
        for number, digest, status in self._unhashed:
            self._files.set_sha256(number, digest.result())
            if status is not None:
                self._index.note(status, digest.result())
        self._unhashed.clear()
        return self._files

    def _add_folder(self, path: str) -> None:
        try:
            mode = stat.S_IMODE(os.lstat(f"{self._root}/{path}").st_mode) & 0o777
        except FileNotFoundError:
            mode = 0o755
        self._writer.member(path, "folder", mode, MADE_MTIME)
        self._files.add(File(path, "folder", mode, MADE_MTIME))

    def _add_link(self, path: str, owner: str) -> None:
        target = self._found.targets[path]
        self._writer.member(path, "link", 0o777, MADE_MTIME, target=target)
        self._files.add(File(path, "link", 0o777, MADE_MTIME, owner=owner, target=target))

    def _add_made(self, path: str, mode: int, *blocks: bytes, absent: bool = False) -> None:
        size, digest = measured(blocks)
        if not absent:
            self._writer.member(path, "file", mode, MADE_MTIME, size, blocks=blocks)
        self._files.add(File(path, "file", mode, MADE_MTIME, size, digest, PACKER, absent=absent))

    def _add_file(self, path: str, owner: str) -> None:
        try:
            with self._canonical.opened(path) as found:
                if found.data is None:
                    self._needs.add(path, needs(found.place))
                elif found.data.startswith(MAGIC):
                    self._needs.add(path, needs(found.data))
                self._tell_of_rights(path, found)
                if self._against is not None and self._is_there(path, owner, found):
                    return
                if found.whole is not None:
                    self._local_paths.look(path, found.whole)
                    self._add_whole(path, owner, found, found.whole)
                else:
                    self._add_streamed(path, owner, found)
        except ChangedError:
            raise self._refused(f"{path} changed while it was read", "Pack again when nothing writes there") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise self._unreadable(path, error) from None

    def _tell_of_rights(self, path: str, found: CanonicalFile) -> None:
        """Say what a program may do here and not where it is unpacked, as no archive may give such rights."""
        if found.status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            self._reporter.notice(f"{path} is packed without its setuid or setgid bit")
        if found.mode & 0o111:
            with suppress(OSError):  # There are file systems without.
                os.getxattr(found.place, _CAPABILITIES)
                self._reporter.notice(f"{path} is packed without its capabilities: give it those there, with setcap")

    def _is_there(self, path: str, owner: str, found: CanonicalFile) -> bool:
        """Whether the other side has the file; then it is only listed."""
        assert self._against is not None
        known = self._hashes.of(path, found)
        if not self._against.has(known, found.size):
            return False
        self._files.add(_listed(path, owner, found, known, absent=True))
        return True

    def _add_whole(self, path: str, owner: str, found: CanonicalFile, content: bytes) -> None:
        self._writer.member(path, "file", found.mode, found.mtime, found.size, blocks=(content,))
        if found.size < HASHED_ASIDE:
            self._list(path, owner, found, sha256(content))
        else:
            self._list(path, owner, found, self._hashing.submit(sha256, content))

    def _add_streamed(self, path: str, owner: str, found: CanonicalFile) -> None:
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            for block in found.blocks():
                self._hashing.submit(digest.update, block)
                yield block

        self._writer.member(path, "file", found.mode, found.mtime, found.size, blocks=blocks())
        self._list(path, owner, found, self._hashing.submit(digest.hexdigest))

    def _list(self, path: str, owner: str, found: CanonicalFile, digest: str | Future[str]) -> None:
        """Put a file on the list; its sha256 may still be in the making."""
        if not isinstance(digest, str):
            self._unhashed.append((len(self._files), digest, found.status if found.verbatim else None))
            digest = ""
        elif found.verbatim:
            self._index.note(found.status, digest)
        self._files.add(_listed(path, owner, found, digest))

    def _refused(self, cause: str, hint: str) -> ArchiveError:
        return ArchiveError(f"{self._prefix} can't be packed", cause=cause, hint=hint)

    def _unreadable(self, path: str, error: OSError) -> ArchiveError:
        return self._refused(f"{path}: {error.strerror or error}", "Mend it, then pack again")


def _listed(path: str, owner: str, found: CanonicalFile, sha256: str, *, absent: bool = False) -> File:
    about = found.mode, found.mtime, found.size, sha256, owner
    return File(path, "file", *about, occurrences=found.occurrences, absent=absent)


def _latest_mtime(prefix: Path, found: Inventory) -> int:
    """When the newest file was changed, in whole seconds."""
    files = (path for path in found.files if path not in found.links)
    return max((recorded_mtime(os.lstat(found.place(prefix, path))) for path in files), default=MADE_MTIME)


def _own_folders(settings: Settings | None) -> list[Path]:
    """What belongs to this machine or its user: a file that names it may not work elsewhere."""
    home = Path("~").expanduser()
    return [home] if settings is None else [home, settings.root, settings.envs_dir, settings.cache_dir]


def _created_by() -> str:
    import importlib.metadata

    try:
        return f"trainenv {importlib.metadata.version('trainenv')}"
    except importlib.metadata.PackageNotFoundError:
        return "trainenv"
