"""What stands in a prefix: its conda records, its PyPI distributions, and trainenv's own notes.

Reads ``conda-meta/*.json`` and ``*.dist-info`` as they are on disk, so prefixes that conda, mamba
or pixi made are understood as well.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trainenv.credentials import without_credentials
from trainenv.errors import VerificationError

NOTES_DIR = "conda-meta/trainenv"

ENVIRONMENT_NOTE = "environment.json"
"""The note that says what was asked for, and where it came from."""


@dataclass(frozen=True)
class Package:
    """One installed package. ``build`` is conda's build string, or ``"pypi"``.

    ``channel`` is where it came from: a conda channel, or for PyPI packages ``"pypi"``. Of those,
    ``url`` is what was asked for in place of a name, ``editable`` the folder of a project that is used
    where it lies, ``replaces`` the conda package whose files it has taken over.
    """

    name: str
    version: str
    build: str
    channel: str
    replaces: str | None = field(default=None, compare=False)
    editable: str | None = field(default=None, compare=False)
    url: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, str | None]:
        return {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "channel": self.channel,
            "replaces": self.replaces,
            "editable": self.editable,
            "url": self.url,
        }


LINK_HASH = "sha256_of_link"
"""In an entry of a record's paths, for a symlink: the sha256 of the path that it leads to, as it stands in it."""


@dataclass(frozen=True)
class CondaRecord:
    """One ``conda-meta/*.json``; ``content`` is the JSON object as it stands."""

    path: Path
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.content["name"])

    @property
    def files(self) -> list[str]:
        """The paths, relative to the prefix, that the package owns."""
        return list(self.content.get("files") or [entry["_path"] for entry in self.paths])

    @property
    def paths(self) -> list[dict[str, Any]]:
        """``paths_data.paths``: ``_path``, ``path_type``, ``sha256``, ``sha256_in_prefix``, …"""
        return list((self.content.get("paths_data") or {}).get("paths") or [])

    @property
    def package(self) -> Package:
        return Package(self.name, str(self.content["version"]), str(self.content.get("build", "")), self.channel)

    @property
    def channel(self) -> str:
        return channel_name(str(self.content.get("channel") or ""))


@dataclass(frozen=True)
class Distribution:
    """One ``*.dist-info`` folder: ``folder`` is relative to the prefix."""

    name: str
    version: str
    folder: str
    prefix: Path

    @property
    def key(self) -> str:
        return canonical_name(self.name)

    @property
    def record_file(self) -> Path:
        return self.prefix / self.folder / "RECORD"

    def record(self) -> Iterator[tuple[str, str, str]]:
        """Lines of RECORD as (path relative to the prefix, ``sha256=…`` or "", size or "")."""
        import csv

        site_packages = os.path.dirname(self.folder)
        try:
            with self.record_file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
                for row in csv.reader(stream):
                    if row:
                        path = os.path.normpath(os.path.join(site_packages, row[0]))
                        yield path, row[1] if len(row) > 1 else "", row[2] if len(row) > 2 else ""
        except (OSError, csv.Error):
            return

    @property
    def requires(self) -> list[str]:
        """What it needs, as requirements with their markers; those of its extras as well."""
        try:
            return [
                value for name, value in _headers(self.prefix / self.folder / "METADATA") if name == "requires-dist"
            ]
        except OSError:
            return []

    @property
    def direct_url(self) -> dict[str, Any] | None:
        """The content of ``direct_url.json``, for what did not come from an index."""
        try:
            content = json.loads((self.prefix / self.folder / "direct_url.json").read_bytes())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None


def _headers(file: Path) -> list[tuple[str, str]]:
    """The headers of a ``METADATA`` file, names in lower case. Python's own parser takes long to import."""
    found: list[tuple[str, str]] = []
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            name, separator, value = line.partition(":")
            if line[0] in " \t" and found:
                found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
            elif separator:
                found.append((name.strip().lower(), value.strip()))
            else:
                break
    return found


def canonical_name(name: str) -> str:
    """A PyPI name as the index normalises it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def conda_name(spec: str) -> str:
    """The name of the package that a record's dependency (``numpy >=1.2``, ``numpy>=1.2``) speaks of."""
    return re.split(r"[\s=<>!~\[]", spec.strip().rpartition("::")[2], maxsplit=1)[0].lower()


def channel_name(channel: str) -> str:
    """A channel's URL as people name it: the last path component, ``host`` for the host channel."""
    if "://" not in channel:
        return channel or "unknown"
    path = channel.split("://", 1)[1].rstrip("/")
    parts = path.split("/")
    if len(parts) > 1 and parts[-1] in ("linux-64", "linux-aarch64", "noarch", "linux-ppc64le"):
        parts.pop()
    return parts[-1]


def conda_records(prefix: Path, *, hashes: bool = True) -> list[CondaRecord]:
    """All conda records of ``prefix``, by name. Raises ``VerificationError`` for an unreadable one.

    Without ``hashes`` their ``paths`` have only what ``files`` lack, and room for a prefix: a tenth of the memory.
    """
    found, unreadable = readable_conda_records(prefix, hashes=hashes)
    for path, cause in unreadable.items():
        raise VerificationError(
            f"the record {path} can't be read",
            cause=cause,
            hint="`trainenv env repair NAME` installs the package again",
        )
    return found


def readable_conda_records(prefix: Path, *, hashes: bool = True) -> tuple[list[CondaRecord], dict[Path, str]]:
    """The conda records of ``prefix``, by name, and why each other one can't be read."""
    found: list[CondaRecord] = []
    unreadable: dict[Path, str] = {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        try:
            record = CondaRecord(path, json.loads(path.read_bytes()))
            _ = record.name, record.content["version"], record.files
            found.append(record if hashes else _without_hashes(record))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            unreadable[path] = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return sorted(found, key=lambda record: record.name), unreadable


def _without_hashes(record: CondaRecord) -> CondaRecord:
    """``record`` with no more of ``paths`` than ``files`` lack, and room for a prefix."""
    files = [sys.intern(str(path)) for path in record.files]
    listed = set(files)
    fields = ("_path", "file_mode", "prefix_placeholder")
    paths = [
        {name: entry[name] for name in fields if name in entry}
        for entry in record.paths
        if "prefix_placeholder" in entry or entry["_path"] not in listed
    ]
    return CondaRecord(record.path, {**record.content, "files": files, "paths_data": {"paths": paths}})


def site_packages(prefix: Path) -> list[str]:
    """The site-packages folders of ``prefix``, relative to it."""
    return sorted(
        str(folder.relative_to(prefix)) for folder in prefix.glob("lib/python3.*/site-packages") if folder.is_dir()
    )


def distributions(prefix: Path) -> list[Distribution]:
    """All PyPI distributions of ``prefix``, whoever installed them, by name."""
    found = []
    for site in site_packages(prefix):
        for folder in sorted((prefix / site).glob("*.dist-info")):
            try:
                metadata = dict(reversed(_headers(folder / "METADATA")))
            except OSError:
                continue
            if folder.name.startswith("~") or not (metadata.get("name") and metadata.get("version")):
                continue  # pip's backup of what it was just replacing, or the remains of a killed pip.
            relative = str(folder.relative_to(prefix))
            found.append(Distribution(metadata["name"], metadata["version"], relative, prefix))
    return sorted(found, key=lambda distribution: distribution.key)


def pypi_distributions(prefix: Path, records: list[CondaRecord] | None = None) -> list[Distribution]:
    """The distributions that no conda package brought."""
    records = conda_records(prefix, hashes=False) if records is None else records
    owned = {path for record in records for path in record.files if path.endswith(".dist-info/METADATA")}
    return [found for found in distributions(prefix) if f"{found.folder}/METADATA" not in owned]


def packages(prefix: Path) -> list[Package]:
    """Everything installed in ``prefix``, conda and PyPI, by name."""
    records = conda_records(prefix)
    replaced = read_note(prefix, ENVIRONMENT_NOTE).get("replaced", {})
    found = [record.package for record in records]
    found += [_pypi_package(item, replaced) for item in pypi_distributions(prefix, records)]
    return sorted(found, key=lambda package: package.name)


def _pypi_package(found: Distribution, replaced: Mapping[str, Mapping[str, str]]) -> Package:
    origin = found.direct_url or {}
    url = str(origin.get("url") or "")
    if commit := (origin.get("vcs_info") or {}).get("commit_id"):
        url = f"{origin['vcs_info'].get('vcs', 'git')}+{url}@{commit}"
    editable = bool((origin.get("dir_info") or {}).get("editable"))
    # conda's pytorch is replaced by PyPI's torch.
    named = {
        canonical_name(item.get("distribution", name)): (name, item)
        for name, item in replaced.items()
        if isinstance(item, dict)
    }
    name, former = named.get(found.key, ("", {}))
    return Package(
        found.key,
        found.version,
        "pypi",
        "pypi",
        replaces=f"{name} {former.get('version')} ({former.get('channel')})" if former else None,
        editable=unquote(urlsplit(url).path) if editable else None,
        url=without_credentials(url) if url and not editable else None,
    )


def python_version(prefix: Path) -> str | None:
    """The version of the prefix's Python, as its conda record has it; None without Python."""
    for path in (prefix / "conda-meta").glob("python-[0-9]*.json"):
        return path.name.split("-")[1]
    return None


def read_note(prefix: Path, name: str) -> dict[str, Any]:
    """trainenv's own note ``name`` of the environment, ``{}`` where there is none."""
    try:
        content = json.loads((prefix / NOTES_DIR / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_note(prefix: Path, name: str, content: Mapping[str, Any]) -> None:
    """Replace note ``name``; whoever reads sees the old or the new one, never half of it."""
    replace_file(prefix / NOTES_DIR / name, note_text(content))


def note_text(content: Mapping[str, Any]) -> bytes:
    """A note as it is written: the same for the same content."""
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def replace_file(path: Path, data: bytes, *, keep_time: bool = False) -> None:
    """Write ``data`` beside ``path`` and rename it over: links to the old file keep their content.

    With ``keep_time`` it has the time of the old file, as it says the same about another place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        if keep_time:
            former = path.stat()
            os.utime(beside, ns=(former.st_atime_ns, former.st_mtime_ns))
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
