"""Where things are: the workspace, its folders, and ``trainenv.toml``.

Standard library only and quick to import: ``trainenv run`` reads its settings on the way to the
command it starts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainenv.errors import UsageError

FILE_NAME = "trainenv.toml"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")


@dataclass(frozen=True)
class Settings:
    """What ``trainenv.toml`` and ``TRAINENV_*`` say, with every path absolute and without links.

    ``visible_as`` is the folder under which another machine or container sees ``envs_dir``;
    environments then carry that prefix. ``mirrors`` maps a channel's name or URL to the URLs that
    stand in for it, tried in order.
    """

    root: Path
    envs_dir: Path
    methods_dir: Path
    tasks_dir: Path
    cache_dir: Path
    visible_as: str | None = None
    channels: tuple[str, ...] = ("conda-forge",)
    host_fallback: bool = True
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.root / FILE_NAME

    def prefix_of(self, name: str) -> Path:
        """The folder of environment ``name``, there or not. A bad name raises ``UsageError``."""
        return self.envs_dir / checked_name(name, "environment")

    def target_prefix_of(self, name: str) -> str:
        """The prefix that the files of environment ``name`` carry (see ``visible_as``)."""
        if self.visible_as is None:
            return str(self.prefix_of(name))
        return f"{self.visible_as.rstrip('/')}/{checked_name(name, 'environment')}"


def checked_name(name: str, of: str) -> str:
    """``name``, if it may name an ``of`` (one path component of letters, digits, ``_ . + -``)."""
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} can't name an {of}" if of[0] in "aeiou" else f"{name!r} can't name a {of}",
            hint="Use letters, digits, '_', '-', '.' and '+', and begin with a letter, digit or '_'",
        )
    return name


def load(workspace: str | os.PathLike[str] | None = None) -> Settings:
    """The settings of the workspace that is meant.

    That is ``workspace``, else ``$TRAINENV_HOME``, else the nearest folder upward that has a
    ``trainenv.toml``, else ``trainenv`` in the user's data folder. Nothing is created.
    """
    root = _find_root(workspace)
    values = _read_file(root / FILE_NAME)
    values.update(_environment_variables())
    return _settings(root, values)


def _find_root(workspace: str | os.PathLike[str] | None) -> Path:
    named = workspace or os.environ.get("TRAINENV_HOME")
    if named:
        return Path(os.path.realpath(Path(named).expanduser()))
    here = os.path.realpath(os.getcwd())
    while True:
        if os.path.exists(os.path.join(here, FILE_NAME)):
            return Path(here)
        parent = os.path.dirname(here)
        if parent == here:
            break
        here = parent
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(os.path.realpath(os.path.join(data, "trainenv")))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} can't be read", cause=error.strerror or str(error)) from None
    try:
        return parse_toml(raw.decode())
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML", cause=str(error), hint="Mend the file") from None


def parse_toml(text: str) -> dict[str, Any]:
    """``text`` as TOML. Raises ``ValueError`` where it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _environment_variables() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("envs_dir", "methods_dir", "tasks_dir", "cache_dir", "visible_as"):
        if value := os.environ.get(f"TRAINENV_{key.upper()}"):
            found[key] = value
    if value := os.environ.get("TRAINENV_CHANNELS"):
        found["channels"] = [part for part in value.replace(",", " ").split() if part]
    if value := os.environ.get("TRAINENV_HOST_FALLBACK"):
        found["host_fallback"] = value.lower() not in ("0", "false", "no", "off")
    return found


def _settings(root: Path, values: dict[str, Any]) -> Settings:
    where = root / FILE_NAME

    def folder(key: str, default: str) -> Path:
        value = _typed(where, values, key, str, default)
        return Path(os.path.realpath(root / Path(value).expanduser()))

    channels = _typed(where, values, "channels", list, ["conda-forge"])
    mirrors = _typed(where, values, "mirrors", dict, {})
    known = {
        "envs_dir",
        "visible_as",
        "methods_dir",
        "tasks_dir",
        "cache_dir",
        "channels",
        "host_fallback",
        "mirrors",
    }
    if unknown := sorted(set(values) - known):
        raise UsageError(
            f"{where} has an unknown setting {unknown[0]!r}", hint=f"Known are: {', '.join(sorted(known))}"
        )
    visible_as = values.get("visible_as")
    if visible_as is not None and not (isinstance(visible_as, str) and visible_as.startswith("/")):
        raise UsageError(f"visible_as in {where} must be an absolute path", cause=f"it is {visible_as!r}")
    return Settings(
        root=root,
        envs_dir=folder("envs_dir", "envs"),
        methods_dir=folder("methods_dir", "methods"),
        tasks_dir=folder("tasks_dir", "tasks"),
        cache_dir=folder("cache_dir", "cache"),
        visible_as=visible_as,
        channels=tuple(str(channel) for channel in channels),
        host_fallback=_typed(where, values, "host_fallback", bool, True),
        mirrors={key: (value,) if isinstance(value, str) else tuple(value) for key, value in mirrors.items()},
    )


def _typed(where: Path, values: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = values.get(key, default)
    if not isinstance(value, kind):
        raise UsageError(f"{key} in {where} must be of type {kind.__name__}", cause=f"it is {value!r}")
    return value
