"""How much memory a task takes, and whether the kernel ended it for want of memory. Standard library only.

What counts is what the processes of the task have in memory, not their address space (CUDA reserves more of
it than any machine has memory). Pages that several of them share count once: where the plain sum would be
over the limit, each page is divided among its users (PSS), which takes the kernel longer to work out.
"""

from __future__ import annotations

import os
import re
import signal
import time

from trainenv.training import processes

_LOOK_SECONDS = 0.2
_LOOKING_SHARE = 0.02
"""How much of the time may be spent on looking, where there are many processes."""
_SAMPLE_SECONDS = 5.0
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How code ends that the kernel killed, or whose shell says so of what it ran."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The memory of this process's descendants, held against a limit in bytes if there is one."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._look_at = 0.0
        self._sample_at = time.monotonic() + _SAMPLE_SECONDS
        self._kills = self._kills_before = kills()

    def is_exceeded(self) -> bool:
        """Whether there is more than the limit; looks seldom enough to be called often."""
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_SECONDS
            self._kills_before, self._kills = self._kills, kills()
        if self.limit is None or now < self._look_at:
            return False
        pids = processes.descendants(os.getpid())
        exceeded = sum(map(_resident, pids)) > self.limit and sum(map(_share, pids)) > self.limit
        took = time.monotonic() - now
        self._look_at = now + max(_LOOK_SECONDS, took / _LOOKING_SHARE)
        return exceeded

    def killed(self, exit_code: int) -> bool:
        """Whether code that ended so (negative: by that signal) was ended by the kernel, for want of memory.

        The kernel tells nobody whom it killed, but how many on this machine. So this is asked right after the end.
        """
        return exit_code in _KILLED and kills() > self._kills_before


def _resident(pid: int) -> int:
    """How much of its memory a process has in the machine's, in bytes; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _share(pid: int) -> int:
    """The same, with what is shared divided among its users."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            found = re.search(rb"^Pss:\s+(\d+) kB", file.read(), re.MULTILINE)
    except ProcessLookupError:
        return 0
    except OSError:
        return _resident(pid)
    return int(found[1]) * 1024 if found else _resident(pid)


def kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine was started."""
    try:
        with open("/proc/vmstat", "rb") as file:
            found = re.search(rb"^oom_kill (\d+)", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
