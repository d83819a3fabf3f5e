"""Reads squashfs images without mounting them and without letting ``unsquashfs`` write a single file.

``unsquashfs -pf`` prints an image as one stream: a line for each entry, then the contents of all files, one
after the other. So the whole list is checked before the first byte, and whoever reads does the writing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trainenv.errors import ArchiveError

MAGIC = b"hsqs"

_DATA_BEGINS = (b"#\n", b"# START OF DATA - DO NOT MODIFY\n", b"#\n")
_LONGEST_LINE = 16384
_MOST_ENTRIES = 5_000_000
_LINE = re.compile(r"(?P<path>(?:[^\\ ]|\\.)+) (?P<code>[A-Z]) ?(?P<rest>.*)", re.DOTALL)
_KINDS = {"D": "folder", "R": "file", "S": "link"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an image.

    ``kind`` is ``"file"``, ``"folder"``, ``"link"``, ``"hardlink"`` or, for all else, ``"device"``. ``mode`` has
    twelve bits. ``target`` is a link's text, or the path that a hard link is another name of.
    """

    path: str
    kind: str
    mode: int = 0
    mtime: int = 0
    size: int = 0
    target: str = ""


class Contents:
    """The contents of an image's files, to be read in the order of its entries."""

    def __init__(self, image: Path, stream: IO[bytes]) -> None:
        self._image = image
        self._stream = stream

    def blocks(self, size: int) -> Iterator[bytes]:
        """The next ``size`` bytes. Raises ``ArchiveError`` if the image has no more."""
        while size:
            block = self._stream.read(min(size, 1 << 20))
            if not block:
                raise unreadable(self._image, "it ends too early")
            size -= len(block)
            yield block


def is_image(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a squashfs image."""
    return head.startswith(MAGIC)


@contextmanager
def opened(image: Path) -> Iterator[tuple[list[Entry], Contents]]:
    """The entries of ``image``, without its root folder, and a reader of its files.

    Raises ``ArchiveError`` where ``unsquashfs`` is missing or can't read it. Nothing is written.
    """
    program = shutil.which("unsquashfs")
    if program is None:
        raise ArchiveError(
            f"{image} can't be read",
            cause="there is no program unsquashfs",
            hint="Install it: the package is squashfs-tools (4.5 or newer)",
        )
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [program, "-quiet", "-no-progress", "-pf", "/dev/stdout", image.absolute()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        stream = process.stdout
        assert stream is not None
        try:
            entries = list(_entries(image, stream))
            if not entries:
                process.wait()
                complaints.seek(0)
                raise unreadable(image, complaints.read(4096).decode(errors="replace"))
            yield entries[1:], Contents(image, stream)
            if stream.read(2).strip() or process.wait() != 0:
                complaints.seek(0)
                raise unreadable(image, complaints.read(4096).decode(errors="replace"))
        finally:
            stream.close()
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def unreadable(image: Path, cause: str) -> ArchiveError:
    """The error for an image that ``unsquashfs`` gives up on; ``cause`` is what it said."""
    said = [line for line in cause.splitlines() if line.strip()]
    return ArchiveError(
        f"{image} is damaged", cause=said[0] if said else "it is no whole squashfs image", hint="Copy it again"
    )


def _entries(image: Path, stream: IO[bytes]) -> Iterator[Entry]:
    """The entries up to where the contents begin; the first one is the root."""
    for count in range(_MOST_ENTRIES):
        line = stream.readline(_LONGEST_LINE)
        if not line:
            if count:
                raise unreadable(image, "its list of files ends too early")
            return
        if line == _DATA_BEGINS[0]:
            if (stream.readline(_LONGEST_LINE), stream.readline(_LONGEST_LINE)) != _DATA_BEGINS[1:]:
                raise unreadable(image, "its list of files has no end")
            return
        yield _entry(image, line)
    raise ArchiveError(f"{image} is refused", cause=f"it has more than {_MOST_ENTRIES} files")


def _entry(image: Path, line: bytes) -> Entry:
    """One line, ``PATH TYPE FIELDS``: blanks, quotes and backslashes in paths stand behind a backslash."""
    text = line.decode(errors="surrogateescape")
    match = _LINE.fullmatch(text.removesuffix("\n"))
    try:
        if match is None or not text.endswith("\n"):
            raise ValueError
        path = _plain(match["path"])
        if match["code"] == "L":
            return Entry(path, "hardlink", target=_plain(match["rest"]))
        mtime, mode, _, _, *more = match["rest"].split(" ", 4)
        kind = _KINDS.get(match["code"], "device")
        size = int(more[0].split(" ")[0]) if kind == "file" else 0
        target = more[0] if kind == "link" else ""
        return Entry(path, kind, int(mode, 8), int(mtime), size, target)
    except (ValueError, IndexError):
        raise ArchiveError(
            f"{image} is refused", cause=f"{text.strip()[:80]!r} is no entry of an environment"
        ) from None


def _plain(escaped: str) -> str:
    return re.sub(r"\\(.)", r"\1", escaped, flags=re.DOTALL)
