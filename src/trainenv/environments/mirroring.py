"""What of an environment or a lock a mirror has to hold."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from trainenv.channels.access import Access
from trainenv.channels.mirror import CondaFile, Mirror, PypiFile, mirror
from trainenv.environments import environment
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel, local_path, of_prefix
from trainenv.environments.specification import lock_platforms, read_file
from trainenv.errors import ChannelError, SpecificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings


def locked_in(settings: Settings, source: str) -> list[LockedEnvironment]:
    """The lock in the file ``source``, once for each platform, or that of the environment of this name or folder."""
    path = Path(source)
    if path.is_file():
        platforms: list[str | None] = [*lock_platforms(path)]
        every = [read_file(path, platform).locked for platform in platforms or [None]]
        found_all = [locked for locked in every if locked is not None]
        if not found_all:
            raise SpecificationError(
                f"{source} is not a lock",
                cause="it does not name every file",
                hint="Lock it first with `trainenv lock`, and mirror that",
            )
        return found_all
    found = environment.at(path) if os.sep in source else environment.get(settings, source)
    return [of_prefix(found.prefix)]


def mirror_locked(settings: Settings, every: Sequence[LockedEnvironment], folder: Path, reporter: Reporter) -> Mirror:
    """Copy each package file that one of ``every`` lock names into ``folder`` (see ``channels.mirror``).

    Raises ``ChannelError`` before anything is copied if a package is no file: a checkout, a folder.
    """
    wheels = [
        wheel for locked in every for wheel in (locked.wheels_for(locked.python) if locked.python else locked.wheels)
    ]
    if strange := [wheel for wheel in wheels if not _is_file(wheel)]:
        raise ChannelError(
            f"{', '.join(wheel.name for wheel in strange)} can't be mirrored",
            cause="; ".join(f"{wheel.name} comes from {wheel.location or 'a place nobody noted'}" for wheel in strange),
            hint="Build a wheel of it (pip wheel --no-deps), install that, and mirror again",
        )
    pypi = [PypiFile(wheel.name, wheel.location, wheel.sha256) for wheel in wheels]
    pypi = list({item.url: item for item in pypi}.values())
    conda = list({package.url: _conda_file(package) for locked in every for package in locked.conda}.values())
    addresses = [item.url for item in conda] + [item.url for item in pypi]
    return mirror(conda, pypi, folder, Access.of(settings, addresses), reporter)


def _is_file(wheel: LockedWheel) -> bool:
    path = local_path(wheel.location)
    return bool(wheel.location) and not wheel.is_vcs and not wheel.editable and (path is None or path.is_file())


def _conda_file(package: LockedConda) -> CondaFile:
    record = json.loads(package.record.to_json()) if package.record is not None else None
    return CondaFile(package.subdir, package.url, package.sha256, package.md5, record)
