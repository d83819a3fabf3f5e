"""One environment as its user sees it, and the environments of a workspace."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainenv import locks, settings_file
from trainenv.environments import mounts, registry
from trainenv.environments.records import ENVIRONMENT_NOTE, Package, packages, python_version, read_note
from trainenv.environments.sizes import Size, size_of
from trainenv.environments.staging import discard, disk_full_told, require, sweep
from trainenv.errors import EnvironmentNotFoundError, VerificationError
from trainenv.settings import Settings


@dataclass(frozen=True)
class Environment:
    """A conda prefix with a name. A ``foreign`` one is conda's or another workspace's: used, never changed."""

    name: str
    prefix: Path
    foreign: bool = False

    @property
    def python(self) -> str | None:
        """The version of its Python, None without one."""
        mount = mounts.mount_of(self.prefix)
        return python_version(self.prefix) if mount is None else mount.python

    @cached_property
    def packages(self) -> list[Package]:
        """Everything installed, conda and PyPI, by name."""
        return packages(self.prefix)

    @property
    def size(self) -> int:
        """Apparent bytes of its files when it was last changed."""
        if (mount := mounts.mount_of(self.prefix)) is not None:
            return mount.bytes
        size = read_note(self.prefix, ENVIRONMENT_NOTE).get("size")
        return size if isinstance(size, int) else self.sizes.apparent

    @property
    def sizes(self) -> Size:
        """Apparent bytes, and those that no package cache or other environment shares."""
        return size_of([self.prefix])

    @property
    def status(self) -> str:
        """``ready``, or ``damaged`` when its records can't be read.

        ``mounted`` or ``unmounted`` for one that is mounted from an image: the latter is mounted as it is used.
        """
        if mounts.mount_of(self.prefix) is not None:
            return "mounted" if mounts.is_mounted(self.prefix) else "unmounted"
        try:
            _ = self.packages
        except VerificationError:
            return "damaged"
        return "ready"

    @property
    def host_fallback(self) -> str | None:
        """Why the ``host`` channel stood in for the channels asked for; None when it did not."""
        return read_note(self.prefix, ENVIRONMENT_NOTE).get("host_fallback")

    @property
    def channels(self) -> list[str]:
        return [str(channel) for channel in read_note(self.prefix, ENVIRONMENT_NOTE).get("channels", [])]

    def to_json(self) -> dict[str, Any]:
        """The object that ``env show --json`` prints; ``packages`` is a count, ``size`` is bytes."""
        status, mount = self.status, mounts.mount_of(self.prefix)
        return {
            "name": self.name,
            "prefix": str(self.prefix),
            "python": self.python,
            "packages": mount.packages if mount else len(self.packages) if status == "ready" else 0,
            "size": self.size,
            "status": status,
            "channels": [] if status == "unmounted" else self.channels,
            "host_fallback": None if status == "unmounted" else self.host_fallback,
            "foreign": self.foreign,
            "image": mount.image if mount else None,
        }


def get(settings: Settings, name: str, *, to_use: bool = True) -> Environment:
    """Environment ``name`` of the workspace, else the one that conda knows by this name.

    One that is to be mounted is mounted, unless it is not ``to_use``. Raises ``EnvironmentNotFoundError``,
    ``MountError``.
    """
    prefix = settings.prefix_of(name)
    if to_use:
        mounts.ensure(prefix)
    elif mounts.mount_of(prefix) is not None:
        return Environment(name, prefix)
    if not os.path.isdir(prefix / "conda-meta"):
        foreign = list_foreign(settings)
        if found := next((environment for environment in foreign if environment.name == name), None):
            return found
        if (image := settings.mounts.get(name)) is not None:
            raise EnvironmentNotFoundError(
                f"environment {name!r} is not mounted yet",
                cause=f"{settings.file} names its image, and nobody has mounted that here",
                hint=f"`trainenv unpack {shlex.quote(str(image))} --mount -n {name}`",
            )
        near = _nearest(name, [environment.name for environment in [*list_all(settings), *foreign]])
        raise EnvironmentNotFoundError(
            f"there is no environment {name!r} in {settings.envs_dir}",
            hint=near or f"`trainenv env list` shows what there is, `trainenv create -n {name} python` makes it",
        )
    return Environment(name, prefix)


def own(settings: Settings, name: str) -> Environment:
    """Environment ``name`` of the workspace, which may be changed.

    Raises ``EnvironmentNotFoundError``, or ``MountError`` for one that is mounted from an image.
    """
    found = of_workspace(settings, name)
    if (mount := mounts.mount_of(found.prefix)) is not None:
        raise mounts.refused(found.prefix, mount)
    return found


def of_workspace(settings: Settings, name: str) -> Environment:
    """Environment ``name`` of the workspace. Raises ``EnvironmentNotFoundError``."""
    found = get(settings, name, to_use=False)
    if found.foreign:
        raise EnvironmentNotFoundError(
            f"environment {name!r} is not of this workspace",
            cause=f"it is {found.prefix}, which trainenv uses but does not change",
            hint=f"Make a copy of it: trainenv env clone {name} -n NEW",
        )
    return found


def at(prefix: str | os.PathLike[str]) -> Environment:
    """The environment in folder ``prefix``, wherever it is. Raises ``EnvironmentNotFoundError``."""
    folder = Path(os.path.abspath(prefix))
    mounts.ensure(folder)
    if not os.path.isdir(folder / "conda-meta"):
        cause, hint = why_none(folder)
        raise EnvironmentNotFoundError(f"{folder} is not an environment", cause=cause, hint=hint)
    return Environment(folder.name, folder)


def why_none(folder: Path) -> tuple[str, str]:
    """Why ``folder`` is no environment, and what to do about it."""
    if (folder / "pyvenv.cfg").is_file():
        lines = (folder / "pyvenv.cfg").read_text(errors="replace").splitlines()
        settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
        place = settings.get("home") or os.path.dirname(os.path.realpath(folder / "bin" / "python"))
        quoted = shlex.quote(str(folder))
        return (
            f"it is a virtual environment, whose interpreter and standard library lie outside of it, by {place}",
            f"List its packages (`{quoted}/bin/python -m pip freeze`, or `uv pip freeze -p {quoted}`) in a file, "
            "and make an environment of them: `trainenv create -n NAME python -r FILE`",
        )
    cause = "it has no conda-meta folder" if folder.is_dir() else "there is no such folder"
    return cause, "`trainenv env list` shows what there is"


def list_all(settings: Settings) -> list[Environment]:
    """The environments of the workspace, by name, also those that are not mounted at the moment."""
    if not settings.envs_dir.is_dir():
        return []
    folders = sorted(settings.envs_dir.iterdir())
    for folder in folders:
        mounts.bury(folder)
    return [
        Environment(folder.name, folder)
        for folder in folders
        if folder.name != locks.STATE_DIR
        and (os.path.isdir(folder / "conda-meta") or mounts.mount_of(folder) is not None)
    ]


def list_foreign(settings: Settings) -> list[Environment]:
    """The environments outside of the workspace that conda, mamba or another trainenv made, by name."""
    inside = settings.envs_dir
    found = [
        Environment(name, prefix, foreign=True)
        for prefix, name in registry.find_all().items()
        if prefix.parent != inside and inside not in prefix.resolve().parents
    ]
    return sorted(found, key=lambda environment: (environment.name, environment.prefix))


def remove(settings: Settings, name: str, if_busy: locks.IfBusy = locks.REFUSE) -> None:
    """Remove environment ``name`` and its former states: gone at once by a rename, its files after that.

    Raises ``EnvironmentNotFoundError``, or ``EnvironmentBusyError`` while something runs in it.
    """
    prefix = of_workspace(settings, name).prefix
    with disk_full_told(settings, name), locks.exclusive(settings, name, if_busy):
        if mounts.mount_of(prefix) is not None:
            registry.unregister(prefix)
            settings_file.drop_mount(settings, name)
            mounts.release(prefix)
            return
        sweep(settings)
        require(settings, name, exists=True)
        registry.unregister(settings.prefix_of(name))
        discard(settings, name)


def _nearest(name: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
