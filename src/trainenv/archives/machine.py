"""What a machine has, as a small file to carry back: with it `pack --against` leaves out all that is there.

The file is JSON in one zstd frame: ``manifest`` (1), ``environments`` (``name``, ``platform``, ``python``, ``files``
and ``bytes`` of each) and ``contents``: of the canonical sha256 of all their files the first ``DIGITS`` digits,
sorted, one after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from trainenv.archives.codecs import ZSTD
from trainenv.archives.delta import DIGITS, OtherSide, of_manifests
from trainenv.archives.folder import Folder
from trainenv.archives.local_files import held
from trainenv.archives.manifest import LONGEST, Manifest, parse
from trainenv.archives.members import File
from trainenv.archives.packing import describe
from trainenv.archives.self_extracting import payload_of
from trainenv.archives.sources import LocalFile, at_once
from trainenv.archives.tails import read_tail
from trainenv.environments.content_index import ContentIndex
from trainenv.environments.environment import Environment
from trainenv.errors import ArchiveError, EnvironmentBusyError, MountError, UsageError, VerificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings

_VERSION = 1
_LEVEL = 9
_LARGEST = 64 << 20
_CONTENTS = re.compile(rf"(?:[0-9a-f]{{{DIGITS}}})*")


def manifests(settings: Settings, environments: Sequence[Environment], reporter: Reporter) -> list[Manifest]:
    """What each of ``environments`` holds.

    One of several that can't be read, or is being changed, is told and left out.
    """
    found = []
    with ContentIndex(settings.cache_dir) as index:
        for environment in environments:
            try:
                with held(environment.prefix):
                    found.append(describe(environment.prefix, environment.name, index, reporter))
            except (ArchiveError, VerificationError, EnvironmentBusyError, MountError) as error:
                if len(environments) == 1:
                    raise
                reporter.notice(f"{environment.name} is left out: {error}")
    return found


def to_bytes(listed: Sequence[Manifest]) -> bytes:
    """The file that says what the environments of ``listed`` hold: the same for the same environments."""
    environments = [
        {
            "name": manifest.name,
            "platform": manifest.platform,
            "python": manifest.python,
            "files": manifest.files.absent_count,
            "bytes": manifest.files.bytes,
        }
        for manifest in listed
    ]
    return _packed(environments, of_manifests(listed))


def side_to_bytes(side: OtherSide) -> bytes:
    """The same file about ``side``, of whose environments nothing but the names is known."""
    return _packed([{"name": name} for name in side.names], side)


def _packed(environments: list[dict[str, Any]], side: OtherSide) -> bytes:
    document = {
        "manifest": _VERSION,
        "environments": environments,
        "contents": "".join(sorted(side.contents)),
    }
    return ZSTD.compressor(_LEVEL)(json.dumps(document, separators=(",", ":")).encode())[0]


def to_json(manifest: Manifest) -> dict[str, Any]:
    """What an environment holds, as ``env manifest --json`` prints it: all files, each sha256 in full."""
    return {
        "name": manifest.name,
        "platform": manifest.platform,
        "python": manifest.python,
        "packages": [vars(package) for package in manifest.packages],
        "host_needs": manifest.host_needs.to_json(),
        "files": list(map(_described, manifest.files)),
    }


def _described(file: File) -> dict[str, Any]:
    values: dict[str, Any] = {"path": file.path, "kind": file.kind, "mode": file.mode, "mtime": file.mtime}
    if file.kind == "file":
        values |= {"size": file.size, "sha256": file.sha256}
    if file.owner:
        values["owner"] = file.owner
    if file.target:
        values["target"] = file.target
    if file.occurrences is not None:
        values["occurrences"] = json.loads(file.occurrences)
    return values


def other_side(file: Path) -> OtherSide:
    """What is there already, by an archive that was unpacked there or by a manifest that was made there.

    Raises ``UsageError`` for a file that is neither, ``ArchiveError`` for a damaged archive.
    """
    try:
        return of_manifests([parse(_document(file))])
    except (ArchiveError, ValueError) as error:
        if (found := _read(file)) is not None:
            return found
        raise UsageError(
            f"{file} is neither an archive nor a manifest of trainenv",
            cause=error.cause or error.message if isinstance(error, ArchiveError) else str(error),
            hint="Make one on the other machine: trainenv env manifest -o FILE",
        ) from None


def _document(file: Path) -> bytes:
    """The manifest of an archive of whatever format, as it stands there. Raises ``ArchiveError``."""
    if file.is_dir():
        return Folder(file).manifest()
    with closing(LocalFile(file)) as source:
        return read_tail(payload_of(source))[0]


def _read(file: Path) -> OtherSide | None:
    """What the manifest ``file`` says; None if it is none."""
    try:
        if file.stat().st_size > _LARGEST:
            return None
        with open(file, "rb", opener=at_once) as stream:
            return from_bytes(stream.read())
    except OSError:
        return None


def from_bytes(packed: bytes) -> OtherSide | None:
    """What the manifest file ``packed`` says (see ``to_bytes``); None if it is none."""
    import zstandard

    try:
        size = zstandard.frame_content_size(packed)
        if not 0 < size <= LONGEST:
            return None
        document: Any = json.loads(ZSTD.decompress(packed, size))
        names = tuple(str(each["name"]) for each in document["environments"])
        contents = document["contents"]
        if document["manifest"] != _VERSION or not _CONTENTS.fullmatch(contents):
            return None
    except (ValueError, KeyError, TypeError, RecursionError, zstandard.ZstdError):
        return None
    return OtherSide(names, frozenset(contents[start : start + DIGITS] for start in range(0, len(contents), DIGITS)))
