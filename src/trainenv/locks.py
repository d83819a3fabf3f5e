"""Who may change an environment, and who uses it: advisory file locks that die with their holder.

Standard library only: the way of ``trainenv run`` to its command leads through here.

Each environment name has two lock files under ``ENVS_DIR/.trainenv/locks``. What runs in the
environment holds ``NAME.lock`` shared, what changes it holds that and ``NAME.change`` exclusively;
who changes it by force, under those who use it, holds the latter alone. A lock belongs to an open
file description, so the kernel frees it when the last process that inherited it is gone, also
after ``kill -9``.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainenv import sharing
from trainenv.errors import EnvironmentBusyError, InstallError
from trainenv.settings import Settings

STATE_DIR = ".trainenv"

_LOOK_AGAIN_SECONDS = 0.1
_MOMENT_SECONDS = 0.2
"""How long somebody may hold an environment who only sees that there is nothing to change."""


@dataclass(frozen=True)
class IfBusy:
    """What to do with an environment that is in use: refuse, ``wait`` for its end, or ``force`` the change.

    ``tell`` hears for whom one waits, and under whom one goes on. Another change is never gone over. Once there is
    nothing to wait for any more (``until``), who waits is refused.
    """

    wait: bool = False
    force: bool = False
    until: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda _: None


REFUSE = IfBusy()


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


@contextmanager
def in_use(prefix: Path) -> Iterator[None]:
    """Nobody changes or removes the environment at ``prefix`` in this block, if a workspace manages it.

    Raises ``EnvironmentBusyError`` during a change.
    """
    descriptor = shared_at(prefix)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _hold_shared(path: Path, name: str) -> int | None:
    try:
        sharing.make_folder(path.parent)
        # Read-only is enough for a shared lock, and all that other users of the machine may have.
        descriptor = sharing.open_file(path, os.O_RDONLY)
    except OSError:
        return None
    give_up_at = time.monotonic() + _MOMENT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                raise _busy(name, path) from None
            time.sleep(_MOMENT_SECONDS / 10)
    os.set_inheritable(descriptor, True)
    return descriptor


@contextmanager
def exclusive(settings: Settings, name: str, if_busy: IfBusy = REFUSE) -> Iterator[None]:
    """Hold the right to make, change or remove environment ``name``.

    While another process changes or uses it, does as ``if_busy`` says; raises ``EnvironmentBusyError``
    that names the processes, where that is to refuse.
    """
    using = _lock_file(settings.envs_dir, name)
    changing = using.with_suffix(".change")
    descriptors: list[int] = []
    try:
        try:
            sharing.make_folder(using.parent)
            for path in (changing, using):
                descriptors.append(sharing.open_file(path, os.O_RDWR))
        except OSError as error:
            raise InstallError(
                f"environments in {settings.envs_dir} can't be changed",
                cause=f"{error.filename}: {error.strerror}",
                hint="envs_dir in trainenv.toml, or TRAINENV_ENVS_DIR, names another folder",
            ) from None
        _obtain(descriptors[0], changing, name, replace(if_busy, force=False))
        _obtain(descriptors[1], using, name, if_busy)
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _obtain(descriptor: int, path: Path, name: str, if_busy: IfBusy) -> None:
    told: list[str] = []
    while True:
        if if_busy.until():
            raise _busy(name, path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holding = holders_of(path)
        who = ", ".join(holding) or "another process"
        if if_busy.force:
            if_busy.tell(f"changing environment {name!r} under {who}")
            return
        if not if_busy.wait:
            raise _busy(name, path)
        if holding != told:
            if_busy.tell(f"waiting for {who}, in environment {name!r}")
            told = holding
        time.sleep(_LOOK_AGAIN_SECONDS)


def _busy(name: str, path: Path) -> EnvironmentBusyError:
    holding = holders_of(path)
    return EnvironmentBusyError(
        f"environment {name!r} is busy",
        cause=f"used or changed by {', '.join(holding)}" if holding else "another process holds it",
        hint="Wait for it to end, or use --wait where the command has it",
    )


def is_changed_now(settings: Settings, name: str) -> bool:
    """Whether somebody makes or changes environment ``name`` at the moment."""
    return is_held(_lock_file(settings.envs_dir, name))


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on ``path`` alone; not if there is no such file, or none to be looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two who look at a time do not take each other for its holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holders_of(path: Path) -> list[str]:
    """The live processes that hold the lock on ``path``, as ``"task ID, pid 4711 (python train.py)"``."""
    from trainenv.holders import holders, in_words

    return in_words(holders(path))


@contextmanager
def part_of_cache(cache_dir: Path) -> Iterator[None]:
    """Hold the right to take from the package cache and add to it; waits while somebody cleans it.

    Many may at once. A cache that is read-only has nobody who cleans it.
    """
    with suppress(OSError):
        sharing.make_folder(cache_dir)
    try:
        descriptor = sharing.open_file(_cache_lock(cache_dir), os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def whole_cache(cache_dir: Path) -> Iterator[None]:
    """Hold the right to remove from the package cache. Raises ``EnvironmentBusyError`` while it is in use."""
    path = _cache_lock(cache_dir)
    sharing.make_folder(cache_dir)
    descriptor = sharing.open_file(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise cache_busy(path) from None
        yield
    finally:
        os.close(descriptor)


def cache_busy(lock: Path) -> EnvironmentBusyError:
    """The error for a package cache that others use by ``lock``."""
    return EnvironmentBusyError(
        f"the package cache in {lock.parent} is in use",
        cause=f"an environment is being made by {', '.join(holders_of(lock)) or 'another process'}",
        hint="Wait for it to end, then try again",
    )


def _cache_lock(cache_dir: Path) -> Path:
    return cache_dir / ".lock"
