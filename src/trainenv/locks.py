"""Who may change an environment, and who uses it: advisory file locks that die with their holder.

Standard library only: the way of ``trainenv run`` to its command leads through here.

Each environment name has one lock file under ``ENVS_DIR/.trainenv/locks``. What runs in the
environment holds it shared, what changes it holds it exclusively. A lock belongs to an open file
description, so the kernel frees it when the last process that inherited it is gone, also after
``kill -9``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainenv.errors import EnvironmentBusyError, InstallError
from trainenv.settings import Settings

STATE_DIR = ".trainenv"


def _lock_file(envs_dir: Path, name: str) -> Path:
    return envs_dir / STATE_DIR / "locks" / f"{name}.lock"


def shared(settings: Settings, name: str) -> int | None:
    """Say that this process, and whoever inherits the returned file descriptor, uses ``name``.

    The descriptor is inheritable and stays open across ``exec``: the lock lasts as long as the
    command. Returns None where no lock file can be made (a read-only ``envs_dir``): nobody can
    change the environment there either. Raises ``EnvironmentBusyError`` during a change.
    """
    return _hold_shared(_lock_file(settings.envs_dir, name), name)


def shared_at(prefix: Path) -> int | None:
    """``shared`` for an environment given by its folder; None where no workspace manages it."""
    if not (prefix.parent / STATE_DIR).is_dir():
        return None
    return _hold_shared(_lock_file(prefix.parent, prefix.name), prefix.name)


def _hold_shared(path: Path, name: str) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Read-only is enough for a shared lock, and all that other users of the machine may have.
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise _busy(name, path) from None
    os.set_inheritable(descriptor, True)
    return descriptor


@contextmanager
def exclusive(settings: Settings, name: str) -> Iterator[None]:
    """Hold the right to make, change or remove environment ``name``.

    Raises ``EnvironmentBusyError``, naming the processes, while another one changes or uses it.
    """
    path = _lock_file(settings.envs_dir, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InstallError(
            f"environments in {settings.envs_dir} can't be changed",
            cause=f"{error.filename}: {error.strerror}",
            hint="envs_dir in trainenv.toml, or TRAINENV_ENVS_DIR, names another folder",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(name, path) from None
        yield
    finally:
        os.close(descriptor)


def _busy(name: str, path: Path) -> EnvironmentBusyError:
    holders = holders_of(path)
    cause = "used or changed by " + ", ".join(holders) if holders else "another process holds it"
    return EnvironmentBusyError(f"environment {name!r} is busy", cause=cause, hint="Wait for it to end, then try again")


def holders_of(path: Path) -> list[str]:
    """The live processes that have ``path`` open, as ``"pid 4711 (python)"``."""
    found = []
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{entry}/fd"):
                status = descriptor.stat()
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    command = Path(f"/proc/{entry}/comm").read_text().strip()
                    found.append(f"pid {entry} ({command})")
                    break
    return found
