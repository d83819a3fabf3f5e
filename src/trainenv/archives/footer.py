"""How all archives but a ``.tar.zst`` end: manifest, index and a footer of fixed size, told by the last bytes.

::

    body | manifest (raw deflate) | index | zeros | footer

The body is what other programs read, and they pass over the rest: tars end where two blocks of zeros are, an image
where its own header says. In a ``.tar.gz`` the body is one gzip member, and the rest lies in extra fields of more
members without content: what ``gzip -d`` gives is the tar and nothing else. The index lists the body's parts: the
frames of a tar by their packed and unpacked sizes and CRC-32, an image in pieces of 4 MiB with their sha256. All
numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from trainenv.archives.codecs import DEFLATE, STORED, deflated, inflated, joined_crc
from trainenv.archives.frames import FRAME_SIZE, Frame, Packed
from trainenv.archives.manifest import FORMAT_VERSION, LONGEST
from trainenv.archives.sources import ByteSource, damaged, of_another_version

GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\x00\xff"
"""With what a ``.tar.gz`` begins: no name, no time."""

TAR, TAR_GZ, IMAGE = b"tar", b"tar.gz", b"squashfs"

_NAME = b"trainenv"
_FOOTER = struct.Struct("<8sI8sQQQQ32s32s")
_FRAME = struct.Struct("<III")
_PIECE = struct.Struct("<32s")
_BLOCK = 512
_MOST_ENTRIES = 1 << 24

_GZIP_END = struct.Struct("<2sII")
_NO_MORE = b"\x03\0"
"""A last and empty block of deflate."""

_EXTRA_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\x00\xff"
_EXTRA = struct.Struct("<H2sH")
_EXTRA_NAME = b"TE"
_EXTRA_MOST = 0x2000
"""An extra field could have 64 KiB; busybox calls one corrupted that is longer than its buffer of 16 KiB."""

_NO_CONTENT = _GZIP_END.pack(_NO_MORE, 0, 0)
_CARRIER = len(_EXTRA_HEAD) + _EXTRA.size + len(_NO_CONTENT)
"""Bytes that a gzip member has which carries some in its extra field, besides those."""


@dataclass(frozen=True)
class Ending:
    """What a footer leads to: the manifest's JSON, how long the body is and of what form, and the index."""

    form: bytes
    manifest: bytes
    body: int
    index: bytes

    def frames(self, source: ByteSource) -> list[Frame]:
        """The frames of a tar. Raises ``ArchiveError`` if the index is not that of one."""
        in_gzip = self.form == TAR_GZ
        codec, start = (DEFLATE, len(GZIP_HEAD)) if in_gzip else (STORED, 0)
        found = []
        for compressed, size, crc in _FRAME.iter_unpack(self.index):
            if not 0 < size <= FRAME_SIZE or compressed < codec.shortest:
                raise damaged(source.name, "its index names a frame of an impossible size")
            found.append(Frame(start, compressed, size, codec, crc))
            start += compressed
        expected = _gzip_end(self.index) if in_gzip else b""
        if start + len(expected) != self.body or not found:
            raise damaged(source.name, "its index does not cover its frames")
        if in_gzip and (source.read(0, len(GZIP_HEAD)), source.read(start, len(expected))) != (GZIP_HEAD, expected):
            raise damaged(source.name, "it does not begin and end as its index says")
        return found

    def pieces(self, archive: str) -> list[bytes]:
        """The sha256 of each 4 MiB of an image; the last one may be shorter."""
        if self.body <= 0 or len(self.index) != -(-self.body // FRAME_SIZE) * _PIECE.size:
            raise damaged(archive, "its index does not cover it")
        return [digest for (digest,) in _PIECE.iter_unpack(self.index)]


def of_tar(manifest: bytes, frames: Sequence[Packed]) -> bytes:
    """What follows the frames of a plain tar. The whole then fills blocks of 512 bytes, as tars do."""
    index = b"".join(_FRAME.pack(*frame) for frame in frames)
    return _plain(TAR, manifest, sum(frame.compressed for frame in frames), index)


def of_tar_gz(manifest: bytes, frames: Sequence[Packed]) -> bytes:
    """What follows the frames of a ``.tar.gz``: the end of their gzip member, and members without content."""
    index = b"".join(_FRAME.pack(*frame) for frame in frames)
    ending = _gzip_end(index)
    packed = deflated(manifest)
    body = len(GZIP_HEAD) + sum(frame.compressed for frame in frames) + len(ending)
    return ending + _carried(packed + index) + _carried(_footer(TAR_GZ, manifest, packed, body, index))


def of_image(manifest: bytes, size: int, digests: Sequence[bytes]) -> bytes:
    """What follows an image of ``size`` bytes."""
    return _plain(IMAGE, manifest, size, b"".join(digests))


def is_of_tar(source: ByteSource) -> bool:
    """Whether ``source`` ends in the footer of a tar, damaged or not."""
    last, in_gzip = _last(source)
    footer = last[len(_EXTRA_HEAD) + _EXTRA.size :] if in_gzip else last[-_FOOTER.size :]
    form = footer[len(_NAME) + 4 :][:8].rstrip(b"\0")
    return footer.startswith(_NAME) and form in (TAR, TAR_GZ)


def read(source: ByteSource) -> Ending | None:
    """What the footer of ``source`` leads to; None without one. Raises ``ArchiveError`` if that is damaged."""
    last, in_gzip = _last(source)
    footer = _uncarried(source.name, last) if in_gzip else last[-_FOOTER.size :]
    if not footer.startswith(_NAME) or len(footer) != _FOOTER.size:
        return None
    _, version, form, body, packed_size, size, entries, manifest_digest, index_digest = _FOOTER.unpack(footer)
    form = form.rstrip(b"\0")
    if version != FORMAT_VERSION:
        raise of_another_version(source.name, version)
    if form not in (TAR, TAR_GZ, IMAGE) or (form == TAR_GZ) != in_gzip:
        raise damaged(source.name, "its footer is of no known form")
    index_size = entries * (_PIECE.size if form == IMAGE else _FRAME.size)
    between = source.size - len(last if in_gzip else footer) - body
    if size > LONGEST or packed_size > LONGEST or entries > _MOST_ENTRIES or between < packed_size + index_size:
        raise damaged(source.name, "its footer says what can't be")
    if between > 2 * (packed_size + index_size + _BLOCK) + _CARRIER:
        raise damaged(source.name, "its footer does not cover it")
    content = source.read(body, between)
    if in_gzip:
        content = _uncarried(source.name, content)
    packed, index, rest = (
        content[:packed_size],
        content[packed_size : packed_size + index_size],
        content[packed_size + index_size :],
    )
    if rest.strip(b"\0") or len(rest) >= (1 if in_gzip else _BLOCK):
        raise damaged(source.name, "there is something between its index and its end")
    try:
        manifest = inflated(packed, size)
    except ValueError as error:
        raise damaged(source.name, f"its manifest can't be read ({error})") from None
    if hashlib.sha256(manifest).digest() != manifest_digest:
        raise damaged(source.name, "its manifest has not the recorded sha256")
    if hashlib.sha256(index).digest() != index_digest:
        raise damaged(source.name, "its index has not the recorded sha256")
    return Ending(form, manifest, body, index)


def _last(source: ByteSource) -> tuple[bytes, bool]:
    """The bytes in which the footer is, and whether a gzip member carries it."""
    length = min(source.size, _FOOTER.size + _CARRIER)
    last = source.read(source.size - length, length)
    return last, last.startswith(_EXTRA_HEAD) and last[len(_EXTRA_HEAD) + _EXTRA.size :].startswith(_NAME)


def _plain(form: bytes, manifest: bytes, body: int, index: bytes) -> bytes:
    packed = deflated(manifest)
    footer = _footer(form, manifest, packed, body, index)
    padding = -(body + len(packed) + len(index) + len(footer)) % _BLOCK
    return packed + index + bytes(padding) + footer


def _footer(form: bytes, manifest: bytes, packed: bytes, body: int, index: bytes) -> bytes:
    entries = len(index) // (_PIECE.size if form == IMAGE else _FRAME.size)
    digests = hashlib.sha256(manifest).digest(), hashlib.sha256(index).digest()
    return _FOOTER.pack(_NAME, FORMAT_VERSION, form, body, len(packed), len(manifest), entries, *digests)


def _gzip_end(index: bytes) -> bytes:
    """With what a gzip member of these frames ends: its CRC-32 and size."""
    crc = total = 0
    for _, size, own in _FRAME.iter_unpack(index):
        crc = joined_crc(crc, own, size)
        total += size
    return _GZIP_END.pack(_NO_MORE, crc, total & 0xFFFFFFFF)


def _carried(content: bytes) -> bytes:
    """``content`` in the extra fields of as many gzip members as it takes."""
    return b"".join(_carrier(content[start : start + _EXTRA_MOST]) for start in range(0, len(content), _EXTRA_MOST))


def _carrier(piece: bytes) -> bytes:
    return b"".join((_EXTRA_HEAD, _EXTRA.pack(len(piece) + 4, _EXTRA_NAME, len(piece)), piece, _NO_CONTENT))


def _uncarried(archive: str, members: bytes) -> bytes:
    """What ``_carried`` has put into ``members``, which is nothing but that."""
    pieces = []
    position = 0
    while position < len(members):
        begin = position + len(_EXTRA_HEAD) + _EXTRA.size
        if len(members) < begin:
            raise damaged(archive, "its end is no gzip member")
        length = _EXTRA.unpack_from(members, position + len(_EXTRA_HEAD))[2]
        pieces.append(members[begin : begin + length])
        position = begin + length + len(_NO_CONTENT)
    if b"".join(map(_carrier, pieces)) != members:
        raise damaged(archive, "its end is no gzip member")
    return b"".join(pieces)
