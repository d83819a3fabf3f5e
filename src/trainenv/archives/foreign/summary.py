"""What an archive of another program holds, read in one pass and without writing anything."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from trainenv.archives.foreign.conda_pack import hexadecimal
from trainenv.archives.foreign.extraction import members_in
from trainenv.archives.foreign.members import Limits, Member, Rules
from trainenv.archives.foreign.pixi_pack import METADATA
from trainenv.archives.foreign.platforms import machine_of
from trainenv.archives.foreign.recognise import PIXI_PACK, Kind
from trainenv.archives.host_needs import NeedsCollector
from trainenv.archives.manifest import Archive, HostNeeds, Manifest, Package
from trainenv.archives.members import File, Files
from trainenv.environments.records import canonical_name
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter, SilentReporter
from trainenv.relocation import needs
from trainenv.relocation.elf import MAGIC

_META = re.compile(r"(?P<root>(?:.+/)?)conda-meta/[^/]+\.json\Z")
_DIST_INFO = re.compile(r"(?P<site>.*/)[^/]+\.dist-info/(?:METADATA|RECORD)\Z")
_REPODATA = re.compile(r"channel/(?P<subdir>[^/]+)/repodata\.json\Z")
_WHEEL = re.compile(r"pypi/(?P<name>[^/-]+)-(?P<version>[^/-]+)-[^/]+\.whl\Z")
_MOST_KEPT = 64 << 20
"""An ELF file is looked at in memory up to this size; all records together may have as much."""


@dataclass(frozen=True)
class ForeignArchive(Archive):
    """An archive that conda-pack or pixi-pack made. ``packer`` and ``container`` are as in ``Kind``.

    ``verified`` is how many files were held against the sha256 of their package, where that was asked for, and
    ``unverified`` how many no package has a hash of, or were changed so that they could be packed.
    """

    packer: str = ""
    container: str = ""
    verified: int | None = None
    unverified: int | None = None

    def to_json(self) -> dict[str, Any]:
        shown = {**super().to_json(), "packer": self.packer, "container": self.container}
        if self.verified is not None:
            shown |= {"verified": self.verified, "unverified": self.unverified}
        return shown


def inspect(archive: Path, kind: Kind, *, verify: bool = False, reporter: Reporter | None = None) -> ForeignArchive:
    """What ``archive`` holds. Raises ``ArchiveError`` for what may not be in it, as unpacking would.

    With ``verify`` also where a file is not the one that its package's records have a sha256 of.
    """
    scan = _Scan(archive)
    with members_in(archive, kind, reporter or SilentReporter()) as (members, limits):
        scan.take(members, limits)
    packages = _Packages()
    if kind.packer == PIXI_PACK:
        packages.read_channel(scan)
    else:
        packages.read_records(scan)
    host_needs = scan.needs.host_needs([file.path for file in scan.files], packages.found, packages.virtual)
    if host_needs.machine is None:
        host_needs = HostNeeds(machine_of(packages.platform))
    name = archive.name.split(".")[0]
    manifest = Manifest(
        name, packages.platform, packages.python, kind.packer, tuple(packages.found), host_needs, scan.files
    )
    found = ForeignArchive(archive, manifest, os.stat(archive).st_size, packer=kind.packer, container=kind.container)
    return _compared(found, packages.hashes) if verify else found


def _compared(archive: ForeignArchive, hashes: Mapping[str, set[str]]) -> ForeignArchive:
    verified = unverified = 0
    wrong: list[str] = []
    for file in archive.manifest.files.of_kind("file"):
        known = hashes.get(file.path)
        if known and file.sha256 in known:
            verified += 1
        elif not known or _MAY_DIFFER in known:
            unverified += 1
        else:
            wrong.append(file.path)
    if wrong:
        raise ArchiveError(
            f"{archive.path} is not what its packages were",
            cause=f"{wrong[0]} has another sha256" + (f", and {len(wrong) - 1} more have" if wrong[1:] else ""),
            hint="They were changed before they were packed, or after",
            details=wrong,
        )
    return replace(archive, verified=verified, unverified=unverified)


_MAY_DIFFER = "may differ"


@dataclass
class _Scan:
    """What one pass over the members keeps: all members, the texts of records, what ELF files need."""

    archive: Path
    files: Files = field(default_factory=Files)
    texts: dict[str, bytes] = field(default_factory=dict)
    needs: NeedsCollector = field(default_factory=NeedsCollector)

    def take(self, members: Iterator[Member], limits: Limits) -> None:
        rules = Rules(self.archive)
        hashes: dict[str, tuple[int, str]] = {}
        kept = 0
        for member in members:
            rules.passed(member)
            limits.count(member.size)
            size, sha256, kind = 0, "", member.kind
            if kind == "hardlink":
                kind, (size, sha256) = "file", hashes[member.target]
            elif kind == "file":
                size, sha256 = member.size, self._content(member)
                kept += len(self.texts.get(member.path, b""))
                if kept > _MOST_KEPT:
                    raise ArchiveError(f"{self.archive} is refused", cause="its records are longer than any real ones")
                hashes[member.path] = size, sha256
            mode, target = member.mode & 0o777, member.target if kind == "link" else ""
            self.files.add(File(member.path, kind, mode, member.mtime, size, sha256, target=target))

    def _content(self, member: Member) -> str:
        """The sha256 of ``member``; its content is kept where it says something of packages."""
        digest = hashlib.sha256()
        is_record = member.path == METADATA or any(
            pattern.fullmatch(member.path) for pattern in (_META, _DIST_INFO, _REPODATA)
        )
        kept: list[bytes] = []
        is_elf = False
        for count, block in enumerate(member.blocks()):
            digest.update(block)
            is_elf = block.startswith(MAGIC) if count == 0 else is_elf
            if (is_record or is_elf) and member.size <= _MOST_KEPT:
                kept.append(block)
        if is_record:
            self.texts[member.path] = b"".join(kept)
        elif is_elf and kept:
            self.needs.add(member.path, needs(b"".join(kept)))
        return digest.hexdigest()


class _Packages:
    """What the records in an archive say: packages, platform, hashes of files by path."""

    def __init__(self) -> None:
        self.found: list[Package] = []
        self.platform = "noarch"
        self.python: str | None = None
        self.virtual: list[tuple[str, str]] = []
        self.hashes: dict[str, set[str]] = {}

    def read_records(self, scan: _Scan) -> None:
        """Read ``conda-meta`` and ``*.dist-info`` of a prefix."""
        owned: set[str] = set()
        for path, text in sorted(scan.texts.items()):
            if (match := _META.fullmatch(path)) and (record := _object(text)) and "name" in record:
                self._add(record)
                root = match["root"]
                owned.update(f"{root}{each}" for each in record.get("files") or [])
                for entry in (record.get("paths_data") or {}).get("paths") or []:
                    self._add_path(root, entry)
        for path, text in sorted(scan.texts.items()):
            if (match := _DIST_INFO.fullmatch(path)) and path not in owned:
                if path.endswith("/METADATA"):
                    headers = HeaderParser().parsestr(text.decode(errors="replace"), headersonly=True)
                    name, version = str(headers["Name"]), str(headers["Version"])
                    self.found.append(Package(canonical_name(name), version, "pypi"))
                else:
                    self._add_record(match["site"], text)

    def read_channel(self, scan: _Scan) -> None:
        """Read the channel and the wheels of pixi-pack."""
        self.platform = str((_object(scan.texts.get(METADATA, b"")) or {}).get("platform", "noarch"))
        for path, text in sorted(scan.texts.items()):
            if match := _REPODATA.fullmatch(path):
                content = _object(text) or {}
                for name, record in [*_items(content, "packages"), *_items(content, "packages.conda")]:
                    self._add(record)
                    if isinstance(sha256 := record.get("sha256"), str):
                        self.hashes[f"channel/{match['subdir']}/{name}"] = {sha256}
        for file in scan.files:
            if match := _WHEEL.fullmatch(file.path):
                self.found.append(Package(canonical_name(match["name"]), match["version"], "pypi"))

    def _add(self, record: Mapping[str, Any]) -> None:
        name, version = str(record["name"]), str(record.get("version", ""))
        self.found.append(Package(name, version, str(record.get("build", ""))))
        if name == "python":
            self.python = version
        if isinstance(subdir := record.get("subdir"), str) and subdir != "noarch":
            self.platform = subdir
        depends = record.get("depends")
        for dependency in depends if isinstance(depends, list) else ():
            if isinstance(dependency, str) and dependency.startswith("__"):
                self.virtual.append((dependency, f"{name} {version}"))

    def _add_path(self, root: str, entry: Mapping[str, Any]) -> None:
        path = f"{root}{entry['_path']}"
        hashes = {str(entry[key]) for key in ("sha256", "sha256_in_prefix") if entry.get(key)}
        if hashes and (entry.get("prefix_placeholder") or path.startswith(f"{root}bin/")):
            hashes.add(_MAY_DIFFER)
        self.hashes.setdefault(path, set()).update(hashes)

    def _add_record(self, site: str, text: bytes) -> None:
        for row in csv.reader(io.StringIO(text.decode(errors="replace"))):
            if len(row) > 1 and (digest := hexadecimal(row[1])):
                path = os.path.normpath(f"{site}{row[0]}")
                hashes = {*digest, _MAY_DIFFER} if "/bin/" in f"/{path}" else set(digest)
                self.hashes.setdefault(path, set()).update(hashes)


def _items(content: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    table = content.get(key)
    entries = table.items() if isinstance(table, dict) else ()
    return [(name, record) for name, record in entries if isinstance(record, dict) and "name" in record]


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
