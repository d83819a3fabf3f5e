"""What an archive must be before a byte of it is unpacked: a manifest that can't do harm.

After these checks an unpacker may trust the manifest: paths stay below the prefix, every parent is
a folder, links lead nowhere outside, sizes and positions add up to exactly what the frames hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainenv.archives import tarformat
from trainenv.archives.frames import Frame
from trainenv.archives.hashing import measured
from trainenv.archives.manifest import (
    JOURNAL_FILE,
    MANIFEST_FILE,
    MANIFEST_SUM_FILE,
    PREFIX_FILE,
    RECORDS_DIR,
    RELOCATION_FILE,
    Manifest,
    parse,
    relocation_json,
)
from trainenv.archives.members import CONDA_UNPACK, PACKER, File, Files
from trainenv.archives.sources import damaged
from trainenv.archives.windows import in_memory
from trainenv.errors import ArchiveError
from trainenv.relocation import PLACEHOLDER, Occurrences

_LONGEST_COMPONENT = 255
_LONGEST_PATH = 4095
_NO_NAMES = frozenset(("", ".", ".."))
_FIELDS = frozenset(Occurrences._fields)


def checked(archive: str, document: bytes, frames: Sequence[Frame]) -> Manifest:
    """The manifest in ``document``, if it is sound and describes just what ``frames`` hold, where there are any."""
    try:
        manifest = parse(document)
    except ValueError as error:
        raise damaged(archive, f"its manifest is wrong: {error}") from None
    try:
        _check_names(manifest.files)
        for number, target in manifest.files.targets.items():
            check_link(manifest.files.path(number), target)
        _check_records(manifest.files)
        _check_absent(manifest)
        if manifest.against is None:
            recorded_relocation(manifest)
        size = manifest.files.begins[-1] + len(tarformat.END) if frames else 0
    except ValueError as error:
        raise ArchiveError(
            f"{archive} is refused", cause=str(error), hint="trainenv packs no such archive; nothing was unpacked"
        ) from None
    if frames and size != sum(frame.size for frame in frames):
        raise damaged(archive, "its frames hold more or less than its manifest lists")
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


def _check_names(files: Files) -> None:
    """Each path names something below the prefix, another one each; what must be there is."""
    found: list[set[str]] = [set() for _ in files.places]
    is_plain = [place.isascii() and len(place) <= _LONGEST_PATH - _LONGEST_COMPONENT for place in files.places]
    for number, (name, folder) in enumerate(zip(files.names, files.folders, strict=True)):
        if name in found[folder]:
            raise ValueError(f"it has {files.path(number)!r} twice")
        found[folder].add(name)
        is_usual = name not in _NO_NAMES and name.isascii() and "\0" not in name and len(name) <= _LONGEST_COMPONENT
        if not (is_usual and is_plain[folder]):
            check_path(files.path(number))
    for path in (PREFIX_FILE, JOURNAL_FILE, MANIFEST_FILE, MANIFEST_SUM_FILE):
        if files.find(path) is not None:
            raise ValueError(f"{path!r} can't be a member")
    for path, kind in ((RECORDS_DIR, "folder"), (CONDA_UNPACK, "file"), (RELOCATION_FILE, "file")):
        there = files.find(path)
        if there is None or there.kind != kind:
            raise ValueError(f"it lacks {path!r}")


def _check_records(files: Files) -> None:
    """The records of occurrences must be usable."""
    for number, text in files.occurrences.items():
        path = files.path(number)
        try:
            values = json.loads(text)
            occurrences = Occurrences.from_json(values)
            if not values.keys() <= _FIELDS or (occurrences.kind == "pyc" and not in_memory(path, files.sizes[number])):
                raise ValueError("too much")
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
            raise ValueError(f"the prefix occurrences of {path!r} are wrong") from None


def recorded_relocation(manifest: Manifest) -> File:
    """``RELOCATION_FILE``, if it is what follows from ``manifest``; ``ValueError`` if it is not."""
    recorded = manifest.files.find(RELOCATION_FILE)
    made = measured(relocation_json(PLACEHOLDER, manifest.files))
    if recorded is None or (recorded.size, recorded.sha256) != made:
        raise ValueError(f"{RELOCATION_FILE!r} says something else than the manifest")
    return recorded


def _check_absent(manifest: Manifest) -> None:
    """Only a delta lacks files, and of what the packer makes just the one that follows from all the others."""
    for file in manifest.files.absent():
        if manifest.against is None or file.owner == PACKER or file.is_tool:
            raise ValueError(f"it lacks {file.path!r}")
    made = [(file.path, file.owner) for file in manifest.files.made()]
    if made != ([] if manifest.against is None else [(RELOCATION_FILE, PACKER)]):
        raise ValueError(f"{RELOCATION_FILE!r} is where it can't be, or another file is made of the manifest")
