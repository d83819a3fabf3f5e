"""How the frames of an archive are packed: in zstd, in deflate (gzip), or as they are.

A frame can be unpacked alone, and what stands one after the other is one file to the programs of the trade. For
``zstd`` each is a frame of its own; for ``gzip`` all are parts of one member, as some programs read no second one:
none looks back into the one before it, and each ends at a whole byte.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

Compress = Callable[[bytes], tuple[bytes, int]]
"""Makes one frame, and its CRC-32 where the format records one. Several threads may call it, side by side."""


@dataclass(frozen=True)
class Codec:
    """``compressor`` gives what compresses at a level; ``decompress`` gives back just so many bytes.

    ``decompress`` never allocates more, and raises ``ValueError`` for a frame that is damaged or of another size.
    ``shortest`` is how many bytes a frame has at least.
    """

    compressor: Callable[[int], Compress]
    decompress: Callable[[bytes, int], bytes]
    shortest: int


_own = threading.local()


def _zstd_compressor(level: int) -> Compress:
    own = threading.local()

    def compress(content: bytes) -> tuple[bytes, int]:
        compressor: zstandard.ZstdCompressor | None = getattr(own, "compressor", None)
        if compressor is None:
            import zstandard

            compressor = zstandard.ZstdCompressor(level, write_checksum=True, write_content_size=True)
            own.compressor = compressor
        return compressor.compress(content), 0

    return compress


def _zstd_decompress(packed: bytes, size: int) -> bytes:
    import zstandard

    decompressor: zstandard.ZstdDecompressor | None = getattr(_own, "decompressor", None)
    if decompressor is None:
        decompressor = _own.decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(packed) != size:
            raise ValueError("a frame has another size than the seek table says")
        content = decompressor.decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if len(content) != size:
        raise ValueError("a frame is cut short")
    return content


def _deflate_compressor(level: int) -> Compress:
    def compress(content: bytes) -> tuple[bytes, int]:
        deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        return deflater.compress(content) + deflater.flush(zlib.Z_FULL_FLUSH), zlib.crc32(content)

    return compress


def _deflate_decompress(packed: bytes, size: int) -> bytes:
    return _inflated(packed, size, whole=False)


def deflated(content: bytes) -> bytes:
    """``content`` as a whole deflate stream."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def inflated(packed: bytes, size: int) -> bytes:
    """The ``size`` bytes of a whole deflate stream, never allocating more. ``ValueError`` if not so."""
    return _inflated(packed, size, whole=True)


def _inflated(packed: bytes, size: int, *, whole: bool) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(content) != size or inflater.eof is not whole or inflater.unused_data or inflater.unconsumed_tail:
        raise ValueError("it has another size than was recorded")
    return content


def _stored(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise ValueError("it has another size than was recorded")
    return content


ZSTD = Codec(_zstd_compressor, _zstd_decompress, 4)
DEFLATE = Codec(_deflate_compressor, _deflate_decompress, 5)
STORED = Codec(lambda _: lambda content: (content, zlib.crc32(content)), _stored, 1)


def joined_crc(first: int, second: int, size: int) -> int:
    """The CRC-32 of two runs of bytes one after the other; the second one has ``size``."""
    return _product(_power_of_x(8 * size), first) ^ second


_ONE = 1 << 31
_CRC_POLYNOMIAL = 0xEDB88320
"""A CRC-32 is a polynomial over two elements, its highest bit the coefficient of 1; this is the modulus."""


def _product(one: int, other: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (_CRC_POLYNOMIAL if other & 1 else 0)
    return product


@lru_cache(maxsize=4096)
def _power_of_x(exponent: int) -> int:
    if exponent == 0:
        return _ONE
    half = _power_of_x(exponent // 2)
    square = _product(half, half)
    return _product(square, _ONE >> 1) if exponent % 2 else square
