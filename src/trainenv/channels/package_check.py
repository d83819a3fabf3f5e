"""Does an extracted conda package keep to its own folder? Looked at before any of its files is linked.

A package says in ``info/paths.json`` which files it has and in ``info/link.json`` which programs are to
be made for it. py-rattler takes both at their word: ``..`` leads out of the environment, and an
absolute path ends the whole process.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PROGRAM = re.compile(r"[^/\0\s=][^/\0\n=]*\Z")
_RECORDS = re.compile(r"conda-meta/(?:[^/]+\.json|history|trainenv(?:/.*)?)\Z")


def fault(folder: Path) -> str | None:
    """Why the package extracted in ``folder`` must not be linked; None if nothing speaks against it."""
    try:
        return next(_faults(folder), None)
    except (OSError, ValueError) as error:
        return f"its records can't be read ({error})"


def _faults(folder: Path) -> Iterator[str]:
    listed = _content(folder / "info" / "paths.json")
    entries: list[dict[str, Any]] = []
    if listed is not None:
        found = listed.get("paths") if isinstance(listed, dict) else None
        if not isinstance(found, list) or not all(_is_entry(entry) for entry in found):
            yield "its info/paths.json is not a list of files"
            return
        entries = found
    paths = [str(entry["_path"]) for entry in entries] if listed is not None else _lines(folder / "info" / "files")
    folders: set[str] = set()
    for path in paths:
        if reason := _outside(path):
            yield f"it has a file {path!r}, {reason}"
        if _RECORDS.match(path):
            yield f"it has a file {path!r}, which is no package's to write"
        folders.update(_above(path))
    for entry in entries:
        path = entry["_path"]
        if path in folders and entry.get("path_type", "hardlink") != "directory":
            yield f"{path!r} is a file in it and the folder of another one"
        if not os.path.lexists(folder / path) and entry.get("path_type") != "directory":
            yield f"it has no {path!r}, which it lists"
    yield from _program_faults(folder)


def _program_faults(folder: Path) -> Iterator[str]:
    link = _content(folder / "info" / "link.json")
    noarch = link.get("noarch") if isinstance(link, dict) else None
    points = noarch.get("entry_points") if isinstance(noarch, dict) else None
    for point in points or ():
        name = str(point).partition("=")[0].strip()
        if not _PROGRAM.match(name) or name in (".", ".."):
            yield f"it wants to be started as {name!r}, which is no name of a program"


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("_path"), str)


def _outside(path: str) -> str:
    if not path or "\0" in path:
        return "which is no path"
    if path.startswith("/"):
        return "an absolute path"
    return "which leads out of the environment" if ".." in path.split("/") else ""


def _above(path: str) -> Iterator[str]:
    """The folders that ``path`` is in, relative to the package."""
    while path := path.rpartition("/")[0]:
        yield path


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line]
    except FileNotFoundError:
        return []


def ways_out(folder: Path) -> list[str]:
    """The links in ``folder``, a package or an environment, that lead out of it, as paths in it."""
    found = []
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            file = os.path.join(place, name)
            if os.path.islink(file) and _leads_out(os.path.relpath(file, folder), os.readlink(file)):
                found.append(_common(os.path.relpath(file, folder)))
    return found


def ways_out_of_records(prefix: Path) -> list[str]:
    """``ways_out`` of the environment at ``prefix``, of its conda packages only: without a look at each file."""
    found = []
    for record in (prefix / "conda-meta").glob("*.json"):
        for path in map(json.loads, _SOFTLINK.findall(record.read_text(encoding="utf-8"))):
            file = prefix / path
            if file.is_symlink() and _leads_out(path, os.readlink(file)):
                found.append(_common(path))
    return found


_SOFTLINK = re.compile(r'"_path":\s*("(?:[^"\\]|\\.)*"),\s*"path_type":\s*"softlink"')


class Roads:
    """Sees to it that no package writes through a link of another one out of the prefix.

    Packages are linked at the same time, by several threads: of two that don't go together, whichever
    comes second is refused. ``present`` are the links that lead out of the prefix already.
    """

    def __init__(self, present: Iterable[str] = ()) -> None:
        self._ways_out = dict.fromkeys(present, "the environment")
        self._begun: dict[str, Path] = {}
        self._guard = threading.Lock()

    def fault(self, name: str, folder: Path, links: Iterable[str]) -> str | None:
        """Why package ``name``, extracted in ``folder``, can't be linked; ``links`` are its ``ways_out``."""
        with self._guard:
            own = dict.fromkeys(links, name)
            others = {self._begun[other]: own for other in self._begun} if own else {}
            self._ways_out |= own
            self._begun[name] = folder
            for place, ways in {**others, folder: self._ways_out}.items():
                if ways and (through := next((path for path in _folders(place) if path in ways), None)):
                    return f"files would be written through {through!r}, a link of {ways[through]} that leads out of it"
        return None


def _leads_out(path: str, target: str) -> bool:
    return os.path.isabs(target) or os.path.normpath(os.path.join(os.path.dirname(path), target)).startswith("..")


def _folders(package: Path) -> Iterator[str]:
    """The folders that a package puts files into, as ``_common`` writes them."""
    for place, _, files in os.walk(package):
        if files:
            path = _common(os.path.relpath(place, package))
            yield path
            yield from _above(path)


def _common(path: str) -> str:
    """One spelling for the places of Python packages, which a noarch package leaves open."""
    path = re.sub(r"^lib/python[^/]+/site-packages(?=/|$)", "site-packages", path)
    return re.sub(r"^python-scripts(?=/|$)", "bin", path)
