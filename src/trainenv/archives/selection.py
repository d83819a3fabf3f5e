"""Which of an environment's files an archive gets, and what is said of those that it does not."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from trainenv.archives.inventory import Inventory, source_of
from trainenv.archives.manifest import LeftOut
from trainenv.archives.stripping import strippable

Filter = tuple[Literal["exclude", "include"], str]
"""A pattern, as a shell has them, for paths relative to the prefix; ``*`` matches slashes as well."""

_EXCLUDED = "excluded"
_RECORD_FILES = re.compile(r"lib/python[^/]+/site-packages/[^/]+\.dist-info/(?:RECORD|METADATA)")


def select(
    prefix: Path, found: Inventory, filters: Sequence[Filter], strip: bool, notice: Callable[[str], None]
) -> tuple[Inventory, LeftOut]:
    """``found`` without what ``strip`` and then ``filters``, one after the other, leave out.

    A pattern that matches a folder is for all that is in it. What says which packages are installed
    stays whatever is asked. With a file go the bytecode made of it and the links that lead to it.
    """
    out: dict[str, str] = strippable(prefix, found) if strip else {}
    dropped: set[str] = set()
    for kind, pattern in filters:
        folders, files = _matching(pattern, found)
        if kind == "include":
            dropped -= folders
            for path in files:
                out.pop(path, None)
            continue
        if not files and not folders:
            notice(f"--exclude {pattern} matches nothing")
        dropped |= folders
        for path in files:
            out.setdefault(path, _EXCLUDED)
    for path in [path for path in out if _is_record(path)]:
        del out[path]
    for path in found.files:
        if path.endswith(".pyc") and (source := source_of(path)) in out:
            out.setdefault(path, out[str(source)])
    for path in sorted(found.links):
        led_to = os.path.relpath(os.path.realpath(prefix / path), prefix)
        if led_to in out:
            out.setdefault(path, out[led_to])
    if not out and not dropped:
        return found, LeftOut()
    sizes: dict[str, int] = {}
    for path, what in sorted(out.items()):
        size = 0 if path in found.links else os.lstat(found.place(prefix, path)).st_size
        sizes[what] = sizes.get(what, 0) + size
    kept = [path for path in found.files if path not in out]
    return found.with_files(kept, _folders(found, kept, dropped)), LeftOut(len(out), dict(sorted(sizes.items())))


def recorded(found: Inventory, packed: Inventory) -> dict[str, list[str]]:
    """The files that packages' records name and the archive lacks by wish, by package.

    ``found`` are the files of the prefix, ``packed`` those of the archive. Bytecode is not counted:
    Python makes and removes it, so nobody asks for it.
    """
    present = set(packed.files)
    lacking = {path for path in chain(found.files, found.already_left_out) if path not in present}
    listed: dict[str, list[str]] = {}
    for path in sorted(lacking):
        package = packed.listed_by.get(path)
        if package is not None and not path.endswith(".pyc"):
            listed.setdefault(package, []).append(path)
    return listed


def _matching(pattern: str, found: Inventory) -> tuple[set[str], list[str]]:
    """The folders and files that ``pattern`` matches, with all that is in those folders."""
    matches = re.compile(fnmatch.translate(pattern.removeprefix("./").rstrip("/"))).match
    folders: set[str] = set()
    for folder in found.folders:
        if matches(folder) or os.path.dirname(folder) in folders:
            folders.add(folder)
    return folders, [path for path in found.files if matches(path) or os.path.dirname(path) in folders]


def _is_record(path: str) -> bool:
    return path.startswith("conda-meta/") or _RECORD_FILES.fullmatch(path) is not None


def _folders(found: Inventory, kept: Sequence[str], dropped: set[str]) -> list[str]:
    """The folders that still hold something, and those that never did and were not ``dropped``."""
    needed = _above(kept)
    filled = _above(found.files)
    empty = [folder for folder in found.folders if folder not in filled and folder not in dropped]
    needed |= {*empty, *_above(empty)}
    return [folder for folder in found.folders if folder in needed]


def _above(paths: Sequence[str]) -> set[str]:
    """All folders that ``paths`` lie in."""
    found: set[str] = set()
    for path in paths:
        folder = os.path.dirname(path)
        while folder and folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found
