"""A file that is there as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainenv.errors import ArchiveError


@contextmanager
def appearing(output: Path) -> Iterator[BinaryIO]:
    """A file that gets the name ``output`` when the block ends well, and not before.

    Until then it is a hidden file beside it, locked by its writer; one that a killed process left
    is taken over. Raises ``ArchiveError`` if ``output`` is there, or is being written by another.
    """
    hidden = output.parent / f".{output.name}.part"
    if os.path.lexists(output):
        raise _taken(output)
    try:
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise ArchiveError(f"{output} can't be written", cause=error.strerror or str(error)) from None
    with os.fdopen(descriptor, "w+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveError(
                f"{output} is being written by another process", hint="Wait for it, or choose another name"
            ) from None
        if os.path.lexists(output):
            raise _taken(output)
        try:
            file.truncate()
            yield file
            file.flush()
            os.rename(hidden, output)
        except OSError as error:
            hidden.unlink(missing_ok=True)
            raise ArchiveError(
                f"{output} can't be written",
                cause=error.strerror or str(error),
                hint="Free some space or choose another disk" if error.errno == errno.ENOSPC else "",
            ) from None
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise


def _taken(output: Path) -> ArchiveError:
    return ArchiveError(f"{output} exists already", hint="Remove it first, or choose another name")
