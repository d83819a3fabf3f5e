"""A squashfs image as an archive: written by ``mksquashfs`` from the tar, read member by member without it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, BinaryIO

from trainenv.archives import footer
from trainenv.archives.formats import Form
from trainenv.archives.frames import FRAME_SIZE
from trainenv.archives.hashing import HASHED_ASIDE, sha256
from trainenv.archives.manifest import Manifest
from trainenv.archives.members import KINDS, File, Files
from trainenv.archives.programs import required
from trainenv.archives.sources import ByteSource, damaged
from trainenv.archives.squashfs_tree import Node, Tree
from trainenv.errors import ArchiveError

_HASHERS = 2
_BLOCKS_AHEAD = 8
_MEMORY = "64M"
_VERSION = re.compile(r"mksquashfs version (\d+)\.(\d+)")
_OLDEST = (4, 5)
"""The first mksquashfs that reads a tar."""


def find_program() -> str:
    """Where ``mksquashfs`` is. Raises ``ArchiveError`` where it is missing or too old."""
    program = required("mksquashfs", "squashfs images", "squashfs-tools")
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stdout
    version = _VERSION.search(said)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        raise ArchiveError(
            "this mksquashfs can't read a tar",
            cause=said.partition("\n")[0],
            hint="Install squashfs-tools 4.5 or newer",
        )
    return program


class ImageFile:
    """Pipes the tar into ``mksquashfs``, which writes to ``out``; then adds manifest, index and footer.

    No member is newer than ``latest``, in seconds. ``mksquashfs`` 4.5 gives the root folder the time at which it runs,
    if that is not later than what it is told as the time of the source; so the same tar gives the same image.
    """

    def __init__(self, form: Form, out: BinaryIO, latest: int) -> None:
        self._out = out
        options = ["-comp", "zstd", "-Xcompression-level", str(form.level), "-processors", str(form.threads)]
        options += ["-mem", _MEMORY, "-no-xattrs", "-no-exports", "-all-root", "-root-mode", "755"]
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [find_program(), "-", f"/dev/fd/{out.fileno()}", "-tar", "-noappend", "-quiet", "-no-progress", *options],
            stdin=subprocess.PIPE,
            stdout=self._complaints,
            stderr=self._complaints,
            pass_fds=[out.fileno()],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(latest), "LC_ALL": "C"},
            start_new_session=True,
        )

    def add(self, parts: list[bytes], size: int) -> None:
        assert self._process.stdin is not None
        try:
            for part in parts:
                self._process.stdin.write(part)
        except BrokenPipeError:
            raise self._failed() from None

    def finish(self, manifest: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            raise self._failed() from None
        if self._process.wait() != 0:
            raise self._failed()
        size = self._out.seek(0, os.SEEK_END)
        self._out.write(footer.of_image(manifest, size, list(_digests(_Pieces(self._out.fileno()), size))))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._complaints.close()

    def _failed(self) -> ArchiveError | OSError:
        self._process.wait()
        self._complaints.seek(0)
        lines = [line.strip() for line in self._complaints.read().decode(errors="replace").splitlines()]
        said = [line for line in lines if line and "Empty tar filename" not in line]
        if any(os.strerror(errno.ENOSPC) in line for line in said):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return ArchiveError(
            "mksquashfs could not make the image",
            cause=next(
                (line for line in said if "FATAL" in line or "fail" in line), said[0] if said else "it was killed"
            ),
        )


class ImageReader:
    """Reads the members of an image in whatever order they are asked for; see ``reading.Reader``."""

    def __init__(self, source: ByteSource, manifest: Manifest, ending: footer.Ending | None = None) -> None:
        ending = ending or footer.read(source)
        if ending is None or ending.form != footer.IMAGE:
            raise damaged(source.name, "it has no footer of an image")
        self._archive = source.name
        self._source = source
        self._ending = ending
        self._members: dict[str, int] = {}
        files = manifest.files
        known = set(map(files.path, range(len(files))))
        try:
            self._tree = Tree(source, ending.body)
            for path, reference in self._tree.members():
                if path not in known:
                    raise ValueError(f"it has {path!r}, which its manifest lacks")
                if path in self._members:
                    raise ValueError(f"it has {path!r} twice")
                self._members[path] = reference
        except ValueError as error:
            raise damaged(self._archive, str(error)) from None
        self._node = Node("", 0, 0)
        self._pool = ThreadPoolExecutor(_HASHERS, thread_name_prefix="decompress")

    def header(self, file: File) -> None:
        self._node = self._checked(file.path, (file.kind, file.mode, file.mtime, file.size, file.target))

    def headers(self, files: Files) -> None:
        """What ``header`` does for each of ``files``, without making them."""
        columns = zip(files.kinds, files.modes, files.mtimes, files.sizes, strict=True)
        for number, (letter, *values) in enumerate(columns):
            self._checked(files.path(number), (KINDS[chr(letter)], *values, files.targets.get(number, "")))

    def _checked(self, path: str, expected: tuple[object, ...]) -> Node:
        """The member at ``path``, if its kind, mode, time, size and target are the expected ones."""
        if path not in self._members:
            raise damaged(self._archive, f"{path!r} is not in it")
        try:
            node = self._tree.node(self._members[path])
        except ValueError as error:
            raise damaged(self._archive, f"{path!r}: {error}") from None
        if node[:5] != expected:
            raise damaged(self._archive, f"{path!r} is not what the manifest says")
        return node

    def content(self, file: File) -> bytes:
        return b"".join(self.blocks(file))

    def blocks(self, file: File) -> Iterator[bytes]:
        try:
            if file.size < HASHED_ASIDE:
                content = b"".join(self._content())
                if sha256(content) != file.sha256:
                    raise self._mismatch(file)
                yield content
                return
            digest = hashlib.sha256()
            held = b""
            for block in self._content():
                digest.update(block)
                if held:
                    yield held
                held = block
            if digest.hexdigest() != file.sha256:
                raise self._mismatch(file)
            yield held
        except ValueError as error:
            raise damaged(self._archive, f"{file.path!r} can't be decompressed ({error})") from None

    def end(self) -> None:
        check_pieces(self._source, self._ending)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _content(self) -> Iterator[bytes]:
        """The content of the node at hand, its blocks made in threads a few ahead."""
        places = list(self._tree.blocks(self._node))
        if len(places) < 2:
            yield from (self._tree.block(*place) for place in places)
        for start in range(0, len(places) if len(places) > 1 else 0, _BLOCKS_AHEAD):
            run = places[start : start + _BLOCKS_AHEAD]
            yield from self._pool.map(lambda place: self._tree.block(*place), run)
        if end := self._tree.end(self._node):
            yield end

    def _mismatch(self, file: File) -> ArchiveError:
        return damaged(self._archive, f"{file.path!r} has not the sha256 that the manifest records")


def check_pieces(source: ByteSource, ending: footer.Ending) -> None:
    """Hold every byte of an image against the sha256 of its piece. Raises ``ArchiveError``."""
    expected = ending.pieces(source.name)
    for number, digest in enumerate(_digests(source, ending.body)):
        if digest != expected[number]:
            raise damaged(source.name, f"the 4 MiB from byte {number * FRAME_SIZE} on are not what was packed")


class _Pieces:
    """What ``_digests`` needs of an open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, start)


def _digests(source: ByteSource | _Pieces, size: int) -> Iterator[bytes]:
    """The sha256 of each 4 MiB; as many threads hash as the machine has cores, up to eight."""

    def digest(start: int) -> bytes:
        return hashlib.sha256(source.read(start, min(FRAME_SIZE, size - start))).digest()

    starts: Sequence[int] = range(0, size, FRAME_SIZE)
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 8), thread_name_prefix="hash") as pool:
        for first in range(0, len(starts), 16):
            yield from pool.map(digest, starts[first : first + 16])
