"""What kind of archive a file is, told by its content."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from trainenv.archives import footer, squashfs
from trainenv.archives.foreign import zips
from trainenv.archives.foreign.images import image_members
from trainenv.archives.foreign.members import Limits, Member
from trainenv.archives.foreign.tars import BZIP2, GZIP, XZ, ZSTD, decompressed, tar_members
from trainenv.archives.foreign.zips import zip_members
from trainenv.archives.manifest import PREFIX_FILE, RELOCATION_FILE
from trainenv.archives.packing import MADE_MTIME
from trainenv.archives.sources import LocalFile, at_once
from trainenv.errors import ArchiveError

CONDA_PACK, PIXI_PACK = "conda-pack", "pixi-pack"

_HEAD = 16384
_SCRIPT_END = b"\n@@END_HEADER@@\n"
_IN_PIXI_SCRIPTS = (b"/pixi-unpack", b"/pixi-pack")
"""What the script starts; until pixi-pack 0.6 its one program did both."""

_PIXI_NAMES = ("channel", "environment.yml", "pixi-pack.json", "pypi")
_COMPRESSIONS = {GZIP: "tar.gz", ZSTD: "tar.zst", BZIP2: "tar.bz2", XZ: "tar.xz"}


@dataclass(frozen=True)
class Kind:
    """``packer`` is ``"conda-pack"`` or ``"pixi-pack"``, ``container`` a form such as ``"tar.gz"`` or ``"zip"``."""

    packer: str
    container: str

    def members(self, archive: Path, file: BinaryIO, size: int, limits: Limits) -> Iterator[Member]:
        """The members of ``archive``, which is open as ``file`` and has ``size`` bytes."""
        file.seek(0)
        if self.container == "zip":
            return zip_members(archive, file, size, limits)
        if self.container == "squashfs":
            return image_members(archive, limits)
        return tar_members(archive, _payload(file) if self.container == "sh" else decompressed(file), limits)


def recognise(archive: Path) -> Kind | None:
    """What another program has packed ``archive``; ``None`` for trainenv's own and for what is no archive."""
    try:
        with open(archive, "rb", opener=at_once) as file:
            head = file.read(_HEAD)
            file.seek(0)
            if squashfs.is_image(head):
                return None if _is_own_image(archive) else Kind(CONDA_PACK, "squashfs")
            if head.startswith(zips.MAGIC):
                return Kind(CONDA_PACK, "zip")
            if head.startswith(b"#!") and _SCRIPT_END in head and any(name in head for name in _IN_PIXI_SCRIPTS):
                return Kind(PIXI_PACK, "sh")
            return _of_tar(archive, file, head)
    except OSError:
        return None


def _of_tar(archive: Path, file: BinaryIO, head: bytes) -> Kind | None:
    """By the first member: trainenv's own tars begin with a folder of 1980, pixi-pack's with its channel."""
    container = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), "tar")
    try:
        first = next(tar_members(archive, decompressed(file), Limits(archive, 0)), None)
    except ArchiveError:
        return None
    if first is None or (first.kind == "folder" and first.mtime == MADE_MTIME):
        return None
    return Kind(PIXI_PACK if first.path.split("/")[0] in _PIXI_NAMES else CONDA_PACK, container)


def _is_own_image(archive: Path) -> bool:
    """By its footer, or by what only trainenv puts into an archive, in case the end was cut off."""
    with suppress(ArchiveError), closing(LocalFile(archive)) as source:
        if footer.read(source) is not None:
            return True
    paths: set[str] = set()
    with suppress(ArchiveError), squashfs.opened(archive) as (entries, _):
        paths = {entry.path for entry in entries}  # The end of the block raises, as no file was read.
    return RELOCATION_FILE in paths and PREFIX_FILE not in paths


def _payload(file: BinaryIO) -> BinaryIO:
    """The tar inside a self-extracting archive of pixi-pack: one line in base64 behind the script."""
    head = file.read(_HEAD)
    begin = head.index(_SCRIPT_END) + len(_SCRIPT_END)
    while head[begin : begin + 1] == b"\n":
        begin += 1
    file.seek(begin)
    return cast(BinaryIO, io.BufferedReader(_Base64Line(file), 1 << 20))


class _Base64Line(io.RawIOBase):
    """What the rest of a line holds, decoded as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoded = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._decoded and not self._ended:
            text, end, _ = self._file.read(1 << 20).partition(b"\n")
            self._ended = bool(end) or not text
            try:
                self._decoded = base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise ValueError(f"its base64 is wrong: {error}") from None
        data = self._decoded[: len(buffer)]
        self._decoded = self._decoded[len(data) :]
        buffer[: len(data)] = data
        return len(data)
