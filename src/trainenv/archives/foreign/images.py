"""The members of a squashfs image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainenv.archives import squashfs
from trainenv.archives.foreign.members import Limits, Member


def image_members(image: Path, limits: Limits) -> Iterator[Member]:
    """The members of ``image``, whose whole list is checked against ``limits`` first."""
    with squashfs.opened(image) as (entries, contents):
        limits.check(sum(entry.size for entry in entries))
        for entry in entries:
            content = _Content(contents, entry.size)
            yield Member(entry.path, entry.kind, entry.mode, entry.mtime, entry.size, entry.target, content.blocks)
            for _ in content.blocks():
                pass


class _Content:
    """What is left of one file's content: the next file begins behind it."""

    def __init__(self, contents: squashfs.Contents, size: int) -> None:
        self._contents = contents
        self._left = size

    def blocks(self) -> Iterator[bytes]:
        for block in self._contents.blocks(self._left):
            self._left -= len(block)
            yield block
