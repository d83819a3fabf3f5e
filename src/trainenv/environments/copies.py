"""A second environment from a first one, and another name for one: hard links, relocated where needed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from trainenv import locks, relocation
from trainenv.environments import generations, registry, relocated, staging
from trainenv.environments.content_index import still_known
from trainenv.environments.environment import Environment
from trainenv.environments.ownership import blank_hashes
from trainenv.environments.records import NOTES_DIR, conda_records, read_note, replace_file
from trainenv.progress import Reporter
from trainenv.settings import Settings

_EDITED_FOLDERS = ("etc", "ssl", "var", "share/jupyter")
_BELOW_EDITED = tuple(f"{folder}/" for folder in ("conda-meta", *_EDITED_FOLDERS))
_EDITED_SUFFIXES = (".pth", ".egg-link", ".conf", ".cfg", ".ini", ".condarc")
_SITE_PACKAGES = re.compile(r"lib/python[^/]*/site-packages/")


def clone(settings: Settings, source: Environment, name: str, reporter: Reporter) -> None:
    """Make environment ``name`` as a copy of ``source``, which may lie anywhere and be conda's.

    The copy shares the bytes of unchanged files and is independent all the same: tools replace these
    files, and those that tools edit in place are copied. Raises ``EnvironmentExistsError``,
    ``EnvironmentBusyError`` while ``source`` is being changed, or ``RelocationError`` for a prefix
    that is too long, leaving nothing behind.
    """
    staging.require(settings, name, exists=False)
    with (
        locks.in_use(source.prefix),
        staging.staged(settings, name) as stage,
        still_known(settings.cache_dir, source.prefix),
    ):
        copy(source.prefix, stage.path, stage.target_prefix, reporter)
    registry.register(settings.prefix_of(name))


def rename(settings: Settings, old: str, new: str, reporter: Reporter, if_busy: locks.IfBusy = locks.REFUSE) -> None:
    """Give environment ``old`` the name ``new``.

    Nobody can use or change it meanwhile; whoever is killed in between leaves the old one or the new one, or
    both for as long as no next change finishes it.
    Raises as ``clone`` does, and ``EnvironmentBusyError`` while ``old`` is in use, unless ``if_busy`` says otherwise.
    """
    if (old, new) in staging.finish_renames(settings):
        return
    staging.require(settings, new, exists=False)
    with staging.disk_full_told(settings, old), locks.exclusive(settings, old, if_busy):
        staging.require(settings, old, exists=True)
        prefix = settings.prefix_of(old)
        carried = relocated.carried_prefix(prefix)
        with staging.staged(settings, new) as stage, still_known(settings.cache_dir, prefix):
            target = stage.target_prefix
            if carried not in (None, settings.target_prefix_of(old)) and os.path.basename(carried) == old:
                target = os.path.join(os.path.dirname(carried), new)
            copy(prefix, stage.path, target, reporter)
            staging.mark_renamed(stage.path, prefix)
        registry.register(settings.prefix_of(new))
        registry.unregister(prefix)
        with still_known(settings.cache_dir, settings.prefix_of(new)):
            staging.discard(settings, old)
        staging.unmark_renamed(settings.prefix_of(new))


def copy(source: Path, target: Path, target_prefix: str, reporter: Reporter) -> None:
    """Fill the empty folder ``target`` with a copy of ``source`` whose files carry ``target_prefix``."""
    with reporter.step("link files"):
        target.rmdir()
        staging.clone(source, target)
        for file in _edited_in_place(target):
            _unshare(file)
    moved: dict[str, relocation.Occurrences] = {}
    lengths = placeholder_lengths(target)
    twice: set[str] = set()
    for held in _prefixes_held(source):
        found = relocation.relocate_tree(
            target,
            held,
            target_prefix,
            placeholder_lengths=lengths,
            recorded=relocated.recorded(target, held),
            reporter=reporter,
        )
        twice |= moved.keys() & found.keys()
        moved |= found
    if twice:
        moved |= relocation.find_in_tree(target, target_prefix, paths=sorted(twice), placeholder_lengths=lengths)
    keep_records_true(target, moved, target_prefix)
    relocated.write_carried_prefix(target, target_prefix)
    (target / NOTES_DIR / generations.NOTE).unlink(missing_ok=True)


def placeholder_lengths(prefix: Path) -> dict[str, int]:
    """How long a prefix the conda packages of ``prefix`` were built with, by the path of a binary."""
    return {
        entry["_path"]: len(entry["prefix_placeholder"].encode())
        for record in conda_records(prefix, hashes=False)
        for entry in record.paths
        if entry.get("file_mode") == "binary" and isinstance(entry.get("prefix_placeholder"), str)
    }


def keep_records_true(prefix: Path, moved: Mapping[str, relocation.Occurrences], carried: str) -> None:
    """Write the hashes of relocated files into the records of ``prefix``.

    ``moved`` are the occurrences of ``carried``, by path. conda's records get the new hash; RECORD, of
    files that change with every move, gets none, and ``relocation.json`` the canonical one.
    """
    if not moved:
        return
    noted = read_note(prefix, relocated.NOTE).get("files", {})
    hash_in_conda_records(prefix, moved.keys() - noted.keys())
    unhashed = blank_hashes(prefix, moved.keys())
    relocated.remember(prefix, {path: moved[path] for path in unhashed}, carried)


def hash_in_conda_records(prefix: Path, moved: Collection[str]) -> None:
    """Write the hashes of the relocated files ``moved`` into conda's records of ``prefix``."""
    for record in conda_records(prefix):
        paths = record.paths
        changed = [entry for entry in paths if entry["_path"] in moved]
        for entry in changed:
            if entry.get("path_type") != "softlink":
                entry["sha256_in_prefix"] = hashlib.sha256((prefix / entry["_path"]).read_bytes()).hexdigest()
        if changed:
            data = {**(record.content.get("paths_data") or {}), "paths": paths}
            document = json.dumps({**record.content, "paths_data": data}, indent=2)
            replace_file(record.path, document.encode(), keep_time=True)


def _prefixes_held(source: Path) -> list[str]:
    """The prefixes that the files of ``source`` may carry: the noted one, and its own, links followed or not.

    The latter are in what somebody made there with other tools, after moving the environment by hand.
    """
    own = [os.path.abspath(source), os.path.realpath(source)]
    carried = relocated.carried_prefix(source)
    if carried is not None:
        own = [carried, *(each for each in own if not carried.startswith(f"{each}/"))]
    return list(dict.fromkeys(own))


def is_edited_in_place(path: str) -> bool:
    """Whether tools and people write into such a file, instead of replacing it: settings and records, above all.

    ``path`` is relative to the prefix.
    """
    folder, _, name = path.rpartition("/")
    if not folder or path.startswith(_BELOW_EDITED) or folder.endswith(".dist-info"):
        return True
    return name.endswith(_EDITED_SUFFIXES) and _SITE_PACKAGES.match(path) is not None


def _edited_in_place(prefix: Path) -> Iterator[Path]:
    """The regular files of a clone that ``is_edited_in_place`` is true of, but for its records, which are copies."""
    for entry in prefix.iterdir():
        if entry.is_file() and not entry.is_symlink():
            yield entry
    for place in (*(prefix / folder for folder in _EDITED_FOLDERS), *prefix.glob("lib/python*/site-packages")):
        for folder, _, names in os.walk(place):
            for name in names:
                file = Path(folder, name)
                if is_edited_in_place(str(file.relative_to(prefix))) and file.is_file() and not file.is_symlink():
                    yield file


def _unshare(file: Path) -> None:
    if file.stat().st_nlink > 1:
        beside = file.with_name(f".own-{os.getpid()}")
        shutil.copy2(file, beside)
        os.replace(beside, file)
