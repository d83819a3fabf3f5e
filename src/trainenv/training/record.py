"""The folder of a task and its ``task.json``, as the supervisor and everyone else share them.

Standard library only and light: the supervisor starts through here. Nobody ever sees a half
written ``task.json``: it is written beside and renamed.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

RECORD = "task.json"
LOG = "output.log"
METRICS = "metrics.jsonl"
PARAMETERS = "parameters.json"
OUTPUTS = "outputs"
CODE = "code"

_ROOM = ".room"
"""A file that keeps room on the disk, so that a task's end can be written down also where its code filled it."""
_ROOM_BYTES = 16 * 1024
_TRY_AGAIN_SECONDS = 1.0
_PATIENCE_SECONDS = 600.0

TASK_DIR_VARIABLE = "TRAINENV_TASK_DIR"


def read(folder: str) -> dict[str, Any]:
    """The record of the task in ``folder``. Raises ``OSError`` or ``ValueError``."""
    with open(os.path.join(folder, RECORD), "rb") as file:
        found = json.load(file)
    if not isinstance(found, dict):
        raise ValueError(f"{RECORD} holds no object")
    return found


def write(folder: str, record: dict[str, Any]) -> None:
    """Replace the record of the task in ``folder``. Raises ``OSError``, and then nothing changed."""
    write_json(os.path.join(folder, RECORD), record)


def keep_room(folder: str) -> None:
    """Keep room on the disk for the last record of the task in ``folder``. Raises ``OSError``."""
    with open(os.path.join(folder, _ROOM), "wb") as file:
        file.write(os.urandom(_ROOM_BYTES))


def free_room(folder: str) -> None:
    """Give back what ``keep_room`` took, for the last record."""
    with suppress(OSError):
        os.unlink(os.path.join(folder, _ROOM))


def write_patiently(folder: str, record: dict[str, Any]) -> None:
    """``write`` for the last time, into the room kept for it; while there is none nevertheless, wait for ten minutes.

    A removed folder needs none.
    """
    free_room(folder)
    give_up_at = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            write(folder, record)
        except FileNotFoundError:
            return  # Someone removed the task's folder.
        except OSError:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(_TRY_AGAIN_SECONDS)
        else:
            return


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write ``value`` beside ``path`` and rename it there. Raises ``OSError``."""
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def now() -> str:
    """The time in UTC as ISO 8601 with milliseconds, such as ``2026-11-22T09:05:01.250Z``."""
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
