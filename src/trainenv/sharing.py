"""Folders that a Unix group shares: what one member makes, every other may use, change and remove.

An administrator says so as always: ``chgrp -R GROUP DIR; chmod -R g+rwX,g+s DIR``. Below a folder
that is setgid and group-writable trainenv makes all it makes group-writable, whatever the umask,
and of the same group. Standard library only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHARED = stat.S_ISGID | stat.S_IWGRP
_UMASK = 0o002


def group_of(folder: Path) -> int | None:
    """The id of the group that shares ``folder``, or would if it was there; None if nobody does."""
    while True:
        try:
            status = folder.stat()
        except FileNotFoundError:
            folder = folder.parent
            continue
        except OSError:
            return None
        return status.st_gid if status.st_mode & _SHARED == _SHARED else None


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its parents; for the group where the group has what is above them."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        group = group_of(folder.parent)
        folder.mkdir()
        if group is not None:
            _open(folder, folder.stat(), group)


def open_file(file: Path, flags: int) -> int:
    """A descriptor of ``file``, made if it is not there; every member of the group may open it then."""
    descriptor = os.open(file, flags | os.O_CREAT | os.O_CLOEXEC, 0o666)
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWGRP and group_of(file.parent) is not None:
        with suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | 0o060)
    return descriptor


@contextmanager
def shared_umask(folder: Path) -> Iterator[None]:
    """Where a group shares ``folder``, let whatever is made in the block be group-writable.

    The umask belongs to the whole process, and to the programs that it starts meanwhile.
    """
    if group_of(folder) is None:
        yield
        return
    former = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(former)


def open_tree(root: Path, group: int) -> None:
    """Give ``group`` all that this user has below ``root``, as far as he has it himself."""
    own = os.geteuid()
    for path, status in _walk(root):
        if status.st_uid == own:
            _open(path, status, group)


def open_changed(root: Path, group: int, since: float) -> None:
    """``open_tree`` for the entries of ``root`` that were made or moved there after ``since``.

    ``since`` is in seconds since 1970. An entry is what lies directly in a folder ``root``.
    """
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_ctime >= since:
                open_tree(Path(entry.path), group)


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """``root`` and all below it but links; what vanishes meanwhile is passed over."""
    with suppress(FileNotFoundError):
        status = root.lstat()
        if stat.S_ISLNK(status.st_mode):
            return
        yield root, status
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(root) as entries:
                inside = [Path(entry.path) for entry in entries]
            for path in inside:
                yield from _walk(path)


def _open(path: Path, status: os.stat_result, group: int) -> None:
    mode = stat.S_IMODE(status.st_mode)
    wanted = mode | ((stat.S_ISGID | 0o070) if stat.S_ISDIR(status.st_mode) else (mode & 0o700) >> 3)
    with suppress(OSError):
        if status.st_gid != group:
            os.chown(path, -1, group)
        if wanted != mode or status.st_gid != group:
            path.chmod(wanted)
