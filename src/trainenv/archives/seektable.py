"""How a ``.tar.zst`` ends: the manifest in a skippable frame, then zstd's standard seek table.

::

    data frame 0 | data frame 1 | ... | manifest (skippable) | seek table (skippable)

The seek table is that of zstd's seekable format; it lists every frame before it, the manifest's as one with no
content. All numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from trainenv.archives.codecs import ZSTD
from trainenv.archives.frames import FRAME_SIZE, Frame, Packed
from trainenv.archives.manifest import FORMAT_VERSION, LONGEST
from trainenv.archives.sources import ByteSource, damaged, incomplete, of_another_version

MAGIC = b"\x28\xb5\x2f\xfd"
"""With what a zstd frame begins."""

_SKIPPABLE = struct.Struct("<II")
_MANIFEST_MAGIC = 0x184D2A5D
_SEEK_TABLE_MAGIC = 0x184D2A5E
_SEEK_ENTRY = struct.Struct("<II")
_SEEK_FOOTER = struct.Struct("<IBI")
_SEEKABLE_MAGIC = 0x8F92EAB1
_MANIFEST_HEAD = struct.Struct("<8sIQ32s")
_MANIFEST_NAME = b"trainenv"
_MANIFEST_LEVEL = 9
"""From this level on the digits of hashes take no more room than they must. Level 19 saves another hundredth."""


def end(level: int, manifest: bytes, frames: Sequence[Packed]) -> bytes:
    """What follows the data frames."""
    packed, _ = ZSTD.compressor(max(level, _MANIFEST_LEVEL))(manifest)
    head = _MANIFEST_HEAD.pack(_MANIFEST_NAME, FORMAT_VERSION, len(manifest), hashlib.sha256(manifest).digest())
    before = _SKIPPABLE.pack(_MANIFEST_MAGIC, len(head) + len(packed)) + head
    entries = [*((frame.compressed, frame.size) for frame in frames), (len(before) + len(packed), 0)]
    table = b"".join(_SEEK_ENTRY.pack(*entry) for entry in entries)
    table += _SEEK_FOOTER.pack(len(entries), 0, _SEEKABLE_MAGIC)
    return b"".join((before, packed, _SKIPPABLE.pack(_SEEK_TABLE_MAGIC, len(table)), table))


def is_at_end_of(source: ByteSource) -> bool:
    """Whether ``source`` ends in a seek table, damaged or not."""
    length = min(source.size, _SEEK_FOOTER.size)
    return source.read(source.size - length, length).endswith(struct.pack("<I", _SEEKABLE_MAGIC))


def read(source: ByteSource) -> tuple[bytes, list[Frame]] | None:
    """The manifest's JSON and the data frames; None if ``source`` does not end in a seek table.

    Raises ``ArchiveError`` for one that is wrong.
    """
    entries = _entries(source)
    if entries is None:
        return None
    frames = []
    start = 0
    for compressed, size in entries:
        frames.append(Frame(start, compressed, size, ZSTD))
        start += compressed
    manifest = frames.pop()
    for frame in frames:
        if not 0 < frame.size <= FRAME_SIZE or frame.compressed < ZSTD.shortest:
            raise damaged(source.name, "its seek table names a frame of an impossible size")
    if manifest.size != 0 or not frames:
        raise damaged(source.name, "its seek table names no manifest")
    return _manifest(source.name, source.read(manifest.start, manifest.compressed)), frames


def _entries(source: ByteSource) -> list[tuple[int, int]] | None:
    """(compressed, decompressed) sizes of all frames, which fill the archive up to the seek table."""
    if source.size < _SKIPPABLE.size + _SEEK_FOOTER.size:
        return None
    count, descriptor, magic = _SEEK_FOOTER.unpack(source.read(source.size - _SEEK_FOOTER.size, _SEEK_FOOTER.size))
    if magic != _SEEKABLE_MAGIC:
        return None
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
    begin = _SKIPPABLE.size + _MANIFEST_HEAD.size
    if len(frame) < begin or _SKIPPABLE.unpack_from(frame) != (_MANIFEST_MAGIC, len(frame) - _SKIPPABLE.size):
        raise damaged(archive, "its manifest is missing")
    name, version, size, digest = _MANIFEST_HEAD.unpack_from(frame, _SKIPPABLE.size)
    if name != _MANIFEST_NAME:
        raise incomplete(archive)
    if version != FORMAT_VERSION:
        raise of_another_version(archive, version)
    if size > LONGEST:
        raise damaged(archive, "its manifest is impossibly long")
    try:
        manifest = ZSTD.decompress(frame[begin:], size)
    except ValueError as error:
        raise damaged(archive, f"its manifest can't be read ({error})") from None
    if hashlib.sha256(manifest).digest() != digest:
        raise damaged(archive, "its manifest has not the recorded sha256")
    return manifest
