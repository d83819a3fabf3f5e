"""The tar layer: the exact bytes of a member's header, a pure function of the member.

Because a header says nothing that the manifest does not say, an unpacker needs no tar parser: it
makes the header that must be there and compares. Headers are POSIX ustar; what ustar can't hold
(long or non-ASCII names, files from 8 GiB) goes into a pax extended header before it.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
"""What closes a tar: two blocks of zeros."""

LATEST_MTIME = 8**11 - 1
"""The last second that an ustar header can hold (in the year 2242)."""

LARGEST_SIZE = 8**11 - 1
"""Bytes of the largest file whose size an ustar header can hold."""

LONGEST_NAME = 100
"""A shorter path in ASCII fits into an ustar header as it is."""

_NOBODY = b"0000000\0"
"""User 0, group 0, device 0."""

_TYPES = {"file": "0", "link": "2", "folder": "5"}


def is_header(block: bytes) -> bool:
    """Whether ``block`` is the header of some tar's member."""
    return len(block) == BLOCK and block[257:262] == b"ustar"


def padding(size: int) -> int:
    """How many zero bytes follow ``size`` bytes of content."""
    return -size % BLOCK


def header_size(path: str, kind: str, size: int, target: str = "") -> int:
    """How many bytes ``header`` of the same member has."""
    if _fits_ustar(path, size, target):
        return BLOCK
    return len(header(path, kind, 0, size, 0, target))


def header(path: str, kind: str, mode: int, size: int, mtime: int, target: str = "") -> bytes:
    """The header of one member (a multiple of 512 bytes). ``size`` is 0 unless it is a file."""
    name = path + "/" if kind == "folder" else path
    if _fits_ustar(path, size, target):
        return _ustar(name.encode(), "", _TYPES[kind], mode, size, mtime, target.encode())
    return _extended(name, kind, mode, size, mtime, target)


def _fits_ustar(path: str, size: int, target: str) -> bool:
    """Whether a header needs nothing but ustar's own fields; a folder's name gets a slash more."""
    return (
        len(path) < LONGEST_NAME and size <= LARGEST_SIZE and len(target) <= 100 and path.isascii() and target.isascii()
    )


def _extended(name: str, kind: str, mode: int, size: int, mtime: int, target: str) -> bytes:
    """A header with what does not fit into ustar's own fields moved to a pax header before it."""
    records = b""
    prefix = ""
    encoded, encoded_target = name.encode(), target.encode()
    if not name.isascii() or len(name) > 100:
        prefix, short = _split(name) if name.isascii() else ("", "")
        if short:
            encoded = short.encode()
        else:
            records += _record("path", encoded)
            encoded = encoded[:100]
    if not target.isascii() or len(target) > 100:
        records += _record("linkpath", encoded_target)
        encoded_target = encoded_target[:100]
    if size > LARGEST_SIZE:
        records += _record("size", str(size).encode())
        size = 0
    own = _ustar(encoded, prefix, _TYPES[kind], mode, size, mtime, encoded_target)
    if not records:
        return own
    before = _ustar(b"././@PaxHeader", "", "x", 0o644, len(records), mtime, b"")
    return before + records + bytes(padding(len(records))) + own


def _split(name: str) -> tuple[str, str]:
    """``name`` cut at a slash into ustar's prefix (155 bytes) and name (100), or two empty strings."""
    cut = name.find("/", len(name) - 101)
    if cut == -1 or cut > 155 or cut >= len(name) - 1:
        return "", ""
    return name[:cut], name[cut + 1 :]


def _record(key: str, value: bytes) -> bytes:
    """One pax record: its own length in decimal (counting those digits), key and value."""
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


_FIXED_SUM = sum(b"ustar" + b"00" + 4 * _NOBODY) + 8 * ord(" ")
"""What is the same in all headers adds this to their checksum, whose own field counts as eight blanks."""


def _ustar(name: bytes, prefix: str, kind: str, mode: int, size: int, mtime: int, target: bytes) -> bytes:
    numbers = b"%07o" % mode, b"%011o" % size, b"%011o" % mtime
    own = kind.encode(), prefix.encode()
    checksum = _FIXED_SUM + sum(b"".join((name, target, *numbers, *own)))
    return b"%s%s\x00%s%s%s\x00%s\x00%06o\x00 %s%sustar\x0000%s%s%s%s" % (
        name.ljust(100, b"\0"),
        numbers[0],
        _NOBODY,
        _NOBODY,
        numbers[1],
        numbers[2],
        checksum,
        own[0],
        target.ljust(100, b"\0"),
        bytes(64),
        _NOBODY,
        _NOBODY,
        own[1].ljust(167, b"\0"),
    )
