"""What of an environment or a lock a mirror has to hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainenv.channels.access import Access
from trainenv.channels.mirror import CondaFile, Mirror, PypiFile, mirror
from trainenv.environments import environment
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel, local_path, of_prefix
from trainenv.environments.specification import read_file
from trainenv.errors import ChannelError, SpecificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings


def locked_in(settings: Settings, source: str) -> LockedEnvironment:
    """The lock in the file ``source``, or of the environment of that name or in that folder."""
    path = Path(source)
    if path.is_file():
        locked = read_file(path).locked
        if locked is None:
            raise SpecificationError(
                f"{source} is not a lock",
                cause="it does not name every file",
                hint="Create an environment from it, and mirror that",
            )
        return locked
    found = environment.at(path) if os.sep in source else environment.get(settings, source)
    return of_prefix(found.prefix)


def mirror_locked(settings: Settings, locked: LockedEnvironment, folder: Path, reporter: Reporter) -> Mirror:
    """Copy every package file of ``locked`` into ``folder`` (see ``channels.mirror``).

    Raises ``ChannelError`` before anything is copied if a package is no file: a checkout, a folder.
    """
    wheels = locked.wheels_for(locked.python) if locked.python else locked.wheels
    if strange := [wheel for wheel in wheels if not _is_file(wheel)]:
        raise ChannelError(
            f"{', '.join(wheel.name for wheel in strange)} can't be mirrored",
            cause="; ".join(f"{wheel.name} comes from {wheel.location or 'a place nobody noted'}" for wheel in strange),
            hint="Build a wheel of it (pip wheel --no-deps), install that, and mirror again",
        )
    pypi = [PypiFile(wheel.name, wheel.location, wheel.sha256) for wheel in wheels]
    conda = [_conda_file(package) for package in locked.conda]
    addresses = [item.url for item in conda] + [item.url for item in pypi]
    return mirror(conda, pypi, folder, Access.of(settings, addresses), reporter)


def _is_file(wheel: LockedWheel) -> bool:
    path = local_path(wheel.location)
    return bool(wheel.location) and not wheel.is_vcs and not wheel.editable and (path is None or path.is_file())


def _conda_file(package: LockedConda) -> CondaFile:
    record = json.loads(package.record.to_json()) if package.record is not None else None
    return CondaFile(package.subdir, package.url, package.sha256, package.md5, record)
