"""Who owns which file, after uv has written into a prefix that conda made.

uv replaces conda-owned files without a word (a newer setuptools over conda's). conda's records
would then list files that are gone or changed, and conda and conda-pack would call the environment
broken. So the records are brought in line with what is there.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from trainenv import relocation
from trainenv.environments.records import CondaRecord, conda_records, distributions, replace_file


class FileState(NamedTuple):
    """What tells a file from another one put in its place. ``size`` in bytes."""

    inode: int
    modified: int
    size: int


Snapshot = dict[str, FileState]
"""Every file and link of a prefix, by its path relative to the prefix."""


def snapshot(prefix: Path) -> Snapshot:
    """The state of all files of ``prefix``, without reading them."""
    found: Snapshot = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(prefix / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                else:
                    status = entry.stat(follow_symlinks=False)
                    found[path] = FileState(status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def settle_ownership(prefix: Path, target_prefix: str, before: Snapshot, after: Snapshot) -> dict[str, str]:
    """Make records and files agree after uv changed ``before`` into ``after``.

    Files that uv wrote with the staging prefix get ``target_prefix``; RECORD says no hash for them,
    since it changes with every move. Conda records give up what was replaced; a record that owns
    nothing any more is dropped. Returns the dropped packages, version by name.
    """
    written = [path for path, state in after.items() if before.get(path) != state]
    relocated = relocation.relocate_tree(prefix, str(prefix), target_prefix, paths=written)
    _blank_hashes(prefix, set(relocated))
    lost = {path for path, state in before.items() if after.get(path) != state}
    return _disown(conda_records(prefix), lost) if lost else {}


def _blank_hashes(prefix: Path, paths: set[str]) -> None:
    if not paths:
        return
    for distribution in distributions(prefix):
        rows = list(distribution.record())
        if not any(path in paths and digest for path, digest, _ in rows):
            continue
        site = os.path.dirname(distribution.folder)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for path, digest, size in rows:
            relative = os.path.relpath(path, site)
            writer.writerow([relative, "", ""] if path in paths else [relative, digest, size])
        replace_file(distribution.record_file, text.getvalue().encode())


def _disown(records: Iterable[CondaRecord], lost: set[str]) -> dict[str, str]:
    dropped: dict[str, str] = {}
    for record in records:
        if lost.isdisjoint(record.files):
            continue
        kept = [path for path in record.files if path not in lost]
        if not kept:
            record.path.unlink()
            dropped[record.name] = record.package.version
            continue
        content: dict[str, object] = {**record.content, "files": kept}
        paths_data: Mapping[str, object] | None = record.content.get("paths_data")
        if paths_data:
            paths = [entry for entry in record.paths if entry["_path"] not in lost]
            content["paths_data"] = {**paths_data, "paths": paths}
        replace_file(record.path, json.dumps(content, indent=2).encode())
    return dropped
