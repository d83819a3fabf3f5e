"""Ends network work to which nothing comes any more: a server that stops in the middle of an answer.

py-rattler's own time limit is one for the whole of a download, and would end long ones that go well.
So what counts here is silence: no byte on any connection of this process, and no work for the
processor either, while no other process is waited for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_LONGEST_LOOK_SECONDS = 0.5
_BUSY = 0.2
"""Who uses this part of a processor's time is at work: solving, or unpacking."""

_BYTES_RECEIVED = slice(128, 136)
"""Where Linux has ``tcpi_bytes_received`` in its ``struct tcp_info``."""


class SilenceError(Exception):
    """Nothing came for as long as was allowed."""


async def patient(work: Awaitable[T], seconds: float, *, waits: Callable[[], bool] = lambda: True) -> T:
    """What ``work`` gives. Raises ``SilenceError`` after ``seconds`` of silence while it ``waits`` for the network."""
    task = asyncio.ensure_future(work)
    step = min(_LONGEST_LOOK_SECONDS, seconds / 4)
    alive, bytes_before, busy_before = time.monotonic(), _received(), time.process_time()
    try:
        while True:
            await asyncio.wait({task}, timeout=step)
            if task.done():
                return task.result()
            now, bytes_now, busy_now = time.monotonic(), _received(), time.process_time()
            if bytes_now != bytes_before or busy_now - busy_before > step * _BUSY or not waits():
                alive = now
            elif now - alive >= seconds:
                if not _waits_for_a_lock():
                    raise SilenceError
                alive = now
            bytes_before, busy_before = bytes_now, busy_now
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.wait({task}, timeout=1)


def _received() -> dict[str, int]:
    """How many bytes have come on each TCP connection of this process, by the kernel's name of its socket."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            what = os.readlink(f"/proc/self/fd/{name}")
            if what.startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)
                    found[what] = int.from_bytes(info[_BYTES_RECEIVED], "little")
    return found


def _waits_for_a_lock() -> bool:
    """Whether another process holds a file's lock that this one wants: it is that one's turn to fetch."""
    with suppress(OSError), open("/proc/locks", encoding="ascii") as locks:
        return any(line.split()[5:6] == [str(os.getpid())] for line in locks if " -> " in line)
    return False
