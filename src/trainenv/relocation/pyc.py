"""Finds the strings of a compiled Python file that hold a prefix.

The strings of a ``.pyc`` carry their length, so a prefix in them can only be rewritten with it. Nearly
always the prefix begins a file name that other code objects refer back to, which shows from the bytes
before it; what is not that plain is found by walking the marshalled objects one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trainenv.relocation.rewrite import Data

HEADER_SIZE = 16
_MAGICS = range(3400, 20000)
"""Python 3.8 writes 3413, 3.7 3394; Python 2 and PyPy number theirs elsewhere."""
_MAGIC_WITH_LOCALSPLUS = 3450
"""From Python 3.11 on a code object has one number less and one object more."""

_REFERENCE_FLAG = 0x80
_SHORT = frozenset(code | _REFERENCE_FLAG for code in b"zZ")
_LONG = frozenset(code | _REFERENCE_FLAG for code in b"aAut")
_CODES = frozenset(b"NFTS.iIfgxylstuaAzZr()[{<>c:0")

_RAW_LONG, _PAIRS = 0, -1
_OBJECTS_OF_CODE = 8
"""Before the first line number, in every version: code, constants, names ... file name and name."""
_FIXED_SIZES = {ord(code): size for code, size in {"i": 4, "I": 8, "g": 8, "y": 16, "r": 4}.items()}
_EMPTY = frozenset(b"NFTS.0")
_STRINGS = frozenset(b"stuaAzZ")
_SEQUENCES = frozenset(b"([<>")


class FoundString(NamedTuple):
    """A marshalled string: where its type byte is, where its content begins and ends."""

    start: int
    content: int
    end: int


def is_readable(data: Data) -> bool:
    """Whether ``data`` is a compiled file of a Python whose code objects are known here."""
    return len(data) > HEADER_SIZE and data[2:4] == b"\r\n" and _magic(data) in _MAGICS


def strings_with(data: Data, ranges: list[tuple[int, int]]) -> list[FoundString] | None:
    """The strings that hold any of the byte ranges ``(start, end)``, which are in order.

    ``None`` if the objects can't be walked. Ranges that lie in no string are left out.
    """
    plain: list[FoundString] = []
    for start, end in ranges:
        if plain and end <= plain[-1].end:
            continue
        string = _flagged_string_at(data, start)
        if string is None or end > string.end:
            break
        plain.append(string)
    else:
        return plain
    try:
        walked = list(_strings(bytes(data)))
    except (IndexError, ValueError):
        return None
    return [s for s in walked if any(s.content <= start and end <= s.end for start, end in ranges)]


def _magic(data: Data) -> int:
    return int.from_bytes(data[:2], "little")


def _flagged_string_at(data: Data, content: int) -> FoundString | None:
    """The string that begins at ``content`` and that others refer back to.

    The type byte of such a string is over 0x7f and no UTF-8, so no text can look like it.
    """
    if content >= 2 + HEADER_SIZE and data[content - 2] in _SHORT:
        found = FoundString(content - 2, content, content + data[content - 1])
    elif content >= 5 + HEADER_SIZE and data[content - 5] in _LONG:
        size = int.from_bytes(data[content - 4 : content], "little")
        found = FoundString(content - 5, content, content + size)
    else:
        return None
    following = data[found.end : found.end + 1]
    return found if following and following[0] & ~_REFERENCE_FLAG in _CODES else None


def _strings(data: bytes) -> Iterator[FoundString]:
    """All strings of a compiled file. Raises ``IndexError`` or ``ValueError`` where it is damaged."""
    longs, last_objects = (5, 2) if _magic(data) >= _MAGIC_WITH_LOCALSPLUS else (6, 1)
    todo = [1]
    position = HEADER_SIZE
    while todo:
        task = todo.pop()
        if task == _RAW_LONG:
            position += 4
            continue
        if task == _PAIRS:
            if data[position] == ord("0"):
                position += 1
            else:
                todo += (_PAIRS, 2)
            continue
        if task > 1:
            todo.append(task - 1)
        code = data[position] & ~_REFERENCE_FLAG
        start = position
        position += 1
        if code in _EMPTY:
            continue
        if code in _FIXED_SIZES:
            position += _FIXED_SIZES[code]
        elif code in _STRINGS:
            width = 1 if code in b"zZ" else 4
            size = int.from_bytes(data[position : position + width], "little")
            position += width
            yield FoundString(start, position, position + size)
            position += size
        elif code in b"fx":
            for _ in range(1 if code == ord("f") else 2):
                position += 1 + data[position]
        elif code == ord("l"):
            digits = int.from_bytes(data[position : position + 4], "little", signed=True)
            position += 4 + 2 * abs(digits)
        elif code == ord(")"):
            count = data[position]
            position += 1
            if count:
                todo.append(count)
        elif code in _SEQUENCES:
            count = int.from_bytes(data[position : position + 4], "little")
            position += 4
            if count:
                todo.append(count)
        elif code == ord("{"):
            todo.append(_PAIRS)
        elif code == ord(":"):
            todo.append(3)
        elif code == ord("c"):
            todo += (last_objects, _RAW_LONG, _OBJECTS_OF_CODE)
            position += 4 * longs
        else:
            raise ValueError(f"unknown marshal type {code} at byte {start}")
    if position != len(data):
        raise ValueError("the marshalled objects don't end with the file")
