"""``pyproject.toml`` as a specification: the dependencies of a project, its extras and dependency groups.

The project itself is not installed; ``-e .`` among the requirements does that. uv reads the file
for the resolution (so ``tool.uv.sources`` counts); here stands what has to be known before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.errors import SpecificationError
from trainenv.settings import parse_toml

_WITH_EXTRAS = re.compile(r"(?P<file>.+)\[(?P<extras>[\w .,-]+)\]\Z")


@dataclass(frozen=True)
class Project:
    """What a ``pyproject.toml`` asks for. ``extras`` and ``groups`` are names that were chosen and exist.

    ``dependencies`` are requirement lines, those of the chosen extras and groups included.
    """

    name: str
    dependencies: tuple[str, ...]
    extras: tuple[str, ...]
    groups: tuple[str, ...]
    requires_python: str | None


def split_extras(file: Path) -> tuple[Path, tuple[str, ...]]:
    """``pyproject.toml[train,dev]`` as the file and the names in brackets."""
    match = _WITH_EXTRAS.match(str(file))
    if match is None or file.exists():
        return file, ()
    return Path(match["file"]), tuple(name.strip() for name in match["extras"].split(",") if name.strip())


def read(file: Path, text: str, chosen: Iterable[str] = ()) -> Project:
    """What ``text`` asks for with the ``chosen`` extras and groups. Raises ``SpecificationError``."""
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise SpecificationError(f"{file} is not valid TOML", cause=str(error)) from None
    project = _table(file, content, "project")
    groups = _table(file, content, "dependency-groups")
    optional = _table(file, project, "optional-dependencies")
    chosen = tuple(chosen)
    if not project and not (groups and chosen):
        hint = f"Choose a dependency group, as in {file.name}[GROUP], or write requirements" if groups else ""
        if "poetry" in _table(file, content, "tool"):
            hint = "Let poetry write them down: poetry export -o requirements.txt"
        raise SpecificationError(f"{file} names no dependencies", cause="it has no [project] table", hint=hint)
    if "dependencies" in (project.get("dynamic") or ()):
        raise SpecificationError(
            f"{file} has dynamic dependencies", hint="Install the project itself: put '-e .' into a requirements.txt"
        )
    extras = {_key(name): name for name in optional}
    named_groups = {_key(name): name for name in groups}
    lines = list(_strings(file, project.get("dependencies") or []))
    for name in chosen:
        if _key(name) not in extras and _key(name) not in named_groups:
            known = ", ".join(sorted({*optional, *groups})) or "none"
            raise SpecificationError(f"{file} has no extra or dependency group {name!r}", hint=f"It has: {known}")
        if _key(name) in extras:
            lines += _strings(file, optional[extras[_key(name)]])
        if _key(name) in named_groups:
            lines += _group(file, groups, named_groups, name, ())
    python = project.get("requires-python")
    return Project(
        str(project.get("name") or ""),
        tuple(lines),
        tuple(extras[_key(name)] for name in chosen if _key(name) in extras),
        tuple(named_groups[_key(name)] for name in chosen if _key(name) in named_groups),
        str(python) if python else None,
    )


def _group(
    file: Path, groups: Mapping[str, Any], names: Mapping[str, str], name: str, above: tuple[str, ...]
) -> Iterator[str]:
    key = _key(name)
    if key in above or key not in names:
        cause = "it includes itself" if key in above else "there is none"
        raise SpecificationError(f"{file} has no usable dependency group {name!r}", cause=cause)
    for entry in groups[names[key]]:
        if isinstance(entry, dict) and "include-group" in entry:
            yield from _group(file, groups, names, str(entry["include-group"]), (*above, key))
        else:
            yield from _strings(file, [entry])


def _strings(file: Path, entries: Any) -> Iterator[str]:
    if not isinstance(entries, list):
        raise SpecificationError(f"{file} has dependencies that are no list", cause=repr(entries))
    for entry in entries:
        if not isinstance(entry, str):
            raise SpecificationError(f"{file} has a dependency that is not understood", cause=repr(entry))
        yield entry


def _table(file: Path, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise SpecificationError(f"{key} in {file} must be a table")
    return value


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
