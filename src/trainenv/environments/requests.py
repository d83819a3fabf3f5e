"""Where a package was asked for: file, line, and what stands there."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from trainenv.credentials import without_credentials
from trainenv.environments.records import canonical_name
from trainenv.environments.specification import Specification, project_requirements
from trainenv.errors import SolveError, TrainenvError

_ENTRY = re.compile(r"^\s*(?:- )?\s*[\"']?(?:[\w./:-]+::)?([A-Za-z0-9][\w.-]*)")


def blame(error: TrainenvError, specification: Specification) -> None:
    """Add to ``error`` the lines of the specification's files that ask for what it names."""
    said = error.details if error.details and isinstance(error, SolveError) else [error.message]
    words = {canonical_name(word) for line in said for word in re.findall(r"[A-Za-z0-9][\w.-]*", line)}
    error.details = (*error.details, *lines_naming(words, specification))


def lines_naming(names: Collection[str], specification: Specification) -> list[str]:
    """The lines of the files of ``specification`` that ask for a package of ``names`` (canonical)."""
    found = [*_in_environment_files(names, specification), *_in_requirements(names, specification)]
    found += _in_projects(names, specification)
    return list(dict.fromkeys(map(without_credentials, found)))


def _in_environment_files(names: Collection[str], specification: Specification) -> Iterator[str]:
    for file in specification.files:
        for number, line in _lines_of(file):
            if (
                (entry := _ENTRY.match(line))
                and canonical_name(entry[1].rstrip(".-")) in names
                and line.strip() != "- pip:"
            ):
                yield f"{file} line {number}: {line.strip().removeprefix('- ')}"


def _in_requirements(names: Collection[str], specification: Specification) -> Iterator[str]:
    for line in specification.requirements:
        if line.place and (requirement := line.requirement) and canonical_name(requirement.name) in names:
            yield f"{line.place}: {line.shown}"
        if line.option == "--constraint" and (file := Path(line.value)).is_file():
            for number, text in _lines_of(file):
                if (entry := _ENTRY.match(text)) and canonical_name(entry[1].rstrip(".-")) in names:
                    yield f"{file} line {number}: {text.strip()}"


def _in_projects(names: Collection[str], specification: Specification) -> Iterator[str]:
    wanted = [str(each) for each in project_requirements(specification) if canonical_name(each.name) in names]
    for file in specification.projects:
        for number, line in _lines_of(file):
            for text in re.findall(r"\"([^\"]+)\"|'([^']+)'", line):
                if _normal(written := "".join(text)) in wanted:
                    yield f"{file} line {number}: {written}"


def _lines_of(file: Path) -> Iterator[tuple[int, str]]:
    if file.is_file():
        yield from enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1)


def _normal(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return str(Requirement(text))
    except InvalidRequirement:
        return ""
