"""The sha256 of contents, and a thread that hashes beside the one that reads and writes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

HASHED_ASIDE = 128 << 10
"""From this size on a file is hashed in another thread. Few are as long, but most bytes are in those:
so that takes much off the thread that runs Python code, and rarely disturbs it.
"""

_MOST_WAITING = 16 << 20

_Result = TypeVar("_Result")


class HashingThread:
    """Does what it is given in order, while at most 16 MiB wait for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._pending: deque[tuple[int, Future[Any]]] = deque()
        self._waiting = 0

    def submit(self, work: Callable[..., _Result], *blocks: bytes) -> Future[_Result]:
        """Have ``work(*blocks)`` done; waits first if too much is waiting already."""
        size = sum(map(len, blocks))
        self._waiting += size
        while self._waiting > _MOST_WAITING and self._pending:
            done, earlier = self._pending.popleft()
            earlier.result()
            self._waiting -= done
        future = self._pool.submit(work, *blocks)
        self._pending.append((size, future))
        return future

    def close(self) -> None:
        """Stop; what is still waiting is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def sha256(content: bytes | memoryview) -> str:
    """The sha256 of ``content`` as the manifest writes it."""
    return hashlib.sha256(content).hexdigest()


def measured(blocks: Iterable[bytes]) -> tuple[int, str]:
    """How many bytes ``blocks`` have in all, and the sha256 of these."""
    digest = hashlib.sha256()
    size = 0
    for block in blocks:
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


def sha256_of(file: Path) -> str:
    """The sha256 of the content of ``file``, however long."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
