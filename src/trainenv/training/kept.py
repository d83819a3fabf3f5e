"""What many tasks have in common is kept once and linked into the folder of each.

The code of a method and the lock of an environment are the same for most tasks. Each such file lies
in ``tasks/.kept/`` under the sha256 of what it holds and is hard-linked into the tasks' folders: so a
task's folder has all that belongs to it, and ten thousand tasks take the room of one. Once only the
store has a file, no task needs it. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainenv.sharing import make_folder

FOLDER = ".kept"

_STALE_SECONDS = 3600.0


def path_of(tasks_dir: Path, name: str) -> Path:
    """Where the kept file ``name`` is, or would be."""
    return tasks_dir / FOLDER / name


def keep(tasks_dir: Path, name: str, make: Callable[[], bytes]) -> Path:
    """The kept file ``name``, with what ``make`` returns if it is not there yet. Raises ``OSError``."""
    file = path_of(tasks_dir, name)
    with suppress(FileNotFoundError):
        claim(file)
        return file
    make_folder(file.parent)
    beside = file.with_name(f".{name}.{os.urandom(4).hex()}")
    try:
        beside.write_bytes(make())
        beside.chmod(0o444)  # It is part of many tasks' folders: nobody writes into it by mistake.
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return file


def claim(file: Path) -> None:
    """Let whoever tidies up now leave ``file`` until it is linked. Raises ``FileNotFoundError`` if it is gone."""
    with suppress(PermissionError):  # Another user's, in a shared workspace: then its age counts.
        os.utime(file)


def link(file: Path, target: Path) -> None:
    """Make ``target`` the same file, or a copy where the file system has no links. Raises ``OSError``."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def tidy(tasks_dir: Path) -> None:
    """Remove the kept files that no task has any more; those that came lately may be about to be linked."""
    with suppress(FileNotFoundError), os.scandir(tasks_dir / FOLDER) as entries:
        for entry in entries:
            with suppress(FileNotFoundError, PermissionError):
                status = entry.stat()
                if status.st_nlink == 1 and time.time() - status.st_mtime > _STALE_SECONDS:
                    os.unlink(entry.path)
