"""Many requests on one connection, none of which waits for the answers to those before it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from trainenv.archives.shipping.transport import Interrupted
from trainenv.archives.shipping.wire import Stream, exactly

_BLOCK = 1 << 18


class Asking:
    """``stream`` answers in the order in which it was asked, so each asker waits for his turn.

    Behind each answer comes a line that begins with ``mark``; the rest of it is ``state``. Askers are threads.
    """

    def __init__(self, stream: Stream, mark: str, seconds: float) -> None:
        self._stream = stream
        self._mark = mark
        self._seconds = seconds
        self._asked = 0
        self._asking = threading.Lock()
        self._answered = 0
        self._turn = threading.Condition()
        self.broken = False
        self.state = ""

    def ask(self, line: str) -> int:
        """Send a request; returns its number."""
        with self._asking:
            try:
                self._stream.write(line.encode(), self._seconds)
            except BaseException:
                self.end()
                raise
            self._asked += 1
            return self._asked - 1

    def answer(self, number: int, drop: int, length: int) -> Iterator[bytes]:
        """The ``length`` bytes behind the first ``drop`` of the answer to request ``number``."""
        with self._turn:
            while self._answered != number and not self.broken:
                self._turn.wait()
        if self.broken:
            raise Interrupted("the connection broke off")
        whole = False
        try:
            exactly(self._stream, drop, self._seconds)
            while length:
                block = self._stream.read(min(length, _BLOCK), self._seconds)
                if not block:
                    raise self._stream.failed()
                length -= len(block)
                yield block
            self.state = self._stream.line(self._mark, self._seconds)
            whole = True
        finally:
            if not whole:
                self.end()
        with self._turn:
            self._answered += 1
            self._turn.notify_all()

    def end(self) -> None:
        """Hang up; who waits is told."""
        with self._turn:
            self.broken = True
            self._turn.notify_all()
        self._stream.end()
