"""A file or folder that is there as a whole or not at all.

Until then it is hidden beside its place, locked by its writer; what a killed process left is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trainenv.environments.staging import remove_tree
from trainenv.errors import ArchiveError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def appearing(output: Path) -> Iterator[BinaryIO]:
    """A file that gets the name ``output`` when the block ends well, and not before.

    Raises ``ArchiveError`` if ``output`` is there, or is being written by another.
    """
    with _appearing(output, _open_file) as (descriptor, _), os.fdopen(descriptor, "w+b", closefd=False) as file:
        file.truncate()
        yield file


@contextmanager
def appearing_folder(output: Path) -> Iterator[Path]:
    """The same for a folder: gives where it is until it gets its name."""
    with _appearing(output, _open_folder) as (_, hidden):
        for left in hidden.iterdir():
            _remove(left)
        yield hidden


@contextmanager
def _appearing(output: Path, opened: Callable[[Path], int]) -> Iterator[tuple[int, Path]]:
    hidden = output.parent / f".{output.name}.part"
    if os.path.lexists(output):
        raise _taken(output)
    try:
        descriptor = opened(hidden)
    except OSError as error:
        raise ArchiveError(
            f"{output} can't be written",
            cause=error.strerror or str(error),
            hint="Choose another place" if output.parent.is_dir() else f"Make the folder {output.parent} first",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(
                f"{output} is being written by another process", hint="Wait for it, or choose another name"
            ) from None
        if os.path.lexists(output):
            raise _taken(output)
        try:
            yield descriptor, hidden
            os.rename(hidden, output)
        except OSError as error:
            _remove(hidden)
            raise ArchiveError(
                f"{output} can't be written",
                cause=error.strerror or str(error),
                hint="Free some space or choose another disk" if error.errno in _FULL else "",
            ) from None
        except BaseException:
            _remove(hidden)
            raise
    finally:
        os.close(descriptor)


def _open_file(hidden: Path) -> int:
    return os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _open_folder(hidden: Path) -> int:
    with suppress(FileExistsError):
        hidden.mkdir()
    return os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        remove_tree(place)
    else:
        place.unlink(missing_ok=True)


def _taken(output: Path) -> ArchiveError:
    return ArchiveError(f"{output} exists already", hint="Remove it first, or choose another name")
