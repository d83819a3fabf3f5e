"""The zstd layer: independent frames, the manifest in a skippable frame, the seek table at the end.

::

    data frame 0 | data frame 1 | ... | manifest (skippable) | seek table (skippable)

The data frames hold the tar, cut so that a frame begins with a member wherever that is possible.
The seek table is that of zstd's seekable format; it lists every frame before it, the manifest's
as one with no content. All numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from trainenv.archives.sources import ByteSource, damaged
from trainenv.errors import ArchiveError

if TYPE_CHECKING:
    import zstandard

FRAME_SIZE = 4 << 20
"""Most bytes of tar that one frame holds."""

GROUP_SIZE = 1 << 20
"""At the end of a package a frame closes if it holds as much, so that packages rarely share one."""

MANIFEST_LIMIT = 256 << 20
"""A manifest that claims to be longer is refused before it is decompressed."""

_FRAMES_AHEAD = 6

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = struct.Struct("<II")
_MANIFEST_MAGIC = 0x184D2A5D
_SEEK_TABLE_MAGIC = 0x184D2A5E
_SEEK_ENTRY = struct.Struct("<II")
_SEEK_FOOTER = struct.Struct("<IBI")
_SEEKABLE_MAGIC = 0x8F92EAB1
_MANIFEST_HEAD = struct.Struct("<8sIQ32s")
_MANIFEST_NAME = b"trainenv"
_MANIFEST_VERSION = 1


class FrameWriter:
    """Cuts a stream of tar bytes into frames, compresses them in threads, writes them in order.

    At most ``threads + 2`` frames are in memory at a time.
    """

    def __init__(self, out: BinaryIO, level: int, threads: int) -> None:
        self._out = out
        self._level = level
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._pending: deque[tuple[int, Future[bytes]]] = deque()
        self._most_pending = threads + 2
        self._own = threading.local()
        self._parts: list[bytes] = []
        self._filled = 0
        self._begun = 0
        self._entries: list[tuple[int, int]] = []

    def begin_member(self, size: int) -> tuple[int, int]:
        """Where (frame, offset in it) the next member begins, which is ``size`` bytes in all.

        A member that fits no frame has its frames for itself.
        """
        if self._filled and self._filled + size > FRAME_SIZE:
            self.end_frame()
        return self._begun, self._filled

    def write(self, block: bytes) -> None:
        """Append to the tar; frames that are full are handed on."""
        while self._filled + len(block) > FRAME_SIZE:
            room = FRAME_SIZE - self._filled
            self._parts.append(block[:room])
            self._filled = FRAME_SIZE
            self.end_frame()
            block = block[room:]
        self._parts.append(block)
        self._filled += len(block)

    def end_member(self, size: int) -> None:
        """Close the frame if the member of ``size`` bytes had frames for itself."""
        if size > FRAME_SIZE:
            self.end_frame()

    def end_package(self) -> None:
        """Close the frame if it is worth it: the next member belongs to another package."""
        if self._filled >= GROUP_SIZE:
            self.end_frame()

    def end_frame(self) -> None:
        """Hand the bytes gathered so far to a compressing thread."""
        if not self._filled:
            return
        self._pending.append((self._filled, self._pool.submit(self._compressed, self._parts)))
        self._parts, self._filled = [], 0
        self._begun += 1
        while len(self._pending) > self._most_pending:
            self._write_oldest()

    def finish(self, manifest: bytes) -> None:
        """Write what is left, the manifest and the seek table."""
        self.end_frame()
        while self._pending:
            self._write_oldest()
        packed = self._compressed([manifest])
        digest = hashlib.sha256(manifest).digest()
        head = _MANIFEST_HEAD.pack(_MANIFEST_NAME, _MANIFEST_VERSION, len(manifest), digest)
        self._out.write(_SKIPPABLE.pack(_MANIFEST_MAGIC, len(head) + len(packed)) + head + packed)
        self._entries.append((_SKIPPABLE.size + len(head) + len(packed), 0))
        table = b"".join(_SEEK_ENTRY.pack(*entry) for entry in self._entries)
        table += _SEEK_FOOTER.pack(len(self._entries), 0, _SEEKABLE_MAGIC)
        self._out.write(_SKIPPABLE.pack(_SEEK_TABLE_MAGIC, len(table)) + table)

    def close(self) -> None:
        """Stop the threads; what is still waiting is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _compressed(self, parts: list[bytes]) -> bytes:
        compressor: zstandard.ZstdCompressor | None = getattr(self._own, "compressor", None)
        if compressor is None:
            import zstandard

            compressor = zstandard.ZstdCompressor(self._level, write_checksum=True, write_content_size=True)
            self._own.compressor = compressor
        return compressor.compress(parts[0] if len(parts) == 1 else b"".join(parts))

    def _write_oldest(self) -> None:
        size, future = self._pending.popleft()
        packed = future.result()
        self._out.write(packed)
        self._entries.append((len(packed), size))


@dataclass(frozen=True)
class Frame:
    """A data frame: where it lies in the file, and how many bytes it is there and decompressed."""

    start: int
    compressed: int
    size: int


def read_tail(source: ByteSource) -> tuple[bytes, list[Frame]]:
    """The manifest's JSON and the data frames, from the end of the archive alone."""
    entries = _seek_table(source)
    frames = []
    start = 0
    for compressed, size in entries:
        frames.append(Frame(start, compressed, size))
        start += compressed
    manifest = frames.pop()
    for frame in frames:
        if not 0 < frame.size <= FRAME_SIZE or frame.compressed < len(_ZSTD_MAGIC):
            raise damaged(source.name, "its seek table names a frame of an impossible size")
    if manifest.size != 0 or not frames:
        raise damaged(source.name, "its seek table names no manifest")
    return _manifest(source.name, source.read(manifest.start, manifest.compressed)), frames


def _seek_table(source: ByteSource) -> list[tuple[int, int]]:
    """(compressed, decompressed) sizes of all frames, which fill the archive up to the seek table."""
    if source.size < _SKIPPABLE.size + _SEEK_FOOTER.size:
        raise _foreign(source)
    count, descriptor, magic = _SEEK_FOOTER.unpack(source.read(source.size - _SEEK_FOOTER.size, _SEEK_FOOTER.size))
    if magic != _SEEKABLE_MAGIC:
        raise _foreign(source)
    size = count * _SEEK_ENTRY.size + _SEEK_FOOTER.size
    start = source.size - size - _SKIPPABLE.size
    if descriptor != 0 or count == 0 or start < 0:
        raise damaged(source.name, "its seek table is wrong")
    table = source.read(start, size + _SKIPPABLE.size)
    if _SKIPPABLE.unpack_from(table) != (_SEEK_TABLE_MAGIC, size):
        raise damaged(source.name, "its seek table is wrong")
    entries = list(_SEEK_ENTRY.iter_unpack(table[_SKIPPABLE.size : -_SEEK_FOOTER.size]))
    if sum(compressed for compressed, _ in entries) != start:
        raise damaged(source.name, "its seek table does not cover its frames")
    return entries


def _manifest(archive: str, frame: bytes) -> bytes:
    """The manifest's JSON out of its skippable frame, checked against its sha256."""
    import zstandard

    begin = _SKIPPABLE.size + _MANIFEST_HEAD.size
    if len(frame) < begin or _SKIPPABLE.unpack_from(frame) != (_MANIFEST_MAGIC, len(frame) - _SKIPPABLE.size):
        raise damaged(archive, "its manifest is missing")
    name, version, size, digest = _MANIFEST_HEAD.unpack_from(frame, _SKIPPABLE.size)
    if name != _MANIFEST_NAME:
        raise _incomplete(archive)
    if version != _MANIFEST_VERSION:
        raise ArchiveError(
            f"{archive} has archive format {version}",
            cause=f"this trainenv reads format {_MANIFEST_VERSION}",
            hint="Unpack it with a newer trainenv",
        )
    if size > MANIFEST_LIMIT:
        raise damaged(archive, "its manifest is impossibly long")
    try:
        manifest = decompressed(zstandard.ZstdDecompressor(), frame[begin:], size)
    except ValueError as error:
        raise damaged(archive, f"its manifest can't be read ({error})") from None
    if hashlib.sha256(manifest).digest() != digest:
        raise damaged(archive, "its manifest has not the recorded sha256")
    return manifest


def decompressed(decompressor: zstandard.ZstdDecompressor, packed: bytes, size: int) -> bytes:
    """The ``size`` bytes of the one frame ``packed``, never allocating more. ``ValueError`` if not so."""
    import zstandard

    try:
        if zstandard.frame_content_size(packed) != size:
            raise ValueError("a frame has another size than the seek table says")
        content = decompressor.decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if len(content) != size:
        raise ValueError("a frame is cut short")
    return content


def read_frames(
    source: ByteSource, frames: list[Frame], examine: Callable[[bytes], None]
) -> Generator[bytes, None, None]:
    """The decompressed frames in order, a few of them made in advance by another thread.

    That thread gives each to ``examine`` first. A frame that can't be decompressed raises
    ``ValueError`` when its turn comes, and so does what ``examine`` raises.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor()

    def content(frame: Frame) -> bytes:
        packed = source.read(frame.start, frame.compressed)
        made = decompressed(decompressor, packed, frame.size)
        examine(made)
        return made

    with ThreadPoolExecutor(1, thread_name_prefix="decompress") as pool:
        pending: deque[Future[bytes]] = deque()
        try:
            for frame in frames:
                pending.append(pool.submit(content, frame))
                if len(pending) > _FRAMES_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _foreign(source: ByteSource) -> ArchiveError:
    if source.size >= len(_ZSTD_MAGIC) and source.read(0, len(_ZSTD_MAGIC)) == _ZSTD_MAGIC:
        return _incomplete(source.name)
    return ArchiveError(
        f"{source.name} is not a trainenv archive", hint="`trainenv pack` makes one; see `trainenv pack --help`"
    )


def _incomplete(archive: str) -> ArchiveError:
    cause = "its end is missing: it was cut short, or another program than trainenv made it"
    return ArchiveError(f"{archive} is not a whole trainenv archive", cause=cause, hint="Copy or pack it again")
