"""The formats of locks, one module each: ``read`` makes a ``LockedEnvironment``, ``dump`` writes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainenv.environments.locked import LockedEnvironment


def read(file: Path, text: str, kind: str) -> LockedEnvironment:
    """The lock in ``file``, whose ``text`` was recognised as ``kind`` (a key of ``READERS``)."""
    return READERS[kind](file, text)


def _explicit(file: Path, text: str) -> LockedEnvironment:
    from trainenv.environments.lockfiles import explicit

    return explicit.read(file, text)


def _conda_lock(file: Path, text: str) -> LockedEnvironment:
    from trainenv.environments.lockfiles import conda_lock

    return conda_lock.read(file, text)


def _pixi(file: Path, text: str) -> LockedEnvironment:
    from trainenv.environments.lockfiles import pixi

    return pixi.read(file, text)


def _pylock(file: Path, text: str) -> LockedEnvironment:
    from trainenv.environments.lockfiles import pylock

    return pylock.read(file, text)


READERS: dict[str, Callable[[Path, str], LockedEnvironment]] = {
    "@EXPLICIT list": _explicit,
    "conda-lock.yml": _conda_lock,
    "pixi.lock": _pixi,
    "pylock.toml": _pylock,
}
