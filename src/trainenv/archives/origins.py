"""Where each file of an archive comes from: a local environment has it already, or the archive must be read for it.

Nothing is written here. A file counts as there only if its bytes have the recorded sha256: they were hashed just
now, or hashed before and not written to since (see ``content_index``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from trainenv.archives.content_index import ContentIndex, identity
from trainenv.archives.hashing import HASHED_ASIDE
from trainenv.archives.local_files import Candidate, LocalFiles
from trainenv.archives.manifest import File, Manifest
from trainenv.archives.placing import Placement
from trainenv.environments.copies import is_edited_in_place

_HASHERS = 2


@dataclass(frozen=True)
class Origins:
    """Where the files of a manifest come from.

    ``links`` are those that can be linked to a file of the same content, mode and time: its place and its
    status when that was seen, by path. All others are ``fetched`` from the archive, in its order.
    """

    links: dict[str, Candidate] = field(default_factory=dict)
    fetched: list[File] = field(default_factory=list)

    @property
    def new_bytes(self) -> int:
        """How many bytes are to be written."""
        return sum(file.size for file in self.fetched)


def find_origins(
    manifest: Manifest, placed: Placement, prefixes: Sequence[Path], index: ContentIndex, device: int
) -> Origins:
    """Look for the files of ``manifest`` in the environments at ``prefixes``.

    ``device`` is that of the file system on which the new environment will be.
    """
    files = [file for file in manifest.files if file.kind == "file" and not file.is_tool]
    local = LocalFiles(prefixes, files)
    links: dict[str, Candidate] = {}
    refuted: set[str] = set()
    looked_for = files
    while looked_for:
        unproven: list[tuple[File, Candidate]] = []
        for file in looked_for:
            for candidate in _alike(file, placed, local, device):
                known = index.sha256(candidate.status)
                if candidate.place in refuted or (known is not None and known != file.sha256):
                    continue
                if known is None:
                    unproven.append((file, candidate))
                else:
                    links[file.path] = candidate
                break
        looked_for = []
        for file, candidate, is_it in _proven(unproven, index):
            if is_it:
                links[file.path] = candidate
            else:
                refuted.add(candidate.place)
                looked_for.append(file)
    return Origins(links, [file for file in files if file.path not in links])


def _alike(file: File, placed: Placement, local: LocalFiles, device: int) -> Iterator[Candidate]:
    """Files that ``file`` may become a link to, if they hold what it does.

    None where it is written with another content than it has in the archive, or where tools write into such a file
    rather than to replace it. Nobody else may own what is linked, for he may write into it.
    """
    if placed.changes(file) or is_edited_in_place(file.path):
        return
    user = os.geteuid()
    for candidate in local.candidates(file.path):
        status = candidate.status
        if (
            status.st_size == file.size
            and status.st_dev == device
            and status.st_uid == user
            and status.st_mode & 0o7777 == file.mode
            and status.st_mtime_ns // 1_000_000_000 == file.mtime
        ):
            yield candidate


def _proven(unproven: Sequence[tuple[File, Candidate]], index: ContentIndex) -> Iterator[tuple[File, Candidate, bool]]:
    """Whether each candidate has the sha256 of its file; the index learns it. Several threads read the big ones."""
    small = [each for each in unproven if each[0].size < HASHED_ASIDE]
    big = [each for each in unproven if each[0].size >= HASHED_ASIDE]
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="hash") as pool:
        aside = pool.map(lambda each: index.hashed(each[1].place), big)
        directly = (index.hashed(each[1].place) for each in small)
        for (file, candidate), found in chain(zip(small, directly, strict=True), zip(big, aside, strict=True)):
            if found is not None:
                index.note(*found)
            is_it = found is not None and identity(found[0]) == identity(candidate.status) and found[1] == file.sha256
            yield file, candidate, is_it
