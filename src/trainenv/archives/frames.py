"""The tar of an archive, cut into frames that are packed and unpacked alone.

A frame begins with a member wherever that is possible, and where another package begins if that is worth it. The
cuts are the same whatever the frames are packed in, and the same even where there are none: so an environment has
one manifest in all formats.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from trainenv.archives.codecs import Codec
from trainenv.archives.sources import ByteSource

FRAME_SIZE = 4 << 20
"""Most bytes of tar that one frame holds."""

GROUP_SIZE = 1 << 20
"""At the end of a package a frame closes if it holds as much, so that packages rarely share one."""

_FRAMES_AHEAD = 6


@dataclass(frozen=True)
class Frame:
    """A data frame: where it lies in the file, how many bytes it is there and unpacked, and how it is packed.

    ``crc`` is the CRC-32 of what is in it, None where the frame itself holds a checksum.
    """

    start: int
    compressed: int
    size: int
    codec: Codec
    crc: int | None = None

    def content(self, packed: bytes) -> bytes:
        """What is in it. ``ValueError`` says what is wrong with the bytes ``packed``."""
        content = self.codec.decompress(packed, self.size)
        if self.crc is not None and zlib.crc32(content) != self.crc:
            raise ValueError("a frame has another checksum than the index says")
        return content


class Packed(NamedTuple):
    """What became of a frame: its sizes, and its CRC-32 (0 where the frame itself holds a checksum)."""

    compressed: int
    size: int
    crc: int


class Output(Protocol):
    """What frames are written to."""

    def write(self, block: bytes, /) -> int:
        """Append ``block``."""


class Sink(Protocol):
    """Where frames go as they are cut."""

    def add(self, parts: list[bytes], size: int) -> None:
        """Take the next frame: ``parts`` have ``size`` bytes in all."""

    def finish(self, manifest: bytes) -> None:
        """Write what is left, and what comes after the frames."""

    def close(self) -> None:
        """Stop; what is still waiting is dropped."""


class FrameWriter:
    """Cuts a stream of tar bytes into frames for ``sink``."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parts: list[bytes] = []
        self._filled = 0

    def begin_member(self, size: int) -> None:
        """Close the frame if the next member, which is ``size`` bytes in all, does not fit into it.

        One that fits no frame has its frames for itself.
        """
        if self._filled and self._filled + size > FRAME_SIZE:
            self.end_frame()

    def write(self, block: bytes) -> None:
        """Append to the tar; frames that are full are handed on."""
        while self._filled + len(block) > FRAME_SIZE:
            room = FRAME_SIZE - self._filled
            self._parts.append(block[:room])
            self._filled = FRAME_SIZE
            self.end_frame()
            block = block[room:]
        self._parts.append(block)
        self._filled += len(block)

    def end_member(self, size: int) -> None:
        """Close the frame if the member of ``size`` bytes had frames for itself."""
        if size > FRAME_SIZE:
            self.end_frame()

    def end_package(self) -> None:
        """Close the frame if it is worth it: the next member belongs to another package."""
        if self._filled >= GROUP_SIZE:
            self.end_frame()

    def end_frame(self) -> None:
        """Hand on the bytes gathered so far."""
        if not self._filled:
            return
        self._sink.add(self._parts, self._filled)
        self._parts, self._filled = [], 0


class PackedFrames:
    """Packs frames in threads and writes them to ``out`` in order, then what ``end`` makes of manifest and frames.

    At most ``threads + 2`` frames are in memory at a time.
    """

    def __init__(
        self,
        out: Output,
        codec: Codec,
        level: int,
        threads: int,
        end: Callable[[bytes, Sequence[Packed]], bytes],
    ) -> None:
        self._out = out
        self._compress = codec.compressor(level)
        self._end = end
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._pending: deque[tuple[int, Future[tuple[bytes, int]]]] = deque()
        self._most_pending = threads + 2
        self._done: list[Packed] = []

    def add(self, parts: list[bytes], size: int) -> None:
        self._pending.append((size, self._pool.submit(self._packed, parts)))
        while len(self._pending) > self._most_pending:
            self._write_oldest()

    def finish(self, manifest: bytes) -> None:
        while self._pending:
            self._write_oldest()
        self._out.write(self._end(manifest, self._done))

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _packed(self, parts: list[bytes]) -> tuple[bytes, int]:
        return self._compress(parts[0] if len(parts) == 1 else b"".join(parts))

    def _write_oldest(self) -> None:
        size, future = self._pending.popleft()
        packed, crc = future.result()
        self._out.write(packed)
        self._done.append(Packed(len(packed), size, crc))


def read_frames(
    source: ByteSource, frames: list[Frame], examine: Callable[[bytes], None]
) -> Generator[bytes, None, None]:
    """The unpacked frames in order, a few of them made in advance by another thread.

    That thread gives each to ``examine`` first. A frame that can't be unpacked raises ``ValueError`` when its turn
    comes, and so does what ``examine`` raises.
    """

    def content(frame: Frame) -> bytes:
        made = frame.content(source.read(frame.start, frame.compressed))
        examine(made)
        return made

    with ThreadPoolExecutor(1, thread_name_prefix="decompress") as pool:
        pending: deque[Future[bytes]] = deque()
        source.expect([(frame.start, frame.compressed) for frame in frames])
        try:
            for frame in frames:
                pending.append(pool.submit(content, frame))
                if len(pending) > _FRAMES_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            source.expect(())
            for future in pending:
                future.cancel()
