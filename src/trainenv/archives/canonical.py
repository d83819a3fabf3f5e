"""The canonical content of a file: what an archive stores, the same wherever the environment lies.

That is the file with the placeholder for its prefix, and without what is true for one machine only.
A file that was unpacked and not changed since comes back to the very bytes, and the very record of
occurrences, that it was unpacked from: its sha256 proves it, and the record keeps what a new search
could not know (the room in a binary, the RPATH that was there once).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from trainenv.archives.hashing import measured
from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import RECORDS_DIR
from trainenv.archives.recorded import Recorded, Records
from trainenv.archives.windows import BigData, blocks, rewritten, windows
from trainenv.relocation import find
from trainenv.relocation.rewrite import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    rewrite,
    shifted,
    with_source_size,
)
from trainenv.relocation.search import holds

_CREDENTIALS = re.compile(r"(https?://)(?:[^/@\s\"']+@)?([^/@\s\"']+)(?:/t/[^/\s\"']+)?")
"""A URL's beginning: with ``user:password@`` before the host and conda's ``/t/TOKEN`` after it."""


@dataclass
class Canonicaliser:
    """Makes canonical what lies in a prefix whose files carry ``prefix``.

    If it lies in another ``place`` by now, files that were made there name that. ``records`` come from
    ``read_records``, ``placeholder_lengths`` from the inventory; ``no_room`` is told the path of a binary that can't
    be rewritten and is kept as it is.
    """

    prefix: str
    records: Records
    placeholder_lengths: Mapping[str, int]
    no_room: Callable[[str], None]
    place: str | None = None
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def whole(self, path: str, data: bytes) -> tuple[bytes, Occurrences | None]:
        """The canonical content of the file ``path`` with bytes ``data``, and the prefix in it.

        A ``.pyc`` must come after its source, whose size it records.
        """
        recorded = self.records.get(path)
        if recorded is not None and (content := self._as_recorded(path, data, recorded)) is not None:
            self._sized(path, len(data), len(content))
            return content, recorded.occurrences
        data = self._for_its_source(path, _normalised(path, data))
        size = len(data)
        try:
            data, prefix = self._of_one_prefix(path, data)
            found = self._found(path, data, prefix)
            if found is None:
                return data, None
            content, occurrences = rewrite(data, found, prefix, PLACEHOLDER, path, portable=True)
        except NoRoomError:
            self.no_room(path)
            return data, None
        self._sized(path, size, len(content))
        return content, occurrences

    def streamed(
        self, path: str, descriptor: int, size: int
    ) -> tuple[int, Callable[[], Iterator[bytes]], Occurrences | None]:
        """The same for an open file of any size: the canonical size, and how to get the content in blocks."""

        def content(occurrences: Occurrences, prefix: str = self.prefix) -> Iterator[bytes]:
            parts = windows(occurrences, prefix, size)
            return rewritten(descriptor, size, parts, prefix, PLACEHOLDER, path, portable=True)

        recorded = self.records.get(path)
        if recorded is not None:
            present = self._present(recorded)
            try:
                length, digest = measured(content(present))
            except (MismatchError, NoRoomError):
                digest = ""
            if digest == recorded.sha256:
                self._sized(path, size, length)
                return length, lambda: content(present), recorded.occurrences
        data = cast("bytes", BigData(descriptor, size))
        prefix = self.prefix
        found = self._found(path, data, prefix)
        if found is None and self._is_of_place(path, data):
            prefix = self.place or prefix
            found = self._found(path, data, prefix)
        if found is not None and found.kind == "pyc":
            self.no_room(path)
            found = None
        if found is None:
            return size, lambda: blocks(descriptor, 0, size), None
        try:
            length, _ = measured(content(found, prefix))
        except NoRoomError:
            self.no_room(path)
            return size, lambda: blocks(descriptor, 0, size), None
        self._sized(path, size, length)
        occurrences = shifted(found, prefix, PLACEHOLDER, portable=True)
        return length, lambda: content(found, prefix), occurrences

    def _as_recorded(self, path: str, data: bytes, recorded: Recorded) -> bytes | None:
        """The canonical content, if the file is still the one that was recorded."""
        try:
            present = self._present(recorded)
            content = rewrite(data, present, self.prefix, PLACEHOLDER, path, portable=True)[0]
        except (MismatchError, NoRoomError):
            return None
        content = self._for_its_source(path, content)
        return content if hashlib.sha256(content).hexdigest() == recorded.sha256 else None

    def _present(self, recorded: Recorded) -> Occurrences:
        """The recorded occurrences as they are in a file that carries the present prefix."""
        if self.prefix == PLACEHOLDER:
            return recorded.occurrences
        return shifted(recorded.occurrences, PLACEHOLDER, self.prefix)

    def _of_one_prefix(self, path: str, data: bytes) -> tuple[bytes, str]:
        """``data``, and the one prefix that it names. Raises ``NoRoomError`` if it names two and has no room."""
        if not self._is_of_place(path, data):
            return data, self.prefix
        place = cast("str", self.place)
        if not holds(data, self.prefix, path):
            return data, place
        found = self._found(path, data, place)
        return data if found is None else rewrite(data, found, place, self.prefix, path)[0], self.prefix

    def _is_of_place(self, path: str, data: bytes) -> bool:
        """Whether ``data`` names the place to which the prefix was moved."""
        if self.place is None or f"{self.prefix}/".startswith(f"{self.place}/"):
            return False
        return holds(data, self.place, path)

    def _found(self, path: str, data: bytes, prefix: str) -> Occurrences | None:
        return find(data, prefix, path, placeholder_length=self.placeholder_lengths.get(path))

    def _sized(self, path: str, before: int, after: int) -> None:
        if before != after and path.endswith(".py"):
            self._sizes[path] = (before, after)

    def _for_its_source(self, path: str, data: bytes) -> bytes:
        """A ``.pyc`` as it is for the canonical form of its source."""
        if self._sizes and path.endswith(".pyc"):
            sizes = self._sizes.get(source_of(path) or "")
            if sizes is not None:
                return with_source_size(data, *sizes)
        return data


def _normalised(path: str, data: bytes) -> bytes:
    """``data`` without what is true for one machine or user only."""
    folder, _, name = path.rpartition("/")
    if folder == "conda-meta" and name.endswith(".json"):
        return _conda_record(data)
    if folder == RECORDS_DIR and b"\0" not in data:
        return _without_credentials(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return data


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub(r"\1\2", text)


def _conda_record(data: bytes) -> bytes:
    """A package's record in ``conda-meta`` as conda, rattler and conda-pack read it, and no more.

    ``link`` stays, emptied: conda-pack insists on it.
    """
    try:
        record: Any = json.loads(data)
    except ValueError:
        return data
    if not isinstance(record, dict) or "name" not in record:
        return data
    for key in ("extracted_package_dir", "package_tarball_full_path"):
        record.pop(key, None)
    if "link" in record:
        record["link"] = {"source": "", "type": 1}
    for key in ("url", "channel"):
        if isinstance(record.get(key), str):
            record[key] = _without_credentials(record[key])
    for entry in (record.get("paths_data") or {}).get("paths") or ():
        entry.pop("sha256_in_prefix", None)
    return json.dumps(record, indent=2).encode()
