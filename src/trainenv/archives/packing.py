"""A prefix becomes an archive: read, made canonical and hashed once, compressed in threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from trainenv.archives import activation, formats, tarformat
from trainenv.archives.canonical import Canonicaliser, read_records
from trainenv.archives.checks import check_length
from trainenv.archives.conda_unpack import program
from trainenv.archives.contents import Choice, Contents, gather
from trainenv.archives.hashing import HASHED_ASIDE, HashingThread, sha256
from trainenv.archives.host_needs import NeedsCollector
from trainenv.archives.local_paths import LocalPaths
from trainenv.archives.manifest import (
    CONDA_UNPACK,
    PREFIX_FILE,
    RECORDS_DIR,
    RELOCATION_FILE,
    Archive,
    File,
    Manifest,
    relocation_json,
)
from trainenv.archives.self_extracting import Payload
from trainenv.archives.windows import in_memory
from trainenv.archives.writing import MemberWriter, TarWriter, sink
from trainenv.environments import left_out
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter, Step
from trainenv.relocation import PLACEHOLDER, needs
from trainenv.relocation.elf import MAGIC
from trainenv.settings import Settings

MADE_MTIME = 315532800
"""1980-01-01: the time of what is made here. Not 0, as zip knows no earlier one."""

EVERYTHING = Choice()


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
    reporter: Reporter,
) -> Archive:
    """Pack the environment at ``prefix`` into the new file ``output``.

    ``source_prefix`` is the prefix that its files carry: by default the recorded one, else the
    folder itself. ``format`` is one of ``formats.FORMATS``, by default the one that ``output`` is named after.
    ``level`` is that of its compression, ``threads`` how many compress (default: as many as there are cores). A
    ``self_extracting`` one is a shell script as well. The same environment gives the same bytes, wherever it lies
    and whatever ``threads`` is. ``choice`` says what of it is packed. ``output`` appears whole or not at all. Raises
    ``ArchiveError``.
    """
    form = formats.chosen(output, format, self_extracting=self_extracting, level=level, threads=threads)
    prefix = Path(os.path.realpath(prefix))
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(prefix)):
        raise ArchiveError(
            f"{output} lies inside the environment that is to be packed", hint="Write it to another folder"
        )
    carried = source_prefix or _recorded_prefix(prefix)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainenv-pack-")))
        contents = gather(prefix, carried, choice, scratch, reporter)
        file = stack.enter_context(_appearing(output))
        step = stack.enter_context(reporter.step(f"pack {name}", total=len(contents.found.files), unit="files"))
        script = Payload(file) if form.self_extracting else None
        writer = TarWriter(sink(form, script or file))
        local_paths = LocalPaths(_own_folders(choice.settings))
        packer = _Packer(prefix, carried, contents, writer, local_paths, reporter)
        try:
            manifest = packer.run(name, step)
            writer.finish(manifest.to_json())
            if script is not None:
                script.put_script(form, manifest)
                _make_executable(file)
        finally:
            packer.close()
            writer.close()
        size = file.tell()
    local_paths.tell(reporter)
    return Archive(output, manifest, size, contents.left_out)


class _Packer:
    """Writes the members of one archive, one after the other, and lists them."""

    def __init__(
        self,
        prefix: Path,
        carried: str,
        contents: Contents,
        writer: MemberWriter,
        local_paths: LocalPaths,
        reporter: Reporter,
    ) -> None:
        self._prefix = prefix
        self._root = os.fspath(prefix)
        self._contents = contents
        self._found = found = contents.found
        self._local_paths = local_paths
        self._writer = writer
        self._needs = NeedsCollector()
        self._files: list[File] = []
        self._hashing = HashingThread()
        self._unhashed: list[tuple[int, Future[str]]] = []

        def no_room(path: str) -> None:
            reporter.notice(f"{path} keeps {carried}: it has no room for any other prefix as long as the placeholder")

        self._canonical = Canonicaliser(carried, read_records(prefix), found.placeholder_lengths, no_room)

    def run(self, name: str, step: Step) -> Manifest:
        for folder in sorted({*self._found.folders, "bin", "conda-meta", RECORDS_DIR}):
            self._add_folder(folder)
        owner = None
        for path in self._found.files:
            try:
                check_length(path)
            except ValueError as error:
                raise self._refused(str(error), "Rename it") from None
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
        self._add_made(RELOCATION_FILE, 0o644, relocation_json(PLACEHOLDER, self._hashed_files()))
        return Manifest(
            name=name,
            platform=self._found.platform,
            python=self._found.python,
            created_by=_created_by(),
            packages=self._found.packages,
            host_needs=self._needs.host_needs(self._found.files, self._found.packages, self._found.virtual_packages),
            files=tuple(self._hashed_files()),
            left_out=self._contents.missing,
        )

    def close(self) -> None:
        """Stop the hashing thread."""
        self._hashing.close()

    def _hashed_files(self) -> list[File]:
        """What has been added so far, once the hashing thread is done with it."""
        for position, digest in self._unhashed:
            self._files[position] = replace(self._files[position], sha256=digest.result())
        self._unhashed.clear()
        return self._files

    def _add_folder(self, path: str) -> None:
        try:
            mode = stat.S_IMODE(os.lstat(f"{self._root}/{path}").st_mode) & 0o777
        except FileNotFoundError:
            mode = 0o755
        frame, offset = self._writer.member(path, "folder", mode, MADE_MTIME)
        self._files.append(File(path, "folder", mode, MADE_MTIME, frame, offset))

    def _add_link(self, path: str, owner: str) -> None:
        target = self._found.targets[path]
        frame, offset = self._writer.member(path, "link", 0o777, MADE_MTIME, target=target)
        self._files.append(File(path, "link", 0o777, MADE_MTIME, frame, offset, owner=owner, target=target))

    def _add_made(self, path: str, mode: int, content: bytes) -> None:
        self._add(path, mode, MADE_MTIME, "trainenv", content, None)

    def _add_file(self, path: str, owner: str) -> None:
        try:
            place = self._found.places.get(path) or f"{self._root}/{path}"
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(path, error) from None
        try:
            before = os.fstat(descriptor)
            mode = before.st_mode & 0o777
            mtime = min(max(int(before.st_mtime), 0), tarformat.LATEST_MTIME)
            if in_memory(path, before.st_size):
                data = _read_all(descriptor, before.st_size)
                if _differ(before, os.fstat(descriptor)) or len(data) != before.st_size:
                    raise self._changed(path)
                if data.startswith(MAGIC):
                    self._needs.add(path, needs(data))
                content, occurrences = self._canonical.whole(path, data)
                self._local_paths.look(path, content)
                self._add(path, mode, mtime, owner, content, None if occurrences is None else occurrences.to_json())
            else:
                self._add_streamed(path, descriptor, before.st_size, mode, mtime, owner)
                if _differ(before, os.fstat(descriptor)):
                    raise self._changed(path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise self._unreadable(path, error) from None
        finally:
            os.close(descriptor)

    def _add(
        self, path: str, mode: int, mtime: int, owner: str, content: bytes, occurrences: dict[str, object] | None
    ) -> None:
        size = len(content)
        frame, offset = self._writer.member(path, "file", mode, mtime, size, blocks=(content,))
        digest = ""
        if size < HASHED_ASIDE:
            digest = sha256(content)
        else:
            self._unhashed.append((len(self._files), self._hashing.submit(sha256, content)))
        self._files.append(File(path, "file", mode, mtime, frame, offset, size, digest, owner, occurrences=occurrences))

    def _add_streamed(self, path: str, descriptor: int, size: int, mode: int, mtime: int, owner: str) -> None:
        self._needs.add(path, needs(self._found.places.get(path) or f"{self._root}/{path}"))
        size, content, occurrences = self._canonical.streamed(path, descriptor, size)
        digest = hashlib.sha256()

        def blocks() -> Iterator[bytes]:
            written = 0
            for block in content():
                self._hashing.submit(digest.update, block)
                written += len(block)
                if written > size:
                    raise self._changed(path)
                yield block
            if written != size:
                raise self._changed(path)

        frame, offset = self._writer.member(path, "file", mode, mtime, size, blocks=blocks())
        plain = None if occurrences is None else occurrences.to_json()
        self._unhashed.append((len(self._files), self._hashing.submit(digest.hexdigest)))
        self._files.append(File(path, "file", mode, mtime, frame, offset, size, "", owner, occurrences=plain))

    def _refused(self, cause: str, hint: str) -> ArchiveError:
        return ArchiveError(f"{self._prefix} can't be packed", cause=cause, hint=hint)

    def _unreadable(self, path: str, error: OSError) -> ArchiveError:
        return self._refused(f"{path}: {error.strerror or error}", "Mend it, then pack again")

    def _changed(self, path: str) -> ArchiveError:
        return self._refused(f"{path} changed while it was read", "Pack again when nothing writes there")


def _make_executable(file: BinaryIO) -> None:
    """For all who may read it."""
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2)


def _own_folders(settings: Settings | None) -> list[Path]:
    """What belongs to this machine or its user: a file that names it may not work elsewhere."""
    home = Path("~").expanduser()
    return [home] if settings is None else [home, settings.root, settings.envs_dir, settings.cache_dir]


def _recorded_prefix(prefix: Path) -> str:
    try:
        return (prefix / PREFIX_FILE).read_text().strip() or str(prefix)
    except FileNotFoundError:
        return PLACEHOLDER if (prefix / RELOCATION_FILE).exists() else str(prefix)


def _created_by() -> str:
    import importlib.metadata

    try:
        return f"trainenv {importlib.metadata.version('trainenv')}"
    except importlib.metadata.PackageNotFoundError:
        return "trainenv"


def _read_all(descriptor: int, size: int) -> bytes:
    """Up to one byte more than ``size``, so that a file that grew shows."""
    data = os.read(descriptor, size + 1)
    while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
        data += more
    return data


def _differ(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


@contextmanager
def _appearing(output: Path) -> Iterator[BinaryIO]:
    """A file that gets the name ``output`` when the block ends well, and not before.

    Until then it is a hidden file beside it, locked by its writer; one that a killed process left
    is taken over. Raises ``ArchiveError`` if ``output`` is there, or is being written by another.
    """
    hidden = output.parent / f".{output.name}.part"
    if os.path.lexists(output):
        raise _taken(output)
    try:
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise ArchiveError(f"{output} can't be written", cause=error.strerror or str(error)) from None
    with os.fdopen(descriptor, "w+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(
                f"{output} is being written by another process", hint="Wait for it, or choose another name"
            ) from None
        if os.path.lexists(output):
            raise _taken(output)
        try:
            file.truncate()
            yield file
            file.flush()
            os.rename(hidden, output)
        except OSError as error:
            hidden.unlink(missing_ok=True)
            raise ArchiveError(
                f"{output} can't be written",
                cause=error.strerror or str(error),
                hint="Free some space or choose another disk" if error.errno == errno.ENOSPC else "",
            ) from None
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise


def _taken(output: Path) -> ArchiveError:
    return ArchiveError(f"{output} exists already", hint="Remove it first, or choose another name")
