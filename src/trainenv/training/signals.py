"""Signals that a supervisor collects instead of acting on them, and that its starter holds back for a moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

CANCELLING = (signal.SIGTERM, signal.SIGINT)
"""They ask for the end of the task."""


def listen() -> int:
    """Collect signals instead of acting on them; returns a pipe on which each is one byte."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (*CANCELLING, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return read_end


def received(signals: int) -> bytes:
    """The numbers of the signals that came since we looked last."""
    try:
        return os.read(signals, 4096)
    except BlockingIOError:
        return b""


@contextmanager
def held_back() -> Iterator[None]:
    """What would end this program comes after the block; a supervisor started in it hears it once it listens."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*CANCELLING, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
