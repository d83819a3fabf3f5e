"""What differs between two environments, or between one and a lock, an archive or a specification."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.channels import conda
from trainenv.environments import environment
from trainenv.environments.environment import Environment
from trainenv.environments.locked import LockedEnvironment, of_prefix, same_version
from trainenv.environments.records import Package, canonical_name
from trainenv.environments.specification import Specification, named_requirements, read_file
from trainenv.errors import EnvironmentNotFoundError, UsageError
from trainenv.settings import Settings

_FIELDS = ("version", "build", "channel")
_TEXT_WITH_NULS = (b"\xff\xfe", b"\xfe\xff")
"""How a text in UTF-16 begins."""

Packages = list[Package]
Side = Environment | LockedEnvironment | Specification | Packages


@dataclass(frozen=True)
class Change:
    """One package that differs; ``before`` or ``after`` is None where it is not there.

    For a specification the ``version`` and ``build`` of a package are what it asks for (``>=2``).
    """

    name: str
    before: Package | None
    after: Package | None

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def fields(self) -> list[str]:
        """Which of ``version``, ``build``, ``channel`` changed. What one side does not know can't differ."""
        if self.before is None or self.after is None:
            return []
        pairs = [(field, getattr(self.before, field), getattr(self.after, field)) for field in _FIELDS]
        found = [field for field, before, after in pairs if before and after and before != after]
        if (
            found == ["version"]
            and self.before.build == "pypi"
            and same_version(self.before.version, self.after.version)
        ):
            return []
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "change": self.kind,
            "fields": self.fields,
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
        }


def between(settings: Settings, before: str, after: str, archived: Callable[[str], Packages]) -> list[Change]:
    """What makes ``after`` of ``before``, by name; empty where nothing does.

    Each is the name or prefix of an environment, or a file: a lock, an archive (whose packages
    ``archived`` reads), or a specification. A specification is compared with an environment: what
    it asks for and the environment does not meet; what it does not name may be anything. A lock of
    one half, such as ``@EXPLICIT``, is compared with that half.
    """
    sides = [_side(settings, text, archived) for text in (before, after)]
    match sides:
        case [Environment() as here, Specification() as wanted]:
            return _unmet(here, wanted)
        case [Specification() as wanted, Environment() as here]:
            return [Change(change.name, change.after, change.before) for change in _unmet(here, wanted)]
        case [Specification(), _] | [_, Specification()]:
            raise UsageError(
                "a specification can be compared with an environment only", hint="Give the name of an environment"
            )
    python = next(filter(None, map(_python_of, sides)), None)
    builds = _builds_in_question(sides)
    old, new = ([package for package in _packages(side, python) if builds(package)] for side in sides)
    return compare(old, new)


def _python_of(side: Side) -> str | None:
    if not isinstance(side, (Environment, LockedEnvironment)):
        return None
    needed = side.choices.requires_python if isinstance(side, LockedEnvironment) and side.choices else None
    least = re.search(r"(?:>=|==|~=)\s*(3\.\d+(?:\.\d+)?)", needed or "")
    return side.python or (least[1] if least else None)


def compare(before: Iterable[Package], after: Iterable[Package]) -> list[Change]:
    """The changes from one list of packages to another. conda and PyPI share names: ``build`` tells them apart."""
    old = {canonical_name(package.name): package for package in before}
    new = {canonical_name(package.name): package for package in after}
    changes = [Change(name, old.get(name), new.get(name)) for name in sorted(old | new)]
    return [change for change in changes if change.kind != "changed" or change.fields]


def _side(settings: Settings, text: str, archived: Callable[[str], Packages]) -> Side:
    path = Path(text).expanduser()
    if "://" in text:
        return archived(text)
    if os.sep not in text:
        try:
            return environment.get(settings, text)
        except (EnvironmentNotFoundError, UsageError):
            if not path.exists() and not path.suffix:
                raise
    if path.is_dir():
        return environment.at(path)
    if path.is_file() and _is_no_text(path):
        return archived(str(path))
    specification = read_file(path)
    return specification.locked or specification


def _is_no_text(file: Path) -> bool:
    """Whether ``file`` is no specification: an archive, of whatever kind, or a program that unpacks itself."""
    with file.open("rb") as stream:
        head = stream.read(8192)
    return head.startswith(b"#!") or (b"\0" in head and not head.startswith(_TEXT_WITH_NULS))


def _builds_in_question(sides: Iterable[Side]) -> Callable[[Package], bool]:
    """Whether a package belongs to the halves that all ``sides`` speak of."""
    halves = {"conda", "pypi"}
    for side in sides:
        if isinstance(side, LockedEnvironment):
            halves &= side.halves
    if not halves:
        raise UsageError(
            "the locks can't be compared: one has conda's packages only, the other PyPI's",
            hint="Compare each with an environment",
        )
    return lambda package: ("pypi" if package.build == "pypi" else "conda") in halves


def _packages(side: Side, python: str | None) -> Packages:
    if isinstance(side, LockedEnvironment):
        if side.choices and not (side.python or python):
            raise UsageError(
                f"{side.source} can't be compared without a Python", hint="Give an environment as the other side"
            )
        return side.packages(python)
    if isinstance(side, Environment):
        return side.packages
    assert isinstance(side, list)
    return side


def _unmet(here: Environment, wanted: Specification) -> list[Change]:
    from rattler import MatchSpec

    packages = {canonical_name(package.name): package for package in here.packages}
    records = {package.name: package.record for package in of_prefix(here.prefix).conda}
    found = []
    for text in wanted.conda:
        spec = MatchSpec(text, strict=False)
        name = conda.spec_name(spec)
        record = records.get(name)
        package = packages.get(canonical_name(name))
        if record is None or not spec.matches(record):
            after = Package(name, str(spec.version or ""), str(spec.build or ""), "")
            found.append(Change(name, package, after))
    for requirement in named_requirements(wanted):
        name = canonical_name(requirement.name)
        package = packages.get(name)
        if requirement.marker and not requirement.marker.evaluate(_markers(here)):
            continue
        if package is None or not requirement.specifier.contains(package.version, prereleases=True):
            found.append(Change(name, package, Package(name, str(requirement.specifier), "", "")))
    return sorted(found, key=lambda change: change.name)


def _markers(here: Environment) -> dict[str, str]:
    python = here.python or ""
    return {"python_full_version": python, "python_version": ".".join(python.split(".")[:2]), "extra": ""}
