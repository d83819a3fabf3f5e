"""The former states of an environment, kept so that a change can be taken back.

What a change replaces becomes ``envs_dir/.trainenv/generations/NAME/XXXX/prefix``, a prefix like any
other whose files carry the prefix of the environment; it shares the bytes of what did not change.
Swapping it in is one exchange of two folders. Which state is which stands in the state itself, in
``conda-meta/trainenv/generation.json``, so that it moves with it.
"""

from __future__ import annotations

import datetime
import json
import os
from contextlib import suppress
from pathlib import Path

from trainenv import locks
from trainenv.environments.records import read_note, write_note
from trainenv.settings import Settings
from trainenv.sharing import make_folder

NOTE = "generation.json"
"""``number`` and ``changed`` (a time) of the state that an environment is in after a change."""

_SWAPPING = "swapping"
"""Holds the inode of the prefix that a change swaps in, where what it replaces is to be kept."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def folders(settings: Settings, name: str) -> list[Path]:
    """What is kept of environment ``name``, the one that was put there last first: folders with a ``prefix``.

    Every rename into a folder sets its time of change, so no more needs to be written down.
    """
    kept = kept_in(settings, name)
    found = [folder for folder in kept.iterdir() if (folder / "prefix").is_dir()] if kept.is_dir() else []
    return sorted(found, key=lambda folder: (folder.stat().st_mtime_ns, folder.name), reverse=True)


def number_of(prefix: Path) -> int:
    """Which state its environment is in: 1 when made, then one more with each change."""
    found = read_note(prefix, NOTE).get("number")
    return found if isinstance(found, int) else 1


def kept_in(settings: Settings, name: str) -> Path:
    """The folder of all that is kept of environment ``name``."""
    return settings.envs_dir / locks.STATE_DIR / "generations" / name


def swap_in(settings: Settings, name: str, folder: Path, *, is_new_state: bool) -> None:
    """Swap what was staged in ``folder`` with environment ``name``; keep what it replaces if the settings say so.

    What is no new state has the number of what it replaces, which is not kept.
    """
    prefix = folder / "prefix"
    if not is_new_state:
        exchange(prefix, settings.prefix_of(name), folder / "replaced")
        return
    numbers = [number_of(old / "prefix") for old in folders(settings, name)]
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    number = 1 + max([number_of(settings.prefix_of(name)), *numbers])
    write_note(prefix, NOTE, {"number": number, "changed": f"{now:%Y-%m-%dT%H:%M:%SZ}"})
    if settings.generations:
        make_folder(kept_in(settings, name))
        (folder / _SWAPPING).write_text(json.dumps(prefix.stat().st_ino))
    exchange(prefix, settings.prefix_of(name), folder / "replaced")
    with suppress(OSError):  # The change is done; only that it can't be taken back may come of this.
        keep(settings, name, folder)


def keep(settings: Settings, name: str, folder: Path) -> None:
    """Make a generation of what a finished swap has put into the staging ``folder``."""
    try:
        staged_inode = json.loads((folder / _SWAPPING).read_bytes())
    except FileNotFoundError:
        return
    if (folder / "prefix").stat().st_ino == staged_inode:
        return
    kept = kept_in(settings, name) / folder.name.rpartition("-")[2]
    os.rename(folder, kept)
    for file in (_SWAPPING, "target", "lock"):
        (kept / file).unlink()


def drop_all(settings: Settings, name: str, folder: Path) -> None:
    """Move all that is kept of ``name`` into the staging ``folder``, to be removed with it."""
    with suppress(FileNotFoundError):
        os.rename(kept_in(settings, name), folder / "generations")


def exchange(new: Path, target: Path, aside: Path) -> None:
    """Swap ``new`` and ``target``: at once where the file system can, else by way of ``aside``."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None:
        swapped = renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE)
        if swapped == 0:
            return
    os.rename(target, aside)
    os.rename(new, target)
    os.rename(aside, new)


def restore(target: Path, folder: Path) -> None:
    """Finish or undo a swap of ``target`` in three steps that was cut off between them."""
    aside, new = folder / "replaced", folder / "prefix"
    with suppress(OSError):
        if aside.is_dir() and not target.exists():
            os.rename(aside, target)
        elif aside.is_dir() and not new.exists():
            os.rename(aside, new)
