"""What an archive must be before a byte of it is unpacked: a manifest that can't do harm.

After these checks an unpacker may trust the manifest: paths stay below the prefix, every parent is
a folder, links lead nowhere outside, sizes and positions add up to exactly what the frames hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from trainenv.archives import tarformat
from trainenv.archives.frames import Frame
from trainenv.archives.manifest import (
    CONDA_UNPACK,
    JOURNAL_FILE,
    MANIFEST_FILE,
    MANIFEST_SUM_FILE,
    PREFIX_FILE,
    RECORDS_DIR,
    RELOCATION_FILE,
    File,
    Manifest,
    parse,
    relocation_json,
)
from trainenv.archives.sources import damaged
from trainenv.archives.windows import in_memory
from trainenv.errors import ArchiveError
from trainenv.relocation import PLACEHOLDER, Occurrences

_LONGEST_COMPONENT = 255
_LONGEST_PATH = 4095
_NO_NAMES = frozenset(("", ".", ".."))


def checked(archive: str, document: bytes, frames: Sequence[Frame]) -> Manifest:
    """The manifest in ``document``, if it is sound and describes just what ``frames`` hold, where there are any."""
    try:
        manifest = parse(document)
    except ValueError as error:
        raise damaged(archive, f"its manifest is wrong: {error}") from None
    try:
        _check_names(manifest.files)
        for file in manifest.files:
            if file.kind == "link":
                check_link(file.path, file.target)
        _check_records(manifest.files)
        _check_absent(manifest)
    except ValueError as error:
        raise ArchiveError(
            f"{archive} is refused", cause=str(error), hint="trainenv packs no such archive; nothing was unpacked"
        ) from None
    if frames:
        _check_positions(archive, manifest.files, frames)
    return manifest


def check_path(path: str) -> None:
    """Raise ``ValueError`` unless ``path`` names something below the prefix."""
    parts = path.split("/")
    if not _NO_NAMES.isdisjoint(parts) or "\0" in path:
        raise ValueError(f"{path!r} is no path inside an environment")
    check_length(path)


def check_length(path: str) -> None:
    """Raise ``ValueError`` unless ``path`` is UTF-8 and no longer than a file system and a reader allow."""
    if path.isascii() and len(path) <= _LONGEST_COMPONENT:
        return
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path!r} is not a UTF-8 name") from None
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_COMPONENT:
        raise ValueError(f"{path[:80]!r}... is too long a name")


def check_link(path: str, target: str) -> None:
    """Raise ``ValueError`` if the symlink at ``path`` can lead out of the prefix.

    A target is relative and has ``..`` only at its beginning: there it goes up real folders, whereas
    after a name, which may be a symlink itself, nobody can tell where it goes.
    """
    parts = target.split("/")
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    outside = target.startswith("/") or ups > path.count("/") or ".." in parts[ups:]
    if outside or not target:
        raise ValueError(f"the link {path!r} leads out of the environment, to {target!r}")
    try:
        encoded = target.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the link {path!r} points to {target!r}, which is not a UTF-8 name") from None
    if b"\0" in encoded or len(encoded) > _LONGEST_PATH:
        raise ValueError(f"the link {path!r} points to no possible path")


def _check_names(files: Sequence[File]) -> None:
    kinds: dict[str, str] = {"": "folder"}
    for file in files:
        check_path(file.path)
        if file.path in kinds:
            raise ValueError(f"it has {file.path!r} twice")
        if kinds.get(file.path.rpartition("/")[0]) != "folder":
            raise ValueError(f"{file.path!r} does not lie in a folder of the archive")
        if file.path in (PREFIX_FILE, JOURNAL_FILE, MANIFEST_FILE, MANIFEST_SUM_FILE):
            raise ValueError(f"{file.path!r} can't be a member")
        kinds[file.path] = file.kind
    for path, kind in ((RECORDS_DIR, "folder"), (CONDA_UNPACK, "file"), (RELOCATION_FILE, "file")):
        if kinds.get(path) != kind:
            raise ValueError(f"it lacks {path!r}")


def _check_records(files: Sequence[File]) -> None:
    """The records of occurrences must be usable, and those that stay in the environment the same."""
    for file in files:
        if file.occurrences is not None:
            try:
                occurrences = Occurrences.from_json(dict(file.occurrences))
                if occurrences.kind == "pyc" and not in_memory(file.path, file.size):
                    raise ValueError("too big")
            except (TypeError, ValueError, KeyError, AttributeError, IndexError):
                raise ValueError(f"the prefix occurrences of {file.path!r} are wrong") from None
    content = relocation_json(PLACEHOLDER, files)
    recorded = next(file for file in files if file.path == RELOCATION_FILE)
    if recorded.sha256 != hashlib.sha256(content).hexdigest():
        raise ValueError(f"{RELOCATION_FILE!r} says something else than the manifest")


def _check_absent(manifest: Manifest) -> None:
    """Only a delta lacks files, and never what the packer makes."""
    for file in manifest.absent:
        if manifest.against is None or file.is_tool or file.path == RELOCATION_FILE:
            raise ValueError(f"it lacks {file.path!r}")


def _check_positions(archive: str, files: Sequence[File], frames: Sequence[Frame]) -> None:
    """Members follow each other without gap or overlap through all the frames, as the manifest says."""
    begins = [0]
    for frame in frames:
        begins.append(begins[-1] + frame.size)
    position = 0
    for file in files:
        if file.absent:
            continue
        if file.frame >= len(frames) or begins[file.frame] + file.offset != position:
            raise damaged(archive, f"manifest and frames disagree about {file.path!r}")
        position += tarformat.header_size(file.path, file.kind, file.size, file.target)
        position += file.size + tarformat.padding(file.size)
    if position + len(tarformat.END) != begins[-1]:
        raise damaged(archive, "its frames hold more or less than its manifest lists")
