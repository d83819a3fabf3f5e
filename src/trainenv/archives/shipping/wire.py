"""What two trainenvs say to each other through ``ssh``; written down in ``docs/internals/shipping.md``.

Lines of text, each a word and its JSON, but for the bytes of the archive themselves.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from trainenv.archives.shipping.transport import Interrupted

HELLO = "trainenv-receive "
"""Begins the first line of the receiver: this, the number of the protocol, the version of trainenv."""

PROTOCOL = 1

ORDER, READY, OFFER, GET, EVENT, DONE, ERROR = "order ", "ready ", "offer ", "get ", "{", "done ", "error "
"""Begin all other lines. An event is a line as ``progress.JsonLinesReporter`` writes it."""

PART_END = "trainenv-part "
"""Begins the line behind the bytes that a ``get`` asked for; the identity of the archive follows."""

_MOST = 1 << 20


class Stream(Protocol):
    """The other side. Its silence for ``seconds`` raises ``Interrupted``, and so does its end."""

    def write(self, data: bytes, seconds: float | None = None) -> None:
        """Send all of ``data``, and nothing of another thread's in between."""

    def read(self, most: int, seconds: float | None = None) -> bytes:
        """Up to ``most`` bytes, none at the end."""

    def line(self, begin: str = "", seconds: float | None = None) -> str:
        """The rest of the next line that begins with ``begin``."""

    def failed(self) -> Exception:
        """What to raise when it ended too early."""

    def end(self) -> None:
        """Hang up."""


def exactly(stream: Stream, size: int, seconds: float | None = None) -> bytes:
    """The next ``size`` bytes. Raises what ``stream.failed`` says if there are fewer."""
    parts = []
    while size:
        block = stream.read(size, seconds)
        if not block:
            raise stream.failed()
        parts.append(block)
        size -= len(block)
    return b"".join(parts)


def values_of(line: str) -> dict[str, Any]:
    """What a line holds behind its word. Raises ``Interrupted`` where that is no object."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise Interrupted("the other side says something else than it should")
    return values


def message(word: str, values: Mapping[str, Any]) -> bytes:
    """One line: ``word`` and ``values``."""
    return f"{word}{json.dumps(values, separators=(',', ':'))}\n".encode()


class StandardStreams:
    """Standard input and output of this process as a ``Stream``; what else is printed goes to standard error."""

    def __init__(self) -> None:
        self._in = os.dup(0)
        self._out = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._ahead = b""
        self._writing = threading.Lock()

    def write(self, data: bytes, seconds: float | None = None) -> None:
        view = memoryview(data)
        with self._writing:
            while view:
                try:
                    view = view[os.write(self._out, view) :]
                except OSError:
                    raise self.failed() from None

    def read(self, most: int, seconds: float | None = None) -> bytes:
        if self._ahead:
            block, self._ahead = self._ahead[:most], self._ahead[most:]
            return block
        poll = select.poll()
        poll.register(self._in, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise Interrupted(f"nothing came for {seconds:g} s")
        return os.read(self._in, most)

    def line(self, begin: str = "", seconds: float | None = None) -> str:
        held = b""
        while b"\n" not in held:
            block = self.read(1 << 16, seconds)
            if not block or len(held) > _MOST:
                raise self.failed()
            held += block
        line, _, rest = held.partition(b"\n")
        self._ahead = rest + self._ahead
        text = line.decode("utf-8", "replace")
        if not text.startswith(begin):
            raise Interrupted("the other side says something else than it should")
        return text[len(begin) :]

    def failed(self) -> Exception:
        return Interrupted("the connection broke off")

    def end(self) -> None:
        """Nothing of it is to be closed: it ends with the process."""


class Lines(io.TextIOBase):
    """Text for ``stream``, as a reporter writes it. That nobody hears it any more is no failure of what it tells of."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(Interrupted):
            self._stream.write(text.encode())
        return len(text)
