"""An archive without what the other side has already: a delta.

Its manifest lists all files, as that of a whole archive would. Those that are absent have no place in the tar, and of
their sha256 only the first digits stand there, since those of all files in full would be longer than many a change. One
sha256 over all of them in full proves that what was found in their place is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trainenv.archives.manifest import SHORTENED, Against, File, Manifest


@dataclass(frozen=True)
class OtherSide:
    """What is there already: the contents, by the first digits of their sha256, of the environments ``names``."""

    names: tuple[str, ...]
    contents: frozenset[str]

    def has(self, sha256: str) -> bool:
        """Whether a file of this canonical content is there."""
        return sha256[:SHORTENED] in self.contents


class Everything(OtherSide):
    """A side that has whatever one asks for."""

    def __init__(self) -> None:
        super().__init__((), frozenset())

    def has(self, sha256: str) -> bool:
        return True


def of_manifests(manifests: Iterable[Manifest]) -> OtherSide:
    """The other side that has the environments of ``manifests``."""
    listed = list(manifests)
    return OtherSide(
        tuple(dict.fromkeys(manifest.name for manifest in listed)),
        frozenset(
            file.sha256[:SHORTENED]
            for manifest in listed
            for file in manifest.files
            if file.kind == "file" and not file.is_tool
        ),
    )


def of_document(document: bytes) -> OtherSide:
    """The other side that has the environment of an archive, by its manifest as it stands there.

    No file is looked at more than it must, as there are many. Raises ``ValueError`` for what is no manifest.
    """
    try:
        values = json.loads(document)
        contents = frozenset(
            file["sha256"][:SHORTENED]
            for file in values["files"]
            if file["kind"] == "file" and file.get("owner") != "trainenv"
        )
        return OtherSide((str(values["name"]),), contents)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its manifest is wrong: {error!r}") from None


def shortened(manifest: Manifest, against: OtherSide) -> Manifest:
    """``manifest``, whose absent files have their sha256 in full, as the delta against ``against`` has it."""
    files = tuple(_shortened(file) if file.absent and file.occurrences is None else file for file in manifest.files)
    return replace(manifest, files=files, against=Against(against.names, proof(manifest.absent)))


def _shortened(file: File) -> File:
    """What ``replace`` would make, in a fifth of the time."""
    digest = file.sha256[:SHORTENED]
    return File(file.path, "file", file.mode, file.mtime, 0, 0, file.size, digest, file.owner, absent=True)


def proof(absent: Iterable[File]) -> str:
    """The sha256 of the sha256 in full of all ``absent`` files, in their order."""
    return hashlib.sha256("".join(f"{file.sha256}\n" for file in absent).encode()).hexdigest()


def note(name: str, against: OtherSide) -> bytes:
    """The text for who unpacks a delta with ``tar``."""
    return f"""This is no whole environment: it is what of {name} was new beside {_in_words(against.names)}.

On the machine that has the rest:

    trainenv unpack FILE
    trainenv unpack FILE --from ARCHIVE     (the rest is in another archive)

Without trainenv there, ask for the whole archive: `trainenv pack` without --against makes it.
bin/conda-unpack does nothing in this folder.
""".encode()


def _in_words(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
