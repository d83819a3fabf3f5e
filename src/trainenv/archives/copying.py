"""Local files that become members of an archive by a copy: they hold the same, or do so in their canonical form."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainenv.archives.canonical_files import ChangedError, LocalEnvironment
from trainenv.archives.local_files import Candidate, LocalFiles
from trainenv.archives.manifest import RECORDS_DIR
from trainenv.archives.members import File
from trainenv.environments.content_index import ContentIndex
from trainenv.errors import ArchiveError


@dataclass(frozen=True)
class LocalCopy:
    """A file of a local environment whose canonical content has the ``sha256``."""

    environment: LocalEnvironment
    path: str
    sha256: str

    def blocks(self) -> Iterator[bytes]:
        """The canonical content. Raises ``ArchiveError``, at the end, if it is another one by now."""
        digest = hashlib.sha256()
        try:
            with self.environment.opened(self.path) as found:
                for block in found.blocks():
                    digest.update(block)
                    yield block
        except (OSError, ChangedError):
            digest = hashlib.sha256()
        if digest.hexdigest() != self.sha256:
            raise ArchiveError(
                f"{self.path} changed while it was copied",
                hint="Try again when nobody writes there; nothing was unpacked",
            )


def find_copies(
    files: Iterable[File], local: LocalFiles, index: ContentIndex, *, everywhere: Iterable[File]
) -> dict[int, LocalCopy]:
    """Which local files have the content of ``files``, by their numbers.

    Those in their places, and for ``everywhere`` any other.
    """
    found: dict[int, LocalCopy] = {}
    for file in files:
        for candidate in local.candidates(file.path):
            if (copy := _copy(file, candidate, local, index)) is not None:
                found[file.number] = copy
                break
    if left := [file for file in everywhere if file.number not in found]:
        found |= _found_anywhere(left, local, index)
    return found


def _copy(file: File, candidate: Candidate, local: LocalFiles, index: ContentIndex) -> LocalCopy | None:
    """``candidate`` as what ``file`` can be copied from, if it holds that."""
    known = index.sha256(candidate.status) if candidate.status.st_size == file.size else None
    if known is not None and known.startswith(file.sha256) and _is_canonical(file):
        return LocalCopy(local.environment(candidate.root), candidate.path, known)
    content = _content(candidate, local, index, lambda size: size == file.size)
    if content is None or not content[1].startswith(file.sha256):
        return None
    return LocalCopy(local.environment(candidate.root), candidate.path, content[1])


def _content(
    candidate: Candidate, local: LocalFiles, index: ContentIndex, wants: Callable[[int], bool]
) -> tuple[int, str] | None:
    """The size and sha256 of the canonical content of ``candidate``; None if nobody ``wants`` it for its size."""
    digest = hashlib.sha256()
    try:
        with local.environment(candidate.root).opened(candidate.path) as content:
            if not wants(content.size):
                return None
            for block in content.blocks():
                digest.update(block)
            if content.verbatim:
                index.note(content.status, digest.hexdigest())
    except (OSError, ChangedError):
        return None
    return content.size, digest.hexdigest()


def _is_canonical(file: File) -> bool:
    """Whether the file has no other content in an environment than in an archive."""
    return file.occurrences is None and not file.path.startswith("conda-meta/") and not file.path.endswith(".pyc")


def _found_anywhere(files: Sequence[File], local: LocalFiles, index: ContentIndex) -> dict[int, LocalCopy]:
    """What lies in another place than its own, in any environment."""
    by_size: dict[int, list[File]] = {}
    by_name: dict[str, list[File]] = {}
    for file in files:
        if _is_canonical(file):
            by_size.setdefault(file.size, []).append(file)
        else:
            by_name.setdefault(os.path.basename(file.path), []).append(file)
    found: dict[int, LocalCopy] = {}
    for candidate in local.all():
        if candidate.path.startswith(f"{RECORDS_DIR}/"):
            continue
        for file in (*by_size.get(candidate.status.st_size, ()), *by_name.get(os.path.basename(candidate.path), ())):
            if file.number not in found and (copy := _copy(file, candidate, local, index)) is not None:
                found[file.number] = copy
        if len(found) == len(files):
            return found
    left = [file for file in files if file.number not in found and not _is_canonical(file)]
    return found | _found_by_content(left, local, index)


def _found_by_content(files: Sequence[File], local: LocalFiles, index: ContentIndex) -> dict[int, LocalCopy]:
    """What has another name here, and may hold the prefix, so that its size tells nothing.

    A file whose content the index knows is the same in an archive, and was found by that.
    """
    sizes = {file.size for file in files}
    found: dict[int, LocalCopy] = {}
    for candidate in local.all() if files else ():
        if candidate.path.startswith(f"{RECORDS_DIR}/") or index.sha256(candidate.status) is not None:
            continue
        content = _content(candidate, local, index, sizes.__contains__)
        if content is None:
            continue
        size, sha256 = content
        for file in files:
            if size == file.size and sha256.startswith(file.sha256):
                found[file.number] = LocalCopy(local.environment(candidate.root), candidate.path, sha256)
    return found
