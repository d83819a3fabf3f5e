"""What PyPI packages earlier changes have asked for, as far as that is still in force.

An environment notes its requirements with their versions. One holds until the same package is asked for anew, or until
somebody has installed another version by other means: what is there is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.environments.records import Distribution, canonical_name
from trainenv.environments.requirement_lines import RequirementLine
from trainenv.environments.specification import Specification, named_requirements

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from trainenv.errors import TrainenvError


def in_force(note: Mapping[str, Any], specification: Specification, kept: Iterable[Distribution]) -> list[Requirement]:
    """The earlier requirements that hold beside ``specification`` for the PyPI packages ``kept``."""
    versions = {each.key: each.version for each in kept}
    spoken_of = names(specification)
    return [
        each
        for each in _noted(note)
        if (name := canonical_name(each.name)) in versions
        and name not in spoken_of
        and each.specifier.contains(versions[name], prereleases=True)
    ]


def to_note(
    note: Mapping[str, Any], specification: Specification, present: Iterable[Distribution], gone: Collection[str]
) -> list[str]:
    """What to note as asked for after a change: ``present`` is installed, ``gone`` (canonical names) no more."""
    new = named_requirements(specification)
    found = {_without_place(each) for each in new}
    named = {canonical_name(each.name) for each in new}
    elsewhere = names(specification) - named
    versions = {each.key: each.version for each in present}
    for each in _noted(note):
        name = canonical_name(each.name)
        if name in named or name in gone:
            continue
        holds = name not in versions or each.specifier.contains(versions[name], prereleases=True)
        found.add(str(each) if holds and name not in elsewhere else each.name)
    return sorted(found)


def requested_keys(note: Mapping[str, Any]) -> set[str]:
    """The canonical names of what was asked for."""
    return {canonical_name(each.name) for each in _noted(note)}


def _noted(note: Mapping[str, Any]) -> Iterator[Requirement]:
    texts = note.get("requested", [])
    if not texts:
        return
    from packaging.requirements import InvalidRequirement, Requirement

    for text in texts:
        try:
            yield Requirement(str(text))
        except InvalidRequirement:
            continue


def names(specification: Specification) -> set[str]:
    """The packages that ``specification`` asks for, by canonical name, also those asked for by a place."""
    found = {canonical_name(each.name) for each in named_requirements(specification)}
    return found | {name for line in specification.requirements if (name := _name_at(line))}


def _name_at(line: RequirementLine) -> str | None:
    """The name of the package at the path or address of ``line``, as far as that tells it."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    if not line.is_requirement or line.requirement is not None:
        return None
    place = Path(line.value.partition("#")[0].partition("[")[0].partition(" ;")[0].removeprefix("file://"))
    try:
        if place.name.endswith(".whl"):
            return str(parse_wheel_filename(place.name)[0])
        if place.name.endswith((".tar.gz", ".zip")):
            return str(parse_sdist_filename(place.name)[0])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return _name_of_project(place / "pyproject.toml")


def _name_of_project(file: Path) -> str | None:
    from trainenv.settings import parse_toml

    try:
        name = (parse_toml(file.read_text(encoding="utf-8")).get("project") or {}).get("name")
    except (OSError, ValueError, AttributeError):
        return None
    return canonical_name(name) if isinstance(name, str) else None


def _without_place(requirement: Requirement) -> str:
    """``requirement`` as it is noted: where a package came from, it tells itself."""
    from packaging.requirements import Requirement

    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return str(requirement) if requirement.url is None else str(Requirement(f"{requirement.name}{extras}"))


_ASKED = re.compile(r"you ask for (?P<what>(?P<name>[A-Za-z0-9][\w.-]*).*)")


def tell_apart(error: TrainenvError, earlier: Collection[str], installed: Collection[str] = ()) -> None:
    """Let the conflict in ``error`` say what was asked for ``earlier``, or merely is ``installed``: canonical names."""

    def told(reason: str) -> str:
        match = _ASKED.fullmatch(reason)
        name = canonical_name(match["name"]) if match else ""
        if match and name in earlier:
            return f"you asked for {match['what']} earlier"
        return f"{match['name']} is installed" if match and name in installed else reason

    reasons = tuple(map(told, error.details))
    if reasons != error.details:
        error.cause = "; ".join(reasons)
        error.details = reasons
        names_an_option = "--" in error.hint
        if not names_an_option and any(reason.endswith(" earlier") for reason in reasons):
            error.hint = "To change what was asked for earlier, ask for it anew in the same command"
