"""What the kernel knows about processes: who is alive, who descends from whom.

Standard library only and light: the supervisor starts through here. Reads Linux's ``/proc``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.02


def identity(pid: int) -> dict[str, object]:
    """What tells process ``pid`` from a later one with the same number, also after a reboot.

    ``start_ticks`` counts from boot in clock ticks.
    """
    _, _, start_ticks = _stat(pid) or ("", 0, 0)
    return {"pid": pid, "start_ticks": start_ticks, "boot_id": boot_id()}


def alive(known: dict[str, object]) -> bool:
    """Whether the process with this ``identity`` is still running (a zombie is not)."""
    pid = known.get("pid")
    stat = _stat(pid) if isinstance(pid, int) else None
    return (
        stat is not None
        and stat[0] not in "ZX"
        and stat[2] == known.get("start_ticks")
        and boot_id() == known.get("boot_id")
    )


def become_subreaper() -> None:
    """Make this process the parent of every descendant that loses its own.

    No process can then leave the tree below this one, whatever sessions and groups it makes.
    """
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "can't become a subreaper")


def descendants(pid: int) -> list[int]:
    """The processes below ``pid`` that still run."""
    children: dict[int, list[int]] = {}
    states: dict[int, str] = {}
    for each in _all_pids():
        stat = _stat(each)
        if stat is not None:
            states[each] = stat[0]
            children.setdefault(stat[1], []).append(each)
    found: list[int] = []
    unvisited = [pid]
    while unvisited:
        for child in children.get(unvisited.pop(), ()):
            unvisited.append(child)
            if states[child] not in "ZX":
                found.append(child)
    return found


def with_variable(name: str, value: str) -> list[int]:
    """The processes of this user that were started with environment variable ``name`` = ``value``."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _all_pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            continue
        if wanted in variables and pid != os.getpid():
            found.append(pid)
    return found


def end_all(find: Callable[[], list[int]], grace_seconds: float) -> None:
    """End every process that ``find`` names: first ask (SIGTERM), after the grace period kill.

    Returns when ``find`` names none.
    """
    kill_at = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while remaining := find():
        _ask_or_kill(remaining, asked, kill_at)


def end_descendants(reap: Callable[[], bool], grace_seconds: float) -> None:
    """End every process below this one, a subreaper, in the same way.

    ``reap`` collects dead children and says whether there are any left, dead or alive: only that is
    certain. Processes that end as soon as they have started the next are on no list that takes time to
    read, so the newest process of all is killed as well, if it is a child.
    """
    kill_at = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while reap():
        if remaining := descendants(os.getpid()):
            _ask_or_kill(remaining, asked, kill_at)
        elif time.monotonic() >= kill_at:
            _chase()


def _ask_or_kill(remaining: list[int], asked: set[int], kill_at: float) -> None:
    if time.monotonic() >= kill_at:
        send(signal.SIGKILL, remaining)
    else:
        send(signal.SIGTERM, set(remaining) - asked)
        asked.update(remaining)
    time.sleep(_POLL_SECONDS)


def _chase() -> None:
    """Kill the newest process as soon as it is a child of this one."""
    give_up_at = time.monotonic() + _POLL_SECONDS
    while time.monotonic() < give_up_at:
        with open("/proc/loadavg", "rb") as file:
            newest = int(file.read().split()[-1])
        stat = _stat(newest)
        if stat is not None and stat[0] not in "ZX" and stat[1] == os.getpid():
            send(signal.SIGKILL, [newest])


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to each of ``pids`` that is still there and may be signalled."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State letter, parent and start time of ``pid``; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the command in parentheses and may hold anything, also ") ".
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[1]), int(fields[19])


def boot_id() -> str:
    """What tells the kernel that runs now from that of any other machine, and from the one before a restart."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
