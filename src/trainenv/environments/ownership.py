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
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trainenv import relocation
from trainenv.environments import relocated
from trainenv.environments.records import canonical_name, conda_name, conda_records, distributions, replace_file

_STAGING_PREFIX = re.compile(rb"/[^\0\s\"':;,=]*/\.trainenv/staging/[A-Za-z0-9_.+-]+-[0-9a-f]{8}/prefix")
"""Of any workspace whose path is plain. That of an awkward one can't be told from what stands before it."""
_STAGED_NAME = rb"/([A-Za-z0-9_.+-]+-[0-9a-f]{8})/prefix"


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
        # What vanishes meanwhile, under a running command's hands, is not there.
        with suppress(FileNotFoundError), os.scandir(prefix / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found[path] = FileState(status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def changed(before: Snapshot, after: Snapshot) -> set[str]:
    """The paths that are new, gone or another file."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def same_packages(before: Snapshot, after: Snapshot) -> bool:
    """Whether two snapshots have the same packages with the same files; notes of them may differ."""
    records = ({path for path in state if re.fullmatch(r"conda-meta/[^/]+\.json", path)} for state in (before, after))
    return len({frozenset(each) for each in records}) == 1 and all(
        path.startswith("conda-meta/") for path in changed(before, after)
    )


def losing(prefix: Path, before: Snapshot, after: Snapshot) -> list[str]:
    """The conda packages of ``prefix`` that lost files or had them replaced between two snapshots."""
    lost = {path for path, state in before.items() if after.get(path) != state}
    return [record.name for record in conda_records(prefix) if not lost.isdisjoint(record.files)] if lost else []


def settle_ownership(prefix: Path, target_prefix: str, before: Snapshot, after: Snapshot) -> dict[str, dict[str, str]]:
    """Make records and files agree after uv changed ``before`` into ``after``.

    Files that uv wrote with the staging prefix get ``target_prefix``. RECORD then says no hash for
    them, since it changes with every move; ``relocated`` keeps it. Conda records give up what was
    replaced. A record that owns nothing any more, or whose Python package is another one's now, is
    dropped. Returns the dropped packages by name, each with its ``version`` and ``channel``.
    """
    written = {path for path, state in after.items() if before.get(path) != state}
    built = _built(prefix) & written
    # What uv has linked from its cache was there before this prefix, unless it was built for it.
    searched = sorted(path for path in written if path in built or os.lstat(f"{prefix}/{path}").st_nlink == 1)
    moved = relocation.relocate_tree(prefix, str(prefix), target_prefix, paths=searched)
    for stale in _other_staging_prefixes(prefix, built):
        moved |= relocation.relocate_tree(prefix, stale, target_prefix, paths=searched)
    unhashed = blank_hashes(prefix, moved.keys())
    if unhashed:
        found = relocation.find_in_tree(prefix, target_prefix, paths=unhashed)
        relocated.remember(prefix, found, target_prefix)
    lost = {path for path, state in before.items() if after.get(path) != state}
    there = {distribution.key for distribution in distributions(prefix)}
    return _disown(prefix, lost, there) if lost else {}


def _built(prefix: Path) -> set[str]:
    """The files of what was built from source."""
    from trainenv.environments import wheels

    built = wheels.built_here(prefix)
    ours = (distribution for distribution in distributions(prefix) if distribution.key in built)
    return {path for distribution in ours for path, _, _ in distribution.record()}


def _other_staging_prefixes(prefix: Path, built: Iterable[str]) -> set[str]:
    """The staging prefixes of other environments in the files ``built`` from source.

    A build may write down the prefix of its interpreter, and uv keeps what it built for later ones.
    """
    staging = prefix.parent.parent
    spellings = {relocation.spelled(str(staging), spelling) for spelling in relocation.SPELLINGS}
    of_this_workspace = re.compile(b"(?:" + b"|".join(map(re.escape, sorted(spellings))) + b")" + _STAGED_NAME)
    found: set[str] = set()
    for path in built:
        file = prefix / path
        if not file.is_symlink() and file.is_file():
            data = file.read_bytes()
            found |= {os.fsdecode(match) for match in _STAGING_PREFIX.findall(data)}
            found |= {f"{staging}/{name.decode()}/prefix" for name in of_this_workspace.findall(data)}
    return found - {str(prefix)}


def blank_hashes(prefix: Path, paths: Collection[str]) -> list[str]:
    """Take the hashes of ``paths`` out of every RECORD; returns those that stand in one."""
    blanked: list[str] = []
    for distribution in distributions(prefix) if paths else ():
        rows = list(distribution.record())
        own = [path for path, digest, _ in rows if path in paths and digest]
        if not own:
            continue
        blanked += own
        site = f"{os.path.dirname(distribution.folder)}/"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for path, digest, size in rows:
            relative = path.removeprefix(site) if path.startswith(site) else os.path.relpath(path, site)
            writer.writerow([relative, "", ""] if path in paths else [relative, digest, size])
        replace_file(distribution.record_file, text.getvalue().encode())
    return blanked


def _disown(prefix: Path, lost: set[str], distributions: set[str]) -> dict[str, dict[str, str]]:
    from trainenv.environments.given import needs_python

    dropped: dict[str, dict[str, str]] = {}
    for record in conda_records(prefix):
        if lost.isdisjoint(record.files):
            continue
        kept = [path for path in record.files if path not in lost]
        described = {path for path in record.files if path.endswith(".dist-info/METADATA")}
        lost_its_name = bool(described & lost) and canonical_name(record.name) in distributions
        # conda's pytorch is PyPI's torch; python may bring pip, and stays when that is replaced.
        lost_all_names = bool(described) and described <= lost and needs_python(record.content)
        if not kept or lost_its_name or lost_all_names:
            record.path.unlink()
            dropped[record.name] = {"version": record.package.version, "channel": record.channel}
            names = {canonical_name(path.split("/")[-2].split("-")[0]) for path in described}
            if other := sorted(names & distributions - {canonical_name(record.name)}):
                dropped[record.name]["distribution"] = other[0]
            continue
        content: dict[str, object] = {**record.content, "files": kept}
        paths_data: Mapping[str, object] | None = record.content.get("paths_data")
        if paths_data:
            paths = [entry for entry in record.paths if entry["_path"] not in lost]
            content["paths_data"] = {**paths_data, "paths": paths}
        replace_file(record.path, json.dumps(content, indent=2).encode())
    return dropped


def forget_needs(prefix: Path, replaced: Collection[str]) -> None:
    """Take the needs of conda packages that PyPI's have ``replaced`` out of the records that are left.

    Else conda would find the environment inconsistent, and put the package back beside the one that replaced it.
    """
    for record in conda_records(prefix) if replaced else ():
        needs = list(record.content.get("depends") or ())
        kept = [need for need in needs if conda_name(str(need)) not in replaced]
        if kept != needs:
            replace_file(record.path, json.dumps({**record.content, "depends": kept}, indent=2).encode())
