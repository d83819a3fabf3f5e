"""What an environment holds: its packages and one hash over all files that their records name.

The hash is the same for the same packages wherever the prefix lies: conda's records say the hash of a
file before its prefix was written into it, and PyPI's ``RECORD`` leaves that of such files empty. It
tells what was installed; whether every file still is what was installed says ``verify``. What an
installer notes for itself (``*.dist-info``) and compiled Python does not count. Standard library only: the
start of a task comes through here.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainenv.environments.records import Package, conda_records, packages, pypi_distributions, site_packages

_NOTES = re.compile(r"\.dist-info/|\.pyc\Z")


@dataclass(frozen=True)
class Fingerprint:
    """``manifest_sha256`` is over the path and recorded hash of each file and over the packages, by path and name."""

    manifest_sha256: str
    packages: tuple[Package, ...]


def fingerprint(prefix: Path) -> Fingerprint:
    """What ``prefix`` holds. Takes as long as reading all records. Raises ``VerificationError``."""
    records = conda_records(prefix)
    files: list[tuple[str, str]] = []
    for record in records:
        # A script that was made for an entry point names its interpreter: only that it is there counts.
        hashes = {
            str(entry["_path"]): str(entry.get("sha256") or "")
            for entry in record.paths
            if entry.get("path_type") in ("hardlink", "softlink")
        }
        files += [(path, hashes.get(path, "")) for path in record.files]
    for distribution in pypi_distributions(prefix, records):
        files += [(path, digest) for path, digest, _ in distribution.record()]
    found = packages(prefix)
    total = hashlib.sha256()
    for path, digest in sorted(each for each in files if not _NOTES.search(each[0])):
        total.update(f"{path}\0{digest}\n".encode(errors="surrogateescape"))
    for package in found:
        total.update(f"{package.name}\0{package.version}\0{package.build}\n".encode())
    return Fingerprint(total.hexdigest(), tuple(found))


def mark_of(prefix: Path) -> str:
    """A short text that changes whenever packages come or go, whoever brings them; found in a millisecond.

    It tells states of one prefix on one machine apart, no more.
    """
    total = hashlib.sha256(f"{prefix}\0".encode(errors="surrogateescape"))
    folders = [("conda-meta", ".json")] + [(site, ".dist-info") for site in site_packages(prefix)]
    for folder, suffix in folders:
        with suppress(FileNotFoundError), os.scandir(prefix / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(suffix):
                    status = entry.stat()
                    total.update(f"{entry.name}\0{status.st_ino} {status.st_mtime_ns} {status.st_size}\0".encode())
    return total.hexdigest()
