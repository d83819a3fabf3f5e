"""The sha256 of many files that are there, the big ones hashed in advance by another thread."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from trainenv.archives.canonical_files import CanonicalFile
from trainenv.archives.hashing import HASHED_ASIDE
from trainenv.environments.content_index import ContentIndex, batches, identity


class HashesAhead:
    """Knows what ``index`` knows, and has a thread find out the rest of what is big."""

    def __init__(self, index: ContentIndex) -> None:
        self._index = index
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._coming: dict[str, Future[tuple[os.stat_result, str] | None]] = {}

    def begin(self, places: Iterable[tuple[str, str]]) -> None:
        """Look at the files ``places``, pairs of a path to ask by and where that file lies, in the order of asking."""
        for some in batches(places):
            statuses: list[tuple[str, str, os.stat_result]] = []
            for path, place in some:
                try:
                    statuses.append((path, place, os.lstat(place)))
                except OSError:
                    continue
            self._index.look_up(status for _, _, status in statuses)
            for path, place, status in statuses:
                if status.st_size >= HASHED_ASIDE and self._index.sha256(status) is None:
                    self._coming[path] = self._pool.submit(self._index.hashed, place)

    def of(self, path: str, found: CanonicalFile) -> str:
        """The sha256 of the canonical content of the file ``path``, which is open as ``found``."""
        known = self._sha256(path, found.status) if found.verbatim else None
        if known is None:
            made = hashlib.sha256()
            for block in found.blocks():
                made.update(block)
            known = made.hexdigest()
            if found.verbatim:
                self._index.note(found.status, known)
        return known

    def close(self) -> None:
        """Stop; what nobody has asked for is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _sha256(self, path: str, status: os.stat_result) -> str | None:
        """That of the file ``path`` with ``status``; None for one that must be read now."""
        known = self._index.sha256(status)
        if known is None and (coming := self._coming.pop(path, None)) is not None:
            found = coming.result()
            if found is not None and identity(found[0]) == identity(status):
                self._index.note(*found)
                return found[1]
        return known
