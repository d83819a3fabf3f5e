"""An archive without what the other side has already: a delta.

Its manifest lists all files, as that of a whole archive would. Those that are absent have no place in the tar, and of
their sha256 only the first digits stand there, since those of all files in full would be longer than many a change. One
sha256 over all of them in full proves that what was found in their place is right.
"""

from __future__ import annotations

import hashlib
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


def shortened(manifest: Manifest, against: OtherSide) -> Manifest:
    """``manifest``, whose absent files have their sha256 in full, as the delta against ``against`` has it."""
    files = tuple(
        replace(file, sha256=file.sha256[:SHORTENED]) if file.absent and file.occurrences is None else file
        for file in manifest.files
    )
    return replace(manifest, files=files, against=Against(against.names, proof(manifest.absent)))


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
