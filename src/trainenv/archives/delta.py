"""An archive without what the other side has already: a delta.

Its manifest lists all files, as that of a whole archive would. Those that are absent have no place in the tar, and of
their sha256 only the first digits stand there, since those of all files in full would be longer than many a change. One
sha256 over all of them in full proves that what was found in their place is right. ``relocation.json``, in which those
of all files with the prefix stand, is made of the manifest by then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from trainenv.archives.columns import SHORTENED
from trainenv.archives.manifest import Against, Manifest
from trainenv.archives.members import File
from trainenv.errors import listed

DIGITS = 16
"""How many digits of a sha256 are enough to say that a file is there, whatever its size."""


@dataclass(frozen=True)
class OtherSide:
    """What is there already: the contents, by the first ``DIGITS`` digits of their sha256, of environments ``names``.

    Of ``others`` only ``SHORTENED`` digits are known, and the size.
    """

    names: tuple[str, ...]
    contents: frozenset[str]
    others: frozenset[tuple[str, int]] = frozenset()

    def has(self, sha256: str, size: int) -> bool:
        """Whether a file of this canonical content is there."""
        return sha256[:DIGITS] in self.contents or (sha256[:SHORTENED], size) in self.others


class Everything(OtherSide):
    """A side that has whatever one asks for."""

    def __init__(self) -> None:
        super().__init__((), frozenset())

    def has(self, sha256: str, size: int) -> bool:
        return True


def of_manifests(manifests: Iterable[Manifest]) -> OtherSide:
    """The other side that has the environments of ``manifests``."""
    listed = list(manifests)

    def files() -> Iterator[File]:
        return chain.from_iterable(manifest.files.of_environment() for manifest in listed)

    return OtherSide(
        tuple(dict.fromkeys(manifest.name for manifest in listed)),
        frozenset(file.sha256[:DIGITS] for file in files() if len(file.sha256) >= DIGITS),
        frozenset((file.sha256, file.size) for file in files() if len(file.sha256) < DIGITS),
    )


def shortened(manifest: Manifest, against: OtherSide) -> Manifest:
    """``manifest``, whose absent files have their sha256 in full, as the delta against ``against`` has it."""
    proven = Against(against.names, proof(manifest.files.absent()))
    return replace(manifest, files=manifest.files.with_digits(SHORTENED), against=proven)


def proof(absent: Iterable[File]) -> str:
    """The sha256 of the sha256 in full of all ``absent`` files, in their order."""
    digest = hashlib.sha256()
    for file in absent:
        digest.update(f"{file.sha256}\n".encode())
    return digest.hexdigest()


def note(name: str, against: OtherSide) -> bytes:
    """The text for who unpacks a delta with ``tar``."""
    return f"""This is no whole environment: it is what of {name} was new beside {listed(against.names)}.

On the machine that has the rest:

    trainenv unpack FILE
    trainenv unpack FILE --from ARCHIVE     (the rest is in another archive)

Without trainenv there, ask for the whole archive: `trainenv pack` without --against makes it.
bin/conda-unpack does nothing in this folder.
""".encode()
