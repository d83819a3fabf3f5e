"""What a change would do, found out without changing anything."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainenv.environments import earlier, given, wheels
from trainenv.environments.diff import Change, compare
from trainenv.environments.given import AllGiven, Given
from trainenv.environments.locked import LockedWheel
from trainenv.environments.lockfiles.pylock import OWN as PYLOCK
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    Package,
    canonical_name,
    channel_name,
    distributions,
    packages,
    pypi_distributions,
    read_note,
)
from trainenv.environments.resolving import Resolution
from trainenv.environments.solution import Solution
from trainenv.progress import Reporter
from trainenv.settings import Settings, parse_toml

if TYPE_CHECKING:
    from rattler import RepoDataRecord


@dataclass(frozen=True)
class Plan:
    """The packages of environment ``name`` that a change adds, changes and removes.

    ``downloads`` are bytes by package, of those that are not in the cache and whose size is known.
    """

    name: str
    changes: list[Change]
    downloads: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What ``--dry-run --json`` prints; ``download`` is in bytes, null where it is not known."""
        return {
            "name": self.name,
            "changes": [change.to_json() | {"download": self.downloads.get(change.name)} for change in self.changes],
            "download": sum(self.downloads.values()),
        }


def plan(settings: Settings, name: str, solution: Solution, reporter: Reporter) -> Plan:
    """What ``solution`` makes of environment ``name``, which need not be there."""
    prefix = settings.prefix_of(name)
    before = packages(prefix) if (prefix / "conda-meta").is_dir() else []
    after = _conda_after(prefix, before, solution.records)
    downloads = _conda_downloads(settings, solution.records or ())
    pypi = [item for item in before if item.build == "pypi" and canonical_name(item.name) not in solution.uninstall]
    if solution.resolves_pypi:
        with reporter.step("resolve PyPI requirements"):
            brought = brought_by_conda(settings, prefix, solution)
            found, sizes = resolved(settings, prefix, solution, brought, reporter)
        named = {wheel.name for wheel in found}
        pypi = [item for item in pypi if item.name not in named]
        pypi += [Package(wheel.name, wheel.version, "pypi", "pypi") for wheel in found]
        replaced = {brought[item.name].owner for item in pypi if item.name in brought}
        after = [item for item in after if item.name not in replaced or item.name == "python"]
        downloads |= sizes
    elif solution.specification.locked is not None:
        python = next((item.version for item in after if item.name == "python"), None)
        chosen = solution.specification.locked.wheels_for(python) if python else ()
        named = {wheel.name for wheel in chosen}
        pypi = [item for item in pypi if item.name not in named]
        pypi += [Package(wheel.name, wheel.version, "pypi", "pypi") for wheel in chosen]
    taken = {item.name for item in pypi}
    changes = compare(before, [item for item in after if canonical_name(item.name) not in taken] + pypi)
    names = {change.name for change in changes if change.after}
    return Plan(name, changes, {key: size for key, size in downloads.items() if key in names})


def brought_by_conda(settings: Settings, prefix: Path, solution: Solution) -> dict[str, Given]:
    """The Python packages of the conda packages that the prefix shall have."""
    if solution.records is None:
        return given.of_prefix(prefix)
    replaced = read_note(prefix, ENVIRONMENT_NOTE).get("replaced", {})
    records = [record for record in solution.records if record.name.normalized not in replaced]
    return given.of_records(records, settings.cache_dir / "pkgs", prefix)


def _conda_after(prefix: Path, before: Sequence[Package], records: Sequence[RepoDataRecord] | None) -> list[Package]:
    if records is None:
        return [item for item in before if item.build != "pypi"]
    replaced = read_note(prefix, ENVIRONMENT_NOTE).get("replaced", {})
    return [
        Package(record.name.normalized, str(record.version), str(record.build), channel_name(str(record.channel or "")))
        for record in records
        if record.name.normalized not in replaced
    ]


def _conda_downloads(settings: Settings, records: Sequence[RepoDataRecord]) -> dict[str, int]:
    cache = settings.cache_dir / "pkgs"
    return {
        canonical_name(record.name.normalized): record.size
        for record in records
        if record.size
        and not record.url.startswith("file:")
        and not (cache / f"{record.name.normalized}-{record.version}-{record.build}").is_dir()
    }


def resolved(
    settings: Settings, prefix: Path, solution: Solution, brought: AllGiven, reporter: Reporter
) -> tuple[list[LockedWheel], dict[str, int]]:
    """The PyPI packages that uv would choose, and the size of the file of each that is not there yet."""
    there = {found.key: found.version for found in distributions(prefix)}
    records = solution.records or ()
    version = next((str(record.version) for record in records if record.name.normalized == "python"), None)
    same_python = (prefix / "bin" / "python").exists()
    python = wheels.interpreter(prefix) if same_python else ["--python", sys.executable]
    if version and not same_python:
        python += ["--python-version", version]
    note = read_note(prefix, ENVIRONMENT_NOTE)
    kept = pypi_distributions(prefix) if there else []
    with tempfile.TemporaryDirectory() as folder:
        Resolution(
            solution.specification,
            kept,
            preferred={name: version for name, version in there.items() if name not in solution.upgrade},
            given={name: item for name, item in brought.items() if name not in solution.upgrade},
            python=[*python, *solution.target.uv_options()],
            earlier=earlier.in_force(note, solution.specification, kept),
            sources=[str(line) for line in note.get("package_sources", [])],
            cache_dir=settings.cache_dir,
            keep_open=(),
            access=solution.sources.access,
            reporter=reporter,
        ).write(Path(folder))
        found = wheels.locked(Path(folder))
        content = parse_toml((Path(folder) / PYLOCK).read_text(encoding="utf-8"))
    return found, _sizes(content, there)


def _sizes(content: dict[str, Any], there: dict[str, str]) -> dict[str, int]:
    found = {}
    for package in content.get("packages", []):
        files = package.get("wheels") or [package.get("sdist") or package.get("archive") or {}]
        size, url = files[0].get("size"), str(files[0].get("url") or "")
        if size and urlsplit(url).scheme in ("http", "https") and there.get(package["name"]) != package.get("version"):
            found[str(package["name"])] = int(size)
    return found
