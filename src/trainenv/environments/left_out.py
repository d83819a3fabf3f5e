"""What an archive left out on purpose, so that nobody takes it for lost in the environment made of it.

The note ``left_out.json`` lists files by the package that brought them, ``NAME-VERSION`` (of conda's
with the build): another version of a package has to be whole again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainenv.environments.records import NOTES_DIR, CondaRecord, Distribution, read_note

NOTE = "left_out.json"
PATH = f"{NOTES_DIR}/{NOTE}"
_VERSION = 1


def paths(prefix: Path, records: Iterable[CondaRecord], pypi: Iterable[Distribution]) -> frozenset[str]:
    """The recorded files that the environment at ``prefix`` never had, of the packages that it has now."""
    listed = read_note(prefix, NOTE).get("packages")
    if not isinstance(listed, dict):
        return frozenset()
    found: set[str] = set()
    for package in (*map(conda_package, records), *map(pypi_package, pypi)):
        if isinstance(files := listed.get(package), list):
            found.update(map(str, files))
    return frozenset(found)


def conda_package(record: CondaRecord) -> str:
    """How the note names a conda package."""
    package = record.package
    return f"conda:{package.name}-{package.version}-{package.build}"


def pypi_package(distribution: Distribution) -> str:
    """How the note names a PyPI package."""
    return f"pypi:{distribution.key}-{distribution.version}"


def document(packages: Mapping[str, Iterable[str]]) -> bytes:
    """The content of the note: the same for the same files."""
    listed = {package: sorted(files) for package, files in sorted(packages.items())}
    return json.dumps({"version": _VERSION, "packages": listed}, indent=1).encode() + b"\n"
