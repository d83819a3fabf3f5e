"""Which processes hold the lock on a file, and which training task each belongs to.

Standard library only: locks name their holders by it. Reads ``/proc``; the processes of other users
can't be seen there, except by root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TASK_DIR_VARIABLE = "TRAINENV_TASK_DIR"
"""Set for a task's code; its value is the task's folder, which is named as the task."""

_LONGEST_COMMAND = 60


@dataclass(frozen=True)
class Holder:
    """A live process. ``task`` is the id of the task that it belongs to, or None."""

    pid: int
    command: str
    task: str | None

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})"


def holders(path: Path) -> list[Holder]:
    """The processes but this one that hold a lock on ``path``; where the kernel tells of none, all that have it open.

    Those that wait for it have it open as well.
    """
    try:
        wanted = os.stat(path)
    except OSError:
        return []
    opened: dict[int, bool] = {}
    for pid in _processes():
        with suppress(OSError):
            if locked := _locks(pid, wanted):
                opened[pid] = any(locked)
    found: dict[int, Holder] = {}
    parents: dict[int, str | None] = {}
    for pid, locks in opened.items():
        if locks or not any(opened.values()):
            with suppress(OSError, ValueError):
                found[pid] = Holder(pid, _command(pid), _task(pid))
                parents[_parent(pid)] = found[pid].task
    # What supervises a task holds the lock as well, and has not the variable itself.
    return [
        Holder(holder.pid, holder.command, holder.task or parents.get(holder.pid))
        for holder in sorted(found.values(), key=lambda holder: holder.pid)
    ]


def in_words(found: list[Holder]) -> list[str]:
    """One text for each task among ``found``, naming its newest process, and for each other process."""
    tasks: dict[str, list[Holder]] = {}
    others: list[str] = []
    for holder in found:
        if holder.task is None:
            others.append(str(holder))
        else:
            tasks.setdefault(holder.task, []).append(holder)
    return [f"task {task}, {members[-1]}" for task, members in tasks.items()] + others


def _processes() -> Iterator[int]:
    own = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != own:
            yield int(entry)


def _locks(pid: int, wanted: os.stat_result) -> list[bool]:
    """For each time that process ``pid`` has the file open, whether it holds a lock by that."""
    found = []
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat()
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append("\nlock:" in Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())
    return found


def _command(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if len(words) > 1 and os.path.basename(words[0]).startswith("python") and os.path.basename(words[1]) == "trainenv":
        words = ["trainenv", *words[2:]]
    line = " ".join(" ".join(words).split())
    if not line:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return line if len(line) <= _LONGEST_COMMAND else f"{line[: _LONGEST_COMMAND - 3]}..."


def _task(pid: int) -> str | None:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start = f"{TASK_DIR_VARIABLE}=".encode()
    folder = next((entry[len(start) :] for entry in variables if entry.startswith(start)), b"")
    return os.path.basename(os.fsdecode(folder)) or None


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
