"""The lock of an environment: ``conda-meta/trainenv/pixi.lock``, every package with URL and sha256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainenv.channels.conda import Source
from trainenv.environments.locked import of_prefix
from trainenv.environments.lockfiles import pixi, pylock
from trainenv.environments.records import NOTES_DIR, python_version, replace_file

LOCK = f"{NOTES_DIR}/pixi.lock"


def write_lock(prefix: Path, sources: Sequence[Source]) -> None:
    """Write down what ``prefix`` holds, and its PyPI half as a ``pylock.toml`` beside it.

    The same packages give the same bytes. What another tool installed from nobody knows where is left
    out.
    """
    found = of_prefix(prefix, [source.url for source in sources])
    locked = replace(found, wheels=tuple(wheel for wheel in found.wheels if wheel.is_exact))
    replace_file(prefix / LOCK, pixi.dump(locked).encode())
    python = python_version(prefix)
    if python and locked.wheels:
        replace_file(prefix / pylock.OWN, pylock.dump(locked.wheels, python).encode())
    else:
        (prefix / pylock.OWN).unlink(missing_ok=True)
