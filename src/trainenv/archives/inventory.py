"""What is in a prefix and whose it is: the members of an archive-to-be, in their order."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainenv.archives.activation import TOOLS, is_our_tool
from trainenv.archives.manifest import (
    JOURNAL_FILE,
    MANIFEST_FILE,
    MANIFEST_SUM_FILE,
    PREFIX_FILE,
    RELOCATION_FILE,
    Package,
)
from trainenv.archives.members import CONDA_UNPACK, DELTA_NOTE
from trainenv.archives.sources import unreadable
from trainenv.environments import generations, left_out
from trainenv.environments.environment import why_none
from trainenv.environments.records import NOTES_DIR, CondaRecord, conda_records, pypi_distributions, python_version
from trainenv.errors import ArchiveError

_LEFT_OUT = frozenset(
    {CONDA_UNPACK, DELTA_NOTE, RELOCATION_FILE, PREFIX_FILE, JOURNAL_FILE, MANIFEST_FILE, MANIFEST_SUM_FILE}
    | {left_out.PATH, f"{NOTES_DIR}/{generations.NOTE}"}
)
"""Made anew for each archive, or true for one machine only."""

_PYC_FOLDER = "/__pycache__/"
_LAST = "/\U0010ffff/"
_VERSION = re.compile(r'^#define\s+PY_VERSION\s+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Inventory:
    """The paths of a prefix, relative to it.

    ``files`` (and links) are in the order of an archive: by owning conda package, then by PyPI
    distribution, then the rest, a source before its ``.pyc``. ``placeholder_lengths`` are how long a
    prefix conda's packages left room for, by path; ``virtual_packages`` are what they ask of the
    machine, as pairs of dependency (``"__cuda >=12.4"``) and package. ``nested`` are folders of the
    prefix that are no part of it: conda's package cache and environments, below its base environment.

    ``places`` are files whose content lies elsewhere than at their path in the prefix, ``targets`` what
    links point to where that is not what stands in the prefix. ``listed_by`` says which package's record
    names a path, as the note of left out files does, and ``already_left_out`` are what that note has.
    """

    folders: list[str]
    files: list[str]
    links: frozenset[str]
    owners: Mapping[str, str]
    packages: tuple[Package, ...]
    placeholder_lengths: Mapping[str, int]
    platform: str
    python: str | None
    special: list[str] = field(default_factory=list)
    virtual_packages: tuple[tuple[str, str], ...] = ()
    nested: list[str] = field(default_factory=list)
    places: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    listed_by: Mapping[str, str] = field(default_factory=dict)
    already_left_out: frozenset[str] = frozenset()

    def place(self, prefix: Path, path: str) -> Path:
        """Where the content of the file ``path`` is read."""
        return Path(self.places.get(path) or prefix / path)

    def with_files(
        self, files: Iterable[str], folders: Iterable[str] | None = None, owners: Mapping[str, str] | None = None
    ) -> Inventory:
        """The same with other ``files``, put in order."""
        owners = self.owners if owners is None else owners
        return replace(
            self,
            folders=self.folders if folders is None else sorted(folders),
            files=sorted(files, key=lambda path: _place(path, owners.get(path, ""))),
            owners=owners,
        )


def take(prefix: Path) -> Inventory:
    """List what is in ``prefix``. Raises ``ArchiveError`` if that is no environment or can't be read."""
    if not (prefix / "conda-meta").is_dir():
        cause, hint = why_none(prefix)
        raise ArchiveError(f"{prefix} is not an environment", cause=cause, hint=hint)
    records = conda_records(prefix, hashes=False)
    distributions = pypi_distributions(prefix, records)
    owners: dict[str, str] = {}
    listed_by: dict[str, str] = {}
    lengths: dict[str, int] = {}
    for record in records:
        owner, package = f"conda:{record.name}", left_out.conda_package(record)
        owners[f"conda-meta/{record.path.name}"] = owner
        for path in (sys.intern(str(path)) for path in record.files):
            owners.setdefault(path, owner)
            listed_by.setdefault(path, package)
        for entry in record.paths:
            owners.setdefault(entry["_path"], owner)
            if entry.get("file_mode") == "binary" and isinstance(entry.get("prefix_placeholder"), str):
                lengths[entry["_path"]] = len(entry["prefix_placeholder"].encode())
    for distribution in distributions:
        owner, package = f"pypi:{distribution.key}", left_out.pypi_package(distribution)
        for path in (sys.intern(path) for path, _, _ in distribution.record()):
            owners.setdefault(path, owner)
            listed_by.setdefault(path, package)
    folders: list[str] = []
    files: list[str] = []
    links: set[str] = set()
    special: list[str] = []
    nested = _nested(prefix, owners)
    try:
        _walk(os.fspath(prefix), "", folders, files, links, special, nested)
        tools = {path for path in files if path in TOOLS and path not in owners and is_our_tool(prefix / path)}
    except OSError as error:
        raise unreadable(error.filename, error) from None
    for path in files:
        if path.endswith(".pyc") and (source := source_of(path)) is not None and source in owners:
            owners[path] = owners[source]
    packages = [record.package for record in records]
    if tools:
        files = [path for path in files if path not in tools]
    return Inventory(
        folders=sorted(folders),
        files=sorted(files, key=lambda path: _place(path, owners.get(path, ""))),
        links=frozenset(links),
        owners=owners,
        packages=(
            *(Package(package.name, package.version, package.build) for package in packages),
            *(Package(distribution.key, distribution.version, "pypi") for distribution in distributions),
        ),
        placeholder_lengths=lengths,
        platform=_platform(records),
        python=python_version(prefix) or _version_of_headers(prefix),
        special=sorted(special),
        virtual_packages=tuple(
            (dependency, f"{record.name} {record.package.version}")
            for record in records
            for dependency in record.content.get("depends", ())
            if isinstance(dependency, str) and dependency.startswith("__")
        ),
        nested=nested,
        listed_by=listed_by,
        already_left_out=left_out.paths(prefix, records, distributions),
    )


def source_of(pyc: str) -> str | None:
    """The path of the source that the cached bytecode file ``pyc`` was made of."""
    folder, mark, name = pyc.rpartition(_PYC_FOLDER)
    return f"{folder}/{name.split('.', 1)[0]}.py" if mark else None


def _nested(prefix: Path, owners: Mapping[str, str]) -> list[str]:
    """What conda keeps below its base environment: other environments and its package cache."""
    envs, pkgs = prefix / "envs", prefix / "pkgs"
    found = []
    if any(envs.glob("*/conda-meta")) or (envs / ".conda_envs_dir_test").exists():
        found.append("envs")
    if any((pkgs / name).exists() for name in ("urls", "urls.txt", "cache")):
        found.append("pkgs")
    tops = {path.partition("/")[0] for path in owners}
    return [name for name in found if name not in tops]


def _walk(
    root: str,
    folder: str,
    folders: list[str],
    files: list[str],
    links: set[str],
    special: list[str],
    nested: Sequence[str] = (),
) -> None:
    with os.scandir(f"{root}/{folder}") as entries:
        found = list(entries)
    for entry in found:
        path = sys.intern(folder + entry.name)  # One text, whoever names it: the records of packages do as well.
        if entry.is_symlink():
            links.add(path)
            files.append(path)
        elif path in nested:
            continue
        elif entry.is_dir():
            folders.append(path)
            _walk(root, path + "/", folders, files, links, special)
        elif not entry.is_file():
            special.append(path)
        elif path not in _LEFT_OUT:
            files.append(path)


def _place(path: str, owner: str) -> tuple[str, str]:
    """Sorts owned before unowned, conda before PyPI, and sources before what is compiled from them."""
    return owner or "unowned", path.replace(_PYC_FOLDER, _LAST)


def _platform(records: list[CondaRecord]) -> str:
    for record in records:
        subdir = record.content.get("subdir")
        if isinstance(subdir, str) and subdir != "noarch":
            return subdir
    machine = platform.machine()
    return f"{platform.system().lower()}-{'64' if machine == 'x86_64' else machine}"


def _version_of_headers(prefix: Path) -> str | None:
    """The version of a Python that no conda package brought."""
    for header in sorted(prefix.glob("include/python3*/patchlevel.h")):
        if found := _VERSION.search(header.read_text(errors="replace")):
            return found[1]
    return None
