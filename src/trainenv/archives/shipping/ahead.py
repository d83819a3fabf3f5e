"""A file elsewhere as a source of an archive's bytes: fetched ahead of its reader, several parts at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from trainenv.archives.shipping.kept import Kept
from trainenv.archives.shipping.patience import Patience
from trainenv.archives.shipping.transport import Interrupted, Transport, changed
from trainenv.errors import ArchiveError
from trainenv.progress import Step

SEGMENT = 4 << 20
"""Bytes that one request asks for, about: parts that follow each other go together."""

_GAP = 1 << 16
"""Fetching as many bytes that nobody needs is quicker than another request."""

_LOOK_SECONDS = 0.2

_WINDOW = 1 << 16
"""Small reads fetch as much at once: what an archive's end holds is read in small pieces."""

_WINDOWS = 4


@dataclass
class _Segment:
    """Parts that are fetched with one request, and those of them not read yet."""

    start: int
    end: int
    parts: list[tuple[int, int]]
    unread: int = 0
    dropped: bool = False
    content: Future[bytes] | None = field(default=None, repr=False)


class RemoteSource:
    """The ``ByteSource`` over ``transport``, which it closes. What comes is counted on ``step`` and put into ``kept``.

    At most ``lanes + 2`` segments are in memory at a time.
    """

    def __init__(self, transport: Transport, step: Step, kept: Kept) -> None:
        if transport.size is None:
            raise ValueError("a file of unknown size can't be read in parts")
        self.name = transport.name
        self.size: int = transport.size
        self.fetched = 0
        self.spared = 0
        self._transport = transport
        self._step = step
        self._kept = kept
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(transport.lanes, thread_name_prefix="fetch")
        self._segments: list[_Segment] = []
        self._of: dict[int, int] = {}
        self._begun = 0
        self._open = 0
        self._near: deque[tuple[int, bytes]] = deque(maxlen=_WINDOWS)
        self._guard = threading.Lock()

    def expect(self, parts: Sequence[tuple[int, int]]) -> None:
        """These (start, length) will be read, in this order."""
        parts = [part for part in parts if self._near_by(*part) is None]
        wanted = [part for part in parts if not self._kept.has(*part)]
        self.spared += sum(length for _, length in parts) - sum(length for _, length in wanted)
        with self._guard:
            for segment in self._segments:
                segment.dropped = True
            self._segments = _segments(wanted)
            self._of = {start: number for number, each in enumerate(self._segments) for start, _ in each.parts}
            self._begun = self._open = 0
            if parts:
                self._step.expect(self.fetched + sum(each.end - each.start for each in self._segments))
            self._begin_some()

    def read(self, start: int, length: int) -> bytes:
        if start < 0 or start + length > self.size:
            raise ArchiveError(f"{self.name} is damaged", cause="it is shorter than it says")
        number = self._of.get(start)
        if number is not None and length in (size for begin, size in self._segments[number].parts if begin == start):
            return self._of_segment(self._segments[number], start, length)
        if (block := self._kept.read(start, length)) is not None:
            return block
        return self._at_once(start, length)

    def close(self) -> None:
        """Stop fetching. Requests under way end by themselves."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    def _at_once(self, start: int, length: int) -> bytes:
        if (block := self._near_by(start, length)) is not None:
            return block
        if length >= _WINDOW:
            return self._fetch(start, length)
        size = self.size if self.size <= _WINDOWS * _WINDOW else _WINDOW
        begin = max(0, min(start, self.size - size))
        self._near.append((begin, self._fetch(begin, min(size, self.size - begin))))
        return self._at_once(start, length)

    def _near_by(self, start: int, length: int) -> bytes | None:
        """That part out of what was fetched around another one."""
        for begin, block in self._near:
            if begin <= start <= start + length <= begin + len(block):
                return block[start - begin : start - begin + length]
        return None

    def _of_segment(self, segment: _Segment, start: int, length: int) -> bytes:
        with self._guard:
            if segment.content is None:
                segment.content = self._pool.submit(self._fetched, segment)
                self._open += 1
        while not wait_for([segment.content], _LOOK_SECONDS).done:
            if segment.dropped:
                raise ArchiveError(f"{self.name} is not read any more")
        content = segment.content.result()
        with self._guard:
            segment.unread -= 1
            if segment.unread <= 0:
                segment.content = None
                self._open -= 1
            self._begin_some()
        return content[start - segment.start : start - segment.start + length]

    def _begin_some(self) -> None:
        while self._open < self._transport.lanes + 2 and self._begun < len(self._segments):
            segment = self._segments[self._begun]
            self._begun += 1
            if segment.content is None and segment.unread and not self._stopped.is_set():
                segment.content = self._pool.submit(self._fetched, segment)
                self._open += 1

    def _fetched(self, segment: _Segment) -> bytes:
        content = self._fetch(segment.start, segment.end - segment.start)
        for start, length in segment.parts:
            self._kept.put(start, content[start - segment.start : start - segment.start + length])
        return content

    def _fetch(self, start: int, length: int) -> bytes:
        patience = Patience(self.name, self._step, self._stopped)
        content = bytearray()
        while len(content) < length:
            if self._stopped.is_set():
                raise ArchiveError(f"{self.name} is closed")
            try:
                for block in self._transport.blocks(start + len(content), length - len(content)):
                    content += block
                    patience.came()
                    with self._guard:
                        self.fetched += len(block)
                    self._step.advance(len(block))
                    if self._stopped.is_set():
                        break
                if len(content) < length and not self._stopped.is_set():
                    raise Interrupted("the connection broke off")
            except Interrupted as error:
                patience.interrupted(error, "where that happened" if self._transport.identity else "")
        if len(content) > length:
            raise changed(self.name)
        return bytes(content)


def _segments(parts: Sequence[tuple[int, int]]) -> list[_Segment]:
    """Parts that lie one behind the other, or nearly, together up to the size of a request."""
    made: list[_Segment] = []
    for start, length in parts:
        last = made[-1] if made else None
        if last and last.end <= start <= last.end + _GAP and start + length - last.start <= SEGMENT:
            last.end = start + length
            last.parts.append((start, length))
        else:
            made.append(_Segment(start, start + length, [(start, length)]))
    for segment in made:
        segment.unread = len(segment.parts)
    return made
