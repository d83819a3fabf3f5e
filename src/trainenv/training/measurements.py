"""What a task has measured so far: from its log and from TensorBoard's files among its outputs.

Standard library only: this is the supervisor's. ``metrics.jsonl`` grows by a line for each record.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainenv.sizes import human_size
from trainenv.training import metrics, record
from trainenv.training.event_files import EventFiles

_READ_BYTES = 1 << 20
_MOST_BEHIND = 16 << 20
_ENOUGH_RECORDS = 100_000
_SAMPLE_BYTES = 8 * 1024
"""What is read of each block of a flood: a log with so many records that it is so far ahead of us."""
_PATTERN_SECONDS = 3.0
"""What a method's patterns may compute on a block of the log; usual ones take a few hundredths."""
_LOOK_SECONDS = 1.0
_LOOKING_SHARE = 0.02
"""How much of the time may be spent on looking for event files, where there are many folders."""


class Measurements:
    """Reads on by ``catch_up`` while the task runs; ``last`` holds the last value of each metric.

    ``patterns`` are the method's own (see ``metrics.Reader``).
    """

    def __init__(self, folder: str, patterns: Sequence[str]) -> None:
        self._log = open(os.path.join(folder, record.LOG), "rb", buffering=0)  # noqa: SIM115
        self._metrics = os.open(
            os.path.join(folder, record.METRICS), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
        )
        self._reader = metrics.Reader(patterns)
        self._event_files = EventFiles(os.path.join(folder, record.OUTPUTS))
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._unwritten = b""
        self._taken = 0
        self._left_out = 0
        self.last: metrics.Metrics = {}

    def catch_up(self) -> bool:
        """Read on, at most a block of the log; returns whether there may be more."""
        data = self._log.read(_READ_BYTES)
        read = len(data)
        if self._is_flooded():
            data = _sample(data)
            self._left_out += read - len(data)
        self._take([stated.metrics for stated in self._stated(data)])
        now = time.monotonic()
        if now >= self._look_at:
            self._take(self._event_files.read())
            took = time.monotonic() - now
            self._look_at = now + max(_LOOK_SECONDS, took / _LOOKING_SHARE)
        return read == _READ_BYTES

    def finish(self) -> None:
        """Read what is left, to the end of the log and of every file.

        Where not all of the log could be read, the log says so.
        """
        while self.catch_up():
            pass
        self._take([stated.metrics for stated in self._reader.finish()])
        self._take(self._event_files.read())
        if self._left_out:
            size = human_size(self._left_out)
            print(
                f"trainenv: metrics came too fast to keep each; {size} of this log were not searched", file=sys.stderr
            )

    def _is_flooded(self) -> bool:
        """Whether the log has stated a lot, and is far ahead of us nevertheless."""
        if self._taken < _ENOUGH_RECORDS:
            return False
        return os.fstat(self._log.fileno()).st_size - self._log.tell() > _MOST_BEHIND

    def _stated(self, data: bytes) -> list[metrics.Statement]:
        """What ``data`` states. Patterns that take for ever are dropped, and the log says so."""
        if not self._reader.has_patterns:
            return self._reader.feed(data)
        try:
            with _limited(_PATTERN_SECONDS):
                return self._reader.feed(data)
        except TimeoutError:
            self._reader.drop_patterns()
            print("trainenv: a pattern in `metrics` takes too long, none of them is used any more", file=sys.stderr)
            return []

    def _take(self, records: Sequence[metrics.Metrics | None]) -> None:
        stated = [found for found in records if found is not None]
        self._taken += len(stated)
        if stated:
            self.last = dict(self.last)  # Who holds the former one compares it with this.
        for found in stated:
            self.last.update(found)
        self._unwritten += b"".join(map(metrics.to_line, stated))
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._metrics, self._unwritten) :]
        except OSError:
            pass  # No room on the disk: kept for the next time.


def _sample(block: bytes) -> bytes:
    """The end of the line that ``block`` begins in, and its last lines; all of it where it has no lines."""
    first = block.find(b"\n") + 1
    last = block.find(b"\n", max(first, len(block) - _SAMPLE_BYTES)) + 1
    return block[:first] + block[last:] if first and last else block


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises ``TimeoutError`` once this has computed so long. For the main thread alone."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
