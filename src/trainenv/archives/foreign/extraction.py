"""Writes the members of a foreign archive into an empty folder, and never outside of it.

Files are made anew, in folders that were made here; links come last, so nothing is ever written through one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainenv.archives.foreign.members import Limits, Member, Rules, settled_link
from trainenv.archives.foreign.recognise import Kind
from trainenv.archives.sources import unreadable
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter

_META_FILE = re.compile(r"(?:(?P<root>.+)/)?conda-meta/(?:history|[^/]+\.json)\Z")


@contextmanager
def members_in(
    archive: Path, kind: Kind, reporter: Reporter, *, folder: Path | None = None, source: BinaryIO | None = None
) -> Iterator[tuple[Iterator[Member], Limits]]:
    """The members of ``archive`` one after the other, and their limits.

    With ``folder``, where they shall be written, they must also fit on its disk. ``source`` is the archive where it
    is open already.
    """
    try:
        file = source or open(archive, "rb")  # noqa: SIM115
    except OSError as error:
        raise unreadable(archive, error) from None
    try:
        size = os.fstat(file.fileno()).st_size
        limits = Limits(archive, size, None if folder is None else shutil.disk_usage(folder).free)
        name = "unpack" if folder is not None else "read"
        with reporter.step(name, total=size, unit="B") as step:
            yield _watched(kind.members(archive, file, size, limits), file, size, step.advance), limits
    finally:
        if source is None:
            file.close()


def _watched(members: Iterator[Member], file: BinaryIO, size: int, advance: object) -> Iterator[Member]:
    """``members``, with the step moved on to where the archive has been read to."""
    assert callable(advance)
    done = 0
    for member in members:
        yield member
        position = min(size, os.lseek(file.fileno(), 0, os.SEEK_CUR))
        if position > done:
            advance(position - done)
            done = position


class Extraction:
    """The members of ``archive``, written into the empty folder ``folder``."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._root = os.fspath(folder)
        self._rules = Rules(archive)
        self._links: dict[str, str] = {}
        self._modes: dict[str, int] = {}

    @property
    def kinds(self) -> dict[str, str]:
        """What has been written, by path: ``"file"``, ``"folder"`` or ``"link"`` (these only by ``finish``)."""
        return self._rules.kinds

    def write_all(self, members: Iterator[Member], limits: Limits) -> None:
        """Write all but the links. Raises ``ArchiveError`` for the first member that is refused."""
        for member in members:
            known = member.path in self.kinds
            self._rules.passed(member)
            limits.count(member.size)
            if member.kind == "folder":
                self._modes[member.path] = member.mode & 0o777
                os.makedirs(self._place(member.path), exist_ok=True)
            elif member.kind == "link":
                self._links[member.path] = member.target
            elif member.kind == "hardlink":
                self._make_parent(member.path)
                os.link(self._place(member.target), self._place(member.path), follow_symlinks=False)
            else:
                if known:
                    os.unlink(self._place(member.path))
                self._write(member)

    def root(self) -> str:
        """The folder of the archive that is the environment: ``""``, or a path where all lies deeper."""
        roots = {match["root"] or "" for path in self.kinds if (match := _META_FILE.fullmatch(path))}
        if not roots:
            raise ArchiveError(
                f"{self._archive} holds no environment",
                cause="it has no conda-meta folder",
                hint="Give an archive that trainenv, conda-pack or pixi-pack made",
            )
        return min(roots, key=lambda root: (root.count("/") if root else -1, root))

    def finish(self, root: str, prefixes: Sequence[str]) -> None:
        """Make the links below ``root``, and give folders their modes. See ``settled_link`` for ``prefixes``."""
        start = len(root) + 1 if root else 0
        kinds = {path[start:]: kind for path, kind in self.kinds.items() if not root or path.startswith(f"{root}/")}
        for path, target in self._links.items():
            if root and not path.startswith(f"{root}/"):
                continue
            try:
                settled = settled_link(path[start:], target, kinds, tuple(prefixes))
            except ValueError as error:
                raise ArchiveError(
                    f"{self._archive} is refused", cause=str(error), hint="Nothing was unpacked"
                ) from None
            self._make_parent(path)
            os.symlink(settled, self._place(path))
        for path in sorted(self._modes, reverse=True):
            os.chmod(self._place(path), self._modes[path] | 0o700)

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _make_parent(self, path: str) -> None:
        os.makedirs(os.path.dirname(self._place(path)), exist_ok=True)

    def _write(self, member: Member) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._make_parent(member.path)
        try:
            descriptor = os.open(self._place(member.path), flags, 0o600)
        except FileExistsError:
            raise ArchiveError(
                f"{self._archive} can't be unpacked here",
                cause=f"{member.path!r} differs from another file in the case of its letters only",
                hint="Choose a disk that tells them apart; nothing was unpacked",
            ) from None
        try:
            for block in member.blocks():
                view = memoryview(block)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, member.mode & 0o777 | 0o600)
            mtime = max(0, member.mtime)
            os.utime(descriptor, (mtime, mtime))
        finally:
            os.close(descriptor)
