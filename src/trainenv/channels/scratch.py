"""Where packing, and uv and the builds it starts, put what they need for a moment.

uv leaves its lock files behind in ``TMPDIR``. So it gets a folder there that all runs of one user share,
for the locks are between them, and that the last one removes: also what a killed one left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[tuple[Path, int]]:
    """The folder, and the descriptor of its lock, for a program to inherit that may outlive this process."""
    folder = Path(tempfile.gettempdir(), f"trainenv-{os.geteuid()}")
    descriptor = _joined(folder)
    if descriptor is None:
        # Somebody else has taken the name: another user could read and change what lies there.
        folder = Path(tempfile.mkdtemp(prefix="trainenv-"))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder, descriptor
    finally:
        _leave(folder, descriptor)


def _joined(folder: Path) -> int | None:
    """A descriptor that holds ``folder``, made if it is not there; None where it is not this user's alone."""
    while True:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            os.close(descriptor)
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(folder, status):
            return descriptor
        os.close(descriptor)  # Its last user removed it just now.


def _is_at(folder: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(folder), status)
    except OSError:
        return False


def _leave(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(folder, os.fstat(descriptor)):
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # Others go on; the last of them removes it.
    finally:
        os.close(descriptor)
