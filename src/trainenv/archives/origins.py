"""Where each file of an archive comes from: a local environment has it already, or the archive must be read for it.

Nothing is written here. A file counts as there only if its bytes have the recorded sha256: they were hashed just
now, or hashed before and not written to since (see ``content_index``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from trainenv.archives.checks import recorded_relocation
from trainenv.archives.columns import SHORTENED
from trainenv.archives.copying import LocalCopy, find_copies
from trainenv.archives.delta import proof
from trainenv.archives.hashing import HASHED_ASIDE
from trainenv.archives.local_files import Candidate, LocalFiles, Twin
from trainenv.archives.manifest import Manifest, relocation_json
from trainenv.archives.members import File, Files
from trainenv.archives.placing import Placement
from trainenv.environments.content_index import ContentIndex, batches, identity, unwritten
from trainenv.environments.copies import is_edited_in_place
from trainenv.errors import ArchiveError, listed
from trainenv.relocation import PLACEHOLDER

_HASHERS = 2
_NAMED = 3
_MOST_DETAILS = 100


class _Found(NamedTuple):
    """A file, the candidate that comes next, and those after it."""

    file: File
    candidate: Candidate
    more: Iterator[Candidate]


@dataclass(frozen=True)
class Origins:
    """Where the files of ``manifest`` come from, each in exactly one of these.

    ``manifest`` is the archive's, in which absent files that were found have their sha256 in full. By their numbers
    ``links`` are files that can be linked to one of the same content, mode and time; ``copies`` are made of a local
    file; ``given`` are in another archive, the one of that number, as that file. ``missing`` are nowhere, and all
    others in the archive itself; these two are in the order of the manifest. ``made`` gives the content of what a delta
    lacks since it follows from the manifest.
    """

    manifest: Manifest
    links: dict[int, Twin]
    copies: dict[int, LocalCopy]
    given: dict[int, tuple[int, File]]
    missing: list[File]
    made: dict[int, Callable[[], Iterator[bytes]]] = field(default_factory=dict)

    @property
    def is_whole_archive(self) -> bool:
        """Whether all of it is fetched."""
        return not (self.links or self.copies or self.given or self.made)

    @property
    def fetched(self) -> Iterator[File]:
        """What is in the archive itself, and to be taken from there."""
        elsewhere = self.links.keys() | self.copies.keys() | self.given.keys()
        files = self.manifest.files
        found = (files[number] for number in files.environment_numbers() if number not in elsewhere)
        return (file for file in found if not file.absent)

    @property
    def new_files(self) -> int:
        """How many files no environment here has with this content, mode and time."""
        return sum(1 for number in self.manifest.files.environment_numbers() if number not in self.links)

    @property
    def new_bytes(self) -> int:
        """How many bytes are to be written, for these."""
        files = self.manifest.files
        return sum(files.sizes[number] for number in files.environment_numbers() if number not in self.links)


def nothing_local(manifest: Manifest) -> Origins:
    """All of the archive itself."""
    return Origins(manifest, {}, {}, {}, list(manifest.files.absent()))


def find_origins(
    manifest: Manifest,
    placed: Placement,
    prefixes: Sequence[Path],
    index: ContentIndex,
    device: int,
    *,
    others: Sequence[Manifest] = (),
    copy: bool = False,
) -> Origins:
    """Look for the files of ``manifest`` in the environments at ``prefixes``.

    ``device`` is that of the file system on which the new environment will be. A local file that can't be linked is
    copied if the archive does not have it, or with ``copy``: where reading the archive takes longer. What is in neither
    may be in one of the archives with the manifests ``others``.
    """
    files = manifest.files
    local = LocalFiles(prefixes, files.paths())
    links, known = _links(files, placed, local, index, device)
    elsewhere = links.keys() | {file.number for file in files.made()}

    def wanted() -> Iterator[File]:
        listed = files.of_environment() if copy and local.may_have_any else files.absent()
        return (file for file in listed if file.number not in elsewhere)

    copies = find_copies(wanted(), local, index, everywhere=(file for file in wanted() if file.absent))
    given = _given((file for file in wanted() if file.absent and file.number not in copies), others)
    missing = [file for file in wanted() if file.absent and file.number not in copies and file.number not in given]
    against = manifest.against
    if against is not None:
        for number in files.absent_numbers():
            if number in copies:
                known.set_sha256(number, copies[number].sha256)
            elif number in given:
                known.set_sha256(number, given[number][1].sha256)
        manifest = replace(manifest, files=known)
    if against is None or missing:
        return Origins(manifest, links, copies, given, missing)
    try:
        if proof(manifest.files.absent()) != against.sha256:
            raise ValueError("files here begin with the sha256 of those that it builds on, and are others")
        relocation = recorded_relocation(manifest)
    except ValueError as error:
        raise ArchiveError(
            f"the archive of {manifest.name} is refused",
            cause=str(error),
            hint="Pack it again without --against; nothing was unpacked",
        ) from None
    content = partial(relocation_json, PLACEHOLDER, manifest.files)
    return Origins(manifest, links, copies, given, missing, {relocation.number: content})


def require_all(archive: str, origins: Origins) -> None:
    """Raise ``ArchiveError``, which names them, if files are in neither the archive nor an environment here."""
    missing = [_of_package(file) for file in origins.missing]
    if not missing:
        return
    against = origins.manifest.against
    names = ", ".join(against.names) if against is not None else ""
    files = "a file" if len(missing) == 1 else f"{len(missing)} files"
    raise ArchiveError(
        f"{archive} is a delta, and {files} that it builds on can't be found here",
        cause=f"no environment has {listed(missing, _NAMED)}",
        hint=f"Unpack {names or 'what it was packed against'} first, or name an archive that has them with --from; "
        "nothing was unpacked",
        details=[*missing[:_MOST_DETAILS], *(["..."] if len(missing) > _MOST_DETAILS else [])],
    )


def _of_package(file: File) -> str:
    """The path of ``file`` and whose it is."""
    package = file.owner.partition(":")[2]
    return f"{file.path} of {package}" if package else file.path


def _given(files: Iterable[File], others: Sequence[Manifest]) -> dict[int, tuple[int, File]]:
    """Which of ``files`` are in the archives with the manifests ``others``, by number."""
    held: dict[tuple[str, int], tuple[int, File]] = {}
    for number, manifest in enumerate(others):
        for file in manifest.files.of_environment():
            if not file.absent:
                held.setdefault((file.sha256[:SHORTENED], file.size), (number, file))
    found = ((file, held.get((file.sha256[:SHORTENED], file.size))) for file in files)
    return {
        file.number: other for file, other in found if other is not None and other[1].sha256.startswith(file.sha256)
    }


def _links(
    files: Files, placed: Placement, local: LocalFiles, index: ContentIndex, device: int
) -> tuple[dict[int, Twin], Files]:
    """What can be linked, by number, and the members with the sha256 in full of these."""
    links: dict[int, Twin] = {}
    known = files.with_own_digests()
    for batch in batches(files.of_environment() if local.may_have_any else ()):
        looked_for = [(file, _alike(file, placed, local, device)) for file in batch]
        while looked_for:
            found = [_Found(file, candidate, more) for file, more in looked_for for candidate in islice(more, 1)]
            index.look_up(each.candidate.status for each in found)
            looked_up = [(each, index.sha256(each.candidate.status)) for each in found]
            proven = [(each, digest) for each, digest in looked_up if digest is not None]
            looked_for = []
            for each, digest in chain(proven, _hashed([each for each, digest in looked_up if digest is None], index)):
                if digest is not None and digest.startswith(each.file.sha256):
                    links[each.file.number] = _twin(each.file, each.candidate)
                    known.set_sha256(each.file.number, digest)
                else:
                    looked_for.append((each.file, each.more))
        index.forget()
    return links, known


def _twin(file: File, candidate: Candidate) -> Twin:
    path = "" if candidate.path == file.path else candidate.path
    return Twin(candidate.root, path, unwritten(candidate.status))


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


def _hashed(unproven: Sequence[_Found], index: ContentIndex) -> Iterator[tuple[_Found, str | None]]:
    """Each with its sha256, None if it is not the same file any more. Several threads read the big ones."""
    small = [each for each in unproven if each.file.size < HASHED_ASIDE]
    big = [each for each in unproven if each.file.size >= HASHED_ASIDE]
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="hash") as pool:
        aside = pool.map(lambda each: index.hashed(each.candidate.place), big)
        directly = (index.hashed(each.candidate.place) for each in small)
        for each, result in chain(zip(small, directly, strict=True), zip(big, aside, strict=True)):
            if result is None or identity(result[0]) != identity(each.candidate.status):
                yield each, None
            else:
                index.note(*result)
                yield each, result[1]
