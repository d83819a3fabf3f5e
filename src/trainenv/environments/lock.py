"""The lock of an environment: ``conda-meta/trainenv/pixi.lock``, every package with URL and sha256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainenv.channels.conda import Source
from trainenv.environments.locked import LockedEnvironment, of_prefix
from trainenv.environments.lockfiles import pixi, pylock
from trainenv.environments.records import NOTES_DIR, python_version, replace_file

LOCK = f"{NOTES_DIR}/pixi.lock"


def write_lock(prefix: Path, sources: Sequence[Source]) -> None:
    """Write down what ``prefix`` holds, and its PyPI half as a ``pylock.toml`` beside it.

    The same packages give the same bytes. What another tool installed from nobody knows where is left
    out.
    """
    locked = _exact(prefix, [source.url for source in sources])
    replace_file(prefix / LOCK, pixi.dump(locked).encode())
    python = python_version(prefix)
    if python and locked.wheels:
        replace_file(prefix / pylock.OWN, pylock.dump(locked.wheels, python).encode())
    else:
        (prefix / pylock.OWN).unlink(missing_ok=True)


def lock_text(prefix: Path) -> str:
    """The lock of what ``prefix`` holds now, without writing it down. See ``write_lock``."""
    return pixi.dump(_exact(prefix, []))


def _exact(prefix: Path, channels: Sequence[str]) -> LockedEnvironment:
    found = of_prefix(prefix, channels)
    return replace(found, wheels=tuple(wheel for wheel in found.wheels if wheel.is_exact))
