"""Where the members of an archive-to-be go, one after the other: into a tar, or each into a folder."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol

from trainenv.archives import footer, formats, seektable, tarformat
from trainenv.archives.codecs import DEFLATE, STORED, ZSTD
from trainenv.archives.formats import Form
from trainenv.archives.frames import FrameWriter, Output, PackedFrames, Sink


class MemberWriter(Protocol):
    """Takes members in the order of the archive."""

    def member(
        self, path: str, kind: str, mode: int, mtime: int, size: int = 0, target: str = "", blocks: Iterable[bytes] = ()
    ) -> None:
        """Write one member, whose ``blocks`` have ``size`` bytes in all."""

    def end_package(self) -> None:
        """The next member belongs to another package."""

    def finish(self, manifest: bytes) -> None:
        """Close the archive with its manifest."""

    def close(self) -> None:
        """Stop; what is still waiting is dropped."""


class NoWriter:
    """Writes nothing: for who only wants the list of members."""

    def member(
        self, path: str, kind: str, mode: int, mtime: int, size: int = 0, target: str = "", blocks: Iterable[bytes] = ()
    ) -> None: ...

    def end_package(self) -> None: ...

    def finish(self, manifest: bytes) -> None: ...

    def close(self) -> None: ...


class TarWriter:
    """Writes members as a tar, which is cut into frames for ``sink``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._frames = FrameWriter(sink)

    def member(
        self, path: str, kind: str, mode: int, mtime: int, size: int = 0, target: str = "", blocks: Iterable[bytes] = ()
    ) -> None:
        head = tarformat.header(path, kind, mode, size, mtime, target)
        padding = tarformat.padding(size)
        total = len(head) + size + padding
        self._frames.begin_member(total)
        self._frames.write(head)
        for block in blocks:
            self._frames.write(block)
        if padding:
            self._frames.write(bytes(padding))
        self._frames.end_member(total)

    def end_package(self) -> None:
        self._frames.end_package()

    def finish(self, manifest: bytes) -> None:
        self._frames.write(tarformat.END)
        self._frames.end_frame()
        self._sink.finish(manifest)

    def close(self) -> None:
        self._sink.close()


def sink(form: Form, out: Output) -> Sink:
    """What writes the frames of a tar to ``out`` as ``form`` has it."""
    if form.format == formats.TAR_ZST:
        return PackedFrames(out, ZSTD, form.level, form.threads, partial(seektable.end, form.level))
    if form.format == formats.TAR_GZ:
        out.write(footer.GZIP_HEAD)
        return PackedFrames(out, DEFLATE, form.level, form.threads, footer.of_tar_gz)
    return PackedFrames(out, STORED, form.level, 1, footer.of_tar)
