"""The end of an archive says what all of it is: its manifest, and where its frames lie."""

from __future__ import annotations

import shlex

from trainenv.archives import footer, seektable, squashfs_tree, tarformat
from trainenv.archives.frames import Frame
from trainenv.archives.sources import ByteSource, incomplete
from trainenv.errors import ArchiveError


def has_tail(source: ByteSource) -> bool:
    """Whether it ends as an archive whose frames can be read one by one. Little of it is looked at."""
    return seektable.is_at_end_of(source) or footer.is_of_tar(source)


def read_tail(source: ByteSource) -> tuple[bytes, list[Frame]]:
    """The manifest's JSON and the data frames, from the end of the archive alone; an image has none.

    Raises ``ArchiveError``.
    """
    if (found := seektable.read(source)) is not None:
        return found
    ending = footer.read(source)
    if ending is None:
        raise _foreign(source)
    if ending.form == footer.IMAGE:
        return ending.manifest, []
    return ending.manifest, ending.frames(source)


def _foreign(source: ByteSource) -> ArchiveError:
    begin = source.read(0, min(source.size, 512))
    if begin.startswith((seektable.MAGIC, footer.GZIP_HEAD[:2], squashfs_tree.MAGIC)) or tarformat.is_header(begin):
        return incomplete(source.name)
    if begin.startswith(b"#!") and b"\n# NAME: " in begin and b"\n# PLAT: " in begin:
        return ArchiveError(
            f"{source.name} can't be unpacked",
            cause="it is an installer, as constructor makes them",
            hint=f"Run it (sh {shlex.quote(source.name)} -b -p PREFIX), then use `-p PREFIX` with run or pack",
        )
    return ArchiveError(
        f"{source.name} is not a trainenv archive", hint="`trainenv pack` makes one; see `trainenv pack --help`"
    )
