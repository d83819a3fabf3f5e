"""How much room files take, and how much their removal would free: hard links are counted once."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
"""Bytes of one unit of ``st_blocks``."""


@dataclass(frozen=True)
class Size:
    """Bytes: ``apparent`` is the sum of the lengths, ``own`` what their removal gives back to the disk."""

    apparent: int = 0
    own: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.apparent + other.apparent, self.own + other.own)


def size_of(places: Iterable[Path]) -> Size:
    """The size of all files in ``places`` (files or folders) taken together.

    A file of which there is another link elsewhere frees nothing.
    """
    apparent = 0
    links: Counter[tuple[int, int]] = Counter()
    inodes: dict[tuple[int, int], os.stat_result] = {}
    folders = 0
    for place in places:
        for status in _walk(place):
            if stat.S_ISDIR(status.st_mode):
                folders += status.st_blocks * _BLOCK
                continue
            apparent += status.st_size
            key = status.st_dev, status.st_ino
            links[key] += 1
            inodes[key] = status
    own = sum(status.st_blocks * _BLOCK for key, status in inodes.items() if links[key] >= status.st_nlink)
    return Size(apparent, own + folders)


def is_linked_elsewhere(folder: Path) -> bool:
    """Whether a file below ``folder`` has another link outside of it."""
    links: Counter[tuple[int, int]] = Counter()
    inodes: dict[tuple[int, int], int] = {}
    for status in _walk(folder):
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            key = status.st_dev, status.st_ino
            links[key] += 1
            inodes[key] = status.st_nlink
    return any(links[key] < count for key, count in inodes.items())


def _walk(place: Path) -> Iterator[os.stat_result]:
    """The status of ``place`` and of all below it, links not followed; what vanishes is passed over."""
    with suppress(OSError):
        status = place.lstat()
        yield status
        if not stat.S_ISDIR(status.st_mode):
            return
    folders = [str(place)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
