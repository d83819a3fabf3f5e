"""The formats of locks, one module each: ``read`` makes a ``LockedEnvironment``, ``dump`` writes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainenv.environments.locked import LockedEnvironment


def read(file: Path, text: str, kind: str, platform: str | None = None) -> LockedEnvironment:
    """The lock in ``file``, whose ``text`` was recognised as ``kind`` (a key of ``READERS``).

    ``platform`` is the one to read it for, this machine's unless named.
    """
    return READERS[kind](file, text, platform)


def platforms(file: Path, text: str, kind: str) -> list[str]:
    """The platforms that a lock is for; empty where it names none."""
    from trainenv.environments.lockfiles import conda_lock, explicit, pixi

    named = {"@EXPLICIT list": explicit.platforms, "conda-lock.yml": conda_lock.platforms, "pixi.lock": pixi.platforms}
    return named[kind](file, text) if kind in named else []


def _explicit(file: Path, text: str, platform: str | None) -> LockedEnvironment:
    from trainenv.environments.lockfiles import explicit

    return explicit.read(file, text, platform)


def _conda_lock(file: Path, text: str, platform: str | None) -> LockedEnvironment:
    from trainenv.environments.lockfiles import conda_lock

    return conda_lock.read(file, text, platform)


def _pixi(file: Path, text: str, platform: str | None) -> LockedEnvironment:
    from trainenv.environments.lockfiles import pixi

    return pixi.read(file, text, platform)


def _pylock(file: Path, text: str, platform: str | None) -> LockedEnvironment:
    from trainenv.environments.lockfiles import pylock

    return pylock.read(file, text)


READERS: dict[str, Callable[[Path, str, str | None], LockedEnvironment]] = {
    "@EXPLICIT list": _explicit,
    "conda-lock.yml": _conda_lock,
    "pixi.lock": _pixi,
    "pylock.toml": _pylock,
}
