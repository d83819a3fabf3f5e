"""Rewrites a prefix in files that are too big to be held in memory: only what changes is looked at.

``relocation.rewrite`` takes a whole file. Here a file's occurrences are split into windows, each a
short range of bytes with the occurrences in it; what lies between them is copied in blocks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from trainenv.relocation.rewrite import Occurrences, rewrite

WHOLE = 8 << 20
"""Files up to this many bytes are handled in memory, as a whole."""

LARGEST_PYC = 64 << 20
"""A ``.pyc`` can't be rewritten in parts; a longer one keeps the prefix it has."""

BLOCK = 1 << 20

_LONGEST_HEADER = 1 << 16


class Window(NamedTuple):
    """The bytes from ``start`` to ``end`` and what occurs there, counted from ``start``."""

    start: int
    end: int
    occurrences: Occurrences


def in_memory(path: str, size: int) -> bool:
    """Whether a file is handled as a whole rather than block by block."""
    return size <= WHOLE or (path.endswith(".pyc") and size <= LARGEST_PYC)


def windows(occurrences: Occurrences, prefix: str, size: int) -> list[Window]:
    """``occurrences`` of ``prefix`` in a text or binary file of ``size`` bytes, in the file's order."""
    empty = occurrences._replace(offsets=(), spellings=(), slots=(), rpaths=(), script=None)
    found: list[Window] = []
    if occurrences.kind == "binary":
        for slot in occurrences.slots:
            end = slot.start + slot.capacity
            members = [i for i, offset in enumerate(occurrences.offsets) if slot.start <= offset < end]
            inside = empty._replace(
                offsets=tuple(occurrences.offsets[i] - slot.start for i in members),
                spellings=tuple(occurrences.spelling(i) for i in members),
                slots=(slot._replace(start=0),),
            )
            found.append(Window(slot.start, end, inside))
        for rpath in occurrences.rpaths:
            inside = empty._replace(rpaths=(rpath._replace(start=0),))
            found.append(Window(rpath.start, rpath.start + rpath.capacity, inside))
        return sorted(found, key=lambda window: window.start)
    if occurrences.script is not None:
        end = min((*occurrences.offsets[:1], size, _LONGEST_HEADER))
        found.append(Window(0, end, empty._replace(script=occurrences.script)))
    for index, offset in enumerate(occurrences.offsets):
        inside = empty._replace(offsets=(0,), spellings=(occurrences.spelling(index),))
        found.append(Window(offset, offset + len(inside.spelled(0, prefix)), inside))
    return found


def rewritten(
    descriptor: int, size: int, parts: list[Window], old: str, new: str, path: str, *, portable: bool = False
) -> Iterator[bytes]:
    """The content of the open file with ``new`` for ``old`` in all ``parts``, in blocks.

    Raises what ``relocation.rewrite`` raises.
    """
    position = 0
    for window in parts:
        yield from blocks(descriptor, position, window.start)
        inside = os.pread(descriptor, window.end - window.start, window.start)
        yield rewrite(inside, window.occurrences, old, new, path, portable=portable)[0]
        position = window.end
    yield from blocks(descriptor, position, size)


class BigData:
    """An open file with the few ways of ``bytes`` that ``relocation.find`` looks at a file with.

    Unlike a memory map it takes no memory however big the file is, and a file that gets shorter
    meanwhile does no harm.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, slice):
            start, stop, _ = where.indices(self._size)
            return os.pread(self._descriptor, max(0, stop - start), start)
        return os.pread(self._descriptor, 1, range(self._size)[where])[0]

    def find(self, needle: bytes, start: int = 0, end: int | None = None) -> int:
        """The first place of ``needle`` from ``start`` to ``end``, or -1."""
        stop = self._size if end is None else min(end, self._size)
        kept = b""
        position = start
        for block in blocks(self._descriptor, start, stop):
            joined = kept + block
            if (found := joined.find(needle)) >= 0:
                return position - len(kept) + found
            position += len(block)
            kept = joined[max(0, len(joined) - len(needle) + 1) :]
        return -1


def blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of an open file from ``start`` to ``end``; fewer if the file is shorter by now."""
    while start < end:
        block = os.pread(descriptor, min(BLOCK, end - start), start)
        if not block:
            return
        yield block
        start += len(block)
