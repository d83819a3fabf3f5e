"""Lock a specification for this machine or others, without making an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainenv.channels import condarc
from trainenv.channels.target import Target
from trainenv.environments import preview, solution
from trainenv.environments.diff import Change, compare
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel
from trainenv.environments.lockfiles import explicit, pixi, pylock
from trainenv.environments.preview import Plan
from trainenv.environments.records import canonical_name
from trainenv.environments.requests import blame
from trainenv.environments.specification import Specification, remarks
from trainenv.errors import InterpreterError, SolveError, SpecificationError, UsageError, listed
from trainenv.progress import Reporter
from trainenv.settings import Settings

FORMATS = ("pixi.lock", "pylock.toml", "explicit")


@dataclass(frozen=True)
class Locks:
    """A specification locked for several platforms. ``sizes`` are bytes to download there, by platform and package."""

    every: tuple[LockedEnvironment, ...]
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def plans(self) -> list[Plan]:
        """What each platform gets, as if nothing was there."""
        return [
            Plan(locked.target.subdir, _additions(locked), dict(self.sizes.get(locked.target.subdir, {})))
            for locked in self.every
        ]

    def dump(self, format: str = "pixi.lock") -> str:
        """The lock as text in one of ``FORMATS``; the same packages give the same bytes."""
        if format == "pixi.lock":
            return pixi.dump(*self.every)
        if len(self.every) > 1:
            raise UsageError(
                f"{format} is for one platform",
                cause=f"{', '.join(locked.target.subdir for locked in self.every)} were asked for",
                hint="Lock them one by one, or together as pixi.lock",
            )
        return _DUMPS[format](self.every[0])

    def left_out(self, format: str) -> list[str]:
        """The packages that ``format`` has no place for, by name."""
        if format == "explicit":
            return [wheel.name for locked in self.every for wheel in locked.wheels]
        if format == "pylock.toml":
            return [package.name for locked in self.every for package in locked.conda]
        return []

    def to_json(self) -> list[dict[str, Any]]:
        """One object a platform, as ``trainenv lock --json`` prints them."""
        return [
            {
                "platform": locked.target.subdir,
                "virtual_packages": locked.target.stated(),
                "packages": [
                    {field: getattr(package, field) for field in ("name", "version", "build", "channel")}
                    for package in locked.packages()
                ],
                "download": sum(plan.downloads.values()),
            }
            for locked, plan in zip(self.every, self.plans(), strict=True)
        ]


def lock(settings: Settings, specification: Specification, targets: Sequence[Target], reporter: Reporter) -> Locks:
    """``specification`` solved for each of ``targets``.

    Raises ``SpecificationError`` for one that is a lock already, or has a package nobody can lock.
    """
    if specification.locked is not None:
        raise SpecificationError(
            f"{specification.locked.source} is a lock already",
            hint="Create an environment from it; `trainenv env export` writes that in other formats",
        )
    settings = condarc.applied(settings)
    names = [target.subdir for target in targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{', '.join(sorted(twice))} is named twice", hint="Name each platform once")
    for line in remarks(specification):
        reporter.notice(line)
    every, sizes = [], {}
    for target in targets:
        try:
            locked, sizes[target.subdir] = _lock(settings, specification, target, reporter)
        except (SolveError, InterpreterError) as error:
            blame(error, specification)
            raise
        every.append(locked)
    return Locks(tuple(every), sizes)


def _lock(
    settings: Settings, specification: Specification, target: Target, reporter: Reporter
) -> tuple[LockedEnvironment, dict[str, int]]:
    found = solution.for_create(settings, "NAME", specification, reporter, target)
    records = sorted(found.records or (), key=lambda record: record.name.normalized)
    sizes = {canonical_name(record.name.normalized): record.size or 0 for record in records}
    wheels: list[LockedWheel] = []
    if found.resolves_pypi:
        with reporter.step(f"resolve PyPI requirements for {target.subdir}"):
            nowhere = settings.cache_dir / "no-prefix"
            brought = preview.brought_by_conda(settings, nowhere, found)
            wheels, _ = preview.resolved(settings, nowhere, found, brought, reporter)
        replaced = {brought[wheel.name].owner for wheel in wheels if wheel.name in brought}
        records = [record for record in records if record.name.normalized not in replaced - {"python"}]
        wheels = [_exact(wheel) for wheel in wheels]
        if target.is_foreign and (built := [wheel.name for wheel in wheels if wheel.is_source]):
            reporter.notice(f"{listed(built)} for {target.platform} comes as source, and is built there")
        sizes |= {wheel.name: wheel.size for wheel in wheels if wheel.size}
    locked = LockedEnvironment(
        "the specification",
        tuple(source.url for source in found.sources.channels),
        tuple(LockedConda.from_record(record) for record in records),
        tuple(wheels),
        target=replace(found.target, exclude_newer=None),
    )
    names = {canonical_name(package.name) for package in locked.packages()}
    return locked, {name: size for name, size in sizes.items() if name in names}


def _exact(wheel: LockedWheel) -> LockedWheel:
    if not wheel.is_exact:
        raise SpecificationError(
            f"{wheel.name} {wheel.version} can't be locked",
            cause="its index tells no sha256",
            hint="Take it from another index, or as a file or a checkout",
        )
    return wheel


def _additions(locked: LockedEnvironment) -> list[Change]:
    return compare([], locked.packages())


def _pylock(locked: LockedEnvironment) -> str:
    if locked.python is None:
        raise UsageError("there is no Python, and so no PyPI packages", hint="Choose another format")
    return pylock.dump(locked.wheels, locked.python)


_DUMPS: dict[str, Callable[[LockedEnvironment], str]] = {"explicit": explicit.dump, "pylock.toml": _pylock}
