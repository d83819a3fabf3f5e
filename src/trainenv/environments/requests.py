"""Where a package was asked for: file, line, and what stands there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from trainenv.environments.records import canonical_name
from trainenv.environments.specification import Specification
from trainenv.errors import SolveError

_ENTRY = re.compile(r"^\s*(?:- )?\s*[\"']?(?:[\w./:-]+::)?([A-Za-z0-9][\w.-]*)")
_INCLUDE = re.compile(r"^\s*(?:- )?\s*(?:-r|--requirement|-c|--constraint)[ =]?(\S+)")


def blame(error: SolveError, specification: Specification) -> None:
    """Add to ``error`` the lines of the specification's files that ask for what it names."""
    words = {canonical_name(word) for line in error.details for word in re.findall(r"[A-Za-z0-9][\w.-]*", line)}
    files = [*specification.files, *specification.requirement_files]
    error.details = (*error.details, *lines_naming(words, files))


def lines_naming(names: Collection[str], files: Sequence[Path]) -> list[str]:
    """The lines of ``files``, and of those they include, that ask for a package of ``names`` (canonical)."""
    return list(dict.fromkeys(_lines(names, list(files))))


def _lines(names: Collection[str], pending: list[Path]) -> Iterator[str]:
    seen: set[Path] = set()
    while pending:
        file = pending.pop(0)
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            if included := _INCLUDE.match(line):
                pending.append(file.parent / included[1].strip("\"'"))
            elif (entry := _ENTRY.match(line)) and canonical_name(entry[1].rstrip(".-")) in names:
                asked = line.strip().removeprefix("- ").rstrip("\\ ")
                yield f"{file} line {number}: {asked}"
