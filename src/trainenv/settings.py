"""Where things are: the workspace, its folders, and ``trainenv.toml``.

Standard library only and quick to import: ``trainenv run`` reads its settings on the way to the
command it starts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainenv.errors import UsageError
from trainenv.sizes import parse_size

FILE_NAME = "trainenv.toml"

CHANNEL_PRIORITIES = ("strict", "flexible", "disabled")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_LONGEST_NAME = 200
"""Characters: file systems take 255, and staging folders and locks add some."""

_KNOWN = {
    "allowed_signers",
    "cpus",
    "envs_dir",
    "gpus",
    "limits",
    "memory",
    "methods_dir",
    "queue_dir",
    "tasks_dir",
    "cache_dir",
    "visible_as",
    "channels",
    "channel_alias",
    "channel_priority",
    "credentials",
    "database",
    "generations",
    "host_fallback",
    "link_scripts",
    "max_cache_size",
    "mirrors",
    "mounts",
    "offline",
    "proxy",
    "read_timeout",
    "require_signature",
    "ssl_cert_file",
}


@dataclass(frozen=True)
class Limits:
    """How many tasks may run at once: of the workspace, in an environment, of a method; the rest waits."""

    tasks: int | None = None
    environments: Mapping[str, int] = field(default_factory=dict)
    methods: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What ``trainenv.toml`` and ``TRAINENV_*`` say, with every path absolute and without links.

    ``visible_as`` is the folder under which another machine or container sees ``envs_dir``;
    environments then carry that prefix. ``mounts`` are the images that environments are mounted from, by name.
    ``mirrors`` maps a channel's name or URL to the URLs that
    stand in for it, tried in order. ``credentials`` says by host where its secrets are, never the
    secrets themselves; ``proxies`` are URLs by scheme. ``stated`` names the settings that were set:
    what is not, the user's ``.condarc`` may say (see ``channels.condarc``). ``max_cache_size`` is in
    bytes, of what only the cache holds and no environment links. ``generations`` is how many former states of
    an environment are kept for a rollback. ``read_timeout`` is in seconds: a download to which nothing
    comes for that long has failed. ``link_scripts`` lets conda packages run scripts of theirs when they
    are installed and removed. ``allowed_signers`` is the file that says who may sign archives, and with
    ``require_signature`` no other archive is unpacked. ``database`` is the URL of the database over the
    tasks, which may hold a password; None is a file beside them. ``gpus`` (a count, or the ids of those that may be
    used), ``cpus`` and ``memory`` (bytes) are what tasks that ask for some share, None all that the machine has;
    ``queue_dir`` is where they wait for it, and workspaces with the same one share it.
    """

    root: Path
    envs_dir: Path
    methods_dir: Path
    tasks_dir: Path
    cache_dir: Path
    queue_dir: Path
    visible_as: str | None = None
    channels: tuple[str, ...] = ("conda-forge",)
    host_fallback: bool = True
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    channel_priority: str = "strict"
    channel_alias: str | None = None
    credentials: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    ssl_cert_file: Path | None = None
    offline: bool = False
    read_timeout: float = 60.0
    link_scripts: bool = False
    max_cache_size: int | None = None
    generations: int = 1
    allowed_signers: Path | None = None
    require_signature: bool = False
    database: str | None = field(default=None, repr=False)
    gpus: int | tuple[str, ...] | None = None
    cpus: int | None = None
    memory: int | None = None
    limits: Limits = field(default_factory=Limits)
    stated: frozenset[str] = frozenset()

    @property
    def file(self) -> Path:
        return self.root / FILE_NAME

    @property
    def has_server(self) -> bool:
        """Whether the database over the tasks is a server's, which other machines may read."""
        return self.database is not None and not self.database.startswith("sqlite")

    def prefix_of(self, name: str) -> Path:
        """The folder of environment ``name``, there or not. A bad name raises ``UsageError``."""
        return self.envs_dir / checked_name(name, "environment")

    def target_prefix_of(self, name: str) -> str:
        """The prefix that the files of environment ``name`` carry (see ``visible_as``)."""
        if self.visible_as is None:
            return str(self.prefix_of(name))
        return os.path.join(self.visible_as, checked_name(name, "environment"))


def checked_name(name: str, of: str) -> str:
    """``name``, if it may name an ``of`` (one path component of letters, digits, ``_ . + -``)."""
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} can't name an {of}" if of[0] in "aeiou" else f"{name!r} can't name a {of}",
            hint="Use ASCII letters, digits, '_', '-', '.' and '+', and begin with a letter, digit or '_'",
        )
    if len(name) > _LONGEST_NAME:
        raise UsageError(
            f"a name of {len(name)} characters is too long", hint=f"Use at most {_LONGEST_NAME} characters"
        )
    return name


def load(workspace: str | os.PathLike[str] | None = None) -> Settings:
    """The settings of the workspace that is meant.

    That is ``workspace``, else ``$TRAINENV_HOME``, else the nearest folder upward that has a
    ``trainenv.toml``, else ``trainenv`` in the user's data folder. Nothing is created.
    """
    root = _find_root(workspace)
    values = _file_values(root / FILE_NAME)
    if unknown := sorted(set(values) - _KNOWN):
        raise UsageError(
            f"{values[unknown[0]].stands_in} has an unknown setting {unknown[0]!r}", hint=_meant(unknown[0])
        )
    values.update(_environment_variables())
    return _settings(root, values)


def _find_root(workspace: str | os.PathLike[str] | None) -> Path:
    named = workspace or os.environ.get("TRAINENV_HOME")
    if named:
        return _resolved(Path(), named)
    here = os.path.realpath(current_folder())
    while True:
        if os.path.exists(os.path.join(here, FILE_NAME)):
            return Path(here)
        parent = os.path.dirname(here)
        if parent == here:
            break
        here = parent
    return _resolved(Path(), os.path.join(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "trainenv"))


def current_folder() -> str:
    """The folder this process is in. Raises ``UsageError`` where somebody has removed it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder is not there any more", hint="Change into another one") from None


def _resolved(base: Path, path: str | os.PathLike[str]) -> Path:
    """``path`` beginning at ``base``, absolute, with ``~`` expanded and links followed."""
    try:
        joined = base / Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{os.fspath(path)!r} has no meaning", cause="this user has no home folder") from None
    return Path(os.path.realpath(joined if joined.is_absolute() else os.path.join(current_folder(), joined)))


def _file_values(path: Path) -> dict[str, _Value]:
    """What ``path`` says, each value with the line of its key."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} can't be read", cause=error.strerror or str(error)) from None
    try:
        text = raw.decode("utf-8-sig")
        content = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML", cause=str(error), hint="Mend the file") from None
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[?\s*[\"']?([\w-]+)", line):
            lines.setdefault(match[1], number)
    return {
        key: _Value(value, key, f"{path} line {lines[key]}" if key in lines else str(path))
        for key, value in content.items()
    }


def _meant(unknown: str) -> str:
    """What to write in the place of a setting that is ``unknown``."""
    from difflib import get_close_matches

    if close := get_close_matches(unknown, _KNOWN, 1):
        return f"Did you mean {close[0]!r}?"
    return f"Known are: {', '.join(sorted(_KNOWN))}"


def parse_toml(text: str) -> dict[str, Any]:
    """``text`` as TOML. Raises ``ValueError`` where it is none."""
    if not text.strip():
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


@dataclass(frozen=True)
class _Value:
    """One setting, and the file or variable that it ``stands_in``, for what is said if it is wrong."""

    value: Any
    key: str
    stands_in: str

    def wrong(self, expected: str) -> UsageError:
        return UsageError(f"{self.key} in {self.stands_in} must be {expected}", cause=f"it is {self.value!r}")

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value or "\0" in self.value:
            raise self.wrong("a text")
        return self.value

    def switch(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def table(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("a table")
        return self.value

    def count(self) -> int:
        if isinstance(self.value, bool) or not re.fullmatch(r"\d{1,4}", str(self.value)):
            raise self.wrong("a whole number, 0 or more")
        return int(self.value)

    def seconds(self) -> float:
        try:
            found = 0.0 if isinstance(self.value, bool) else float(self.value)
        except (TypeError, ValueError):
            found = 0.0
        if not 0 < found < float("inf"):
            raise self.wrong("a number of seconds, more than 0")
        return found

    def size(self) -> int:
        try:
            return parse_size(self.value)
        except ValueError:
            raise self.wrong('a size such as "20 GB"') from None

    def ids(self) -> tuple[str, ...]:
        return _Value(
            [str(item) if isinstance(item, int) else item for item in self.value], self.key, self.stands_in
        ).texts()

    def texts(self) -> tuple[str, ...]:
        if not isinstance(self.value, list) or not all(isinstance(item, str) and item for item in self.value):
            raise self.wrong("a list of texts")
        return tuple(self.value)


def _environment_variables() -> dict[str, _Value]:
    found: dict[str, _Value] = {}
    for key in _KNOWN - {"mirrors", "mounts", "credentials", "limits"}:
        variable = f"TRAINENV_{key.upper()}"
        if given := os.environ.get(variable):
            value: str | bool | list[str] = given
            if key == "channels" or (key == "gpus" and not given.strip().isdigit()):
                value = given.replace(",", " ").split()
            elif key in ("host_fallback", "link_scripts", "offline", "require_signature"):
                value = {"1": True, "true": True, "yes": True, "on": True}.get(given.lower(), given)
                value = {"0": False, "false": False, "no": False, "off": False}.get(given.lower(), value)
            found[key] = _Value(value, key, variable)
    return found


def _settings(root: Path, values: Mapping[str, _Value]) -> Settings:
    def folder(key: str, default: str) -> Path:
        return _resolved(root, values[key].text() if key in values else default)

    found = Settings(
        root=root,
        envs_dir=folder("envs_dir", "envs"),
        methods_dir=folder("methods_dir", "methods"),
        tasks_dir=folder("tasks_dir", "tasks"),
        cache_dir=folder("cache_dir", "cache"),
        queue_dir=folder(
            "queue_dir", os.path.join(values["tasks_dir"].text() if "tasks_dir" in values else "tasks", ".queue")
        ),
    )
    if visible_as := values.get("visible_as"):
        if not os.path.isabs(visible_as.text()):
            raise visible_as.wrong("an absolute path")
        found = replace(found, visible_as=os.path.normpath(visible_as.text()))
    if channels := values.get("channels"):
        relative = ("./", "../", "~")
        names = [str(_resolved(root, name)) if name.startswith(relative) else name for name in channels.texts()]
        found = replace(found, channels=tuple(names))
    if host_fallback := values.get("host_fallback"):
        found = replace(found, host_fallback=host_fallback.switch())
    if mirrors := values.get("mirrors"):
        found = replace(found, mirrors=_mirrors(mirrors))
    if mounts := values.get("mounts"):
        named = {name: _Value(image, f"mounts.{name}", mounts.stands_in) for name, image in mounts.table().items()}
        found = replace(found, mounts={name: _resolved(root, image.text()) for name, image in named.items()})
    if priority := values.get("channel_priority"):
        if priority.value not in CHANNEL_PRIORITIES:
            raise priority.wrong(f"one of {', '.join(CHANNEL_PRIORITIES)}")
        found = replace(found, channel_priority=priority.text())
    if alias := values.get("channel_alias"):
        found = replace(found, channel_alias=f"{alias.text().rstrip('/')}/")
    if credentials := values.get("credentials"):
        if not isinstance(credentials.value, dict) or not all(isinstance(v, dict) for v in credentials.value.values()):
            raise credentials.wrong('a table for each host, such as [credentials."conda.example.org"]')
        found = replace(found, credentials=credentials.value)
    if proxy := values.get("proxy"):
        found = replace(found, proxies=_proxies(proxy))
    if "ssl_cert_file" in values:
        found = replace(found, ssl_cert_file=folder("ssl_cert_file", ""))
    if size := values.get("max_cache_size"):
        found = replace(found, max_cache_size=size.size())
    if generations := values.get("generations"):
        found = replace(found, generations=generations.count())
    if timeout := values.get("read_timeout"):
        found = replace(found, read_timeout=timeout.seconds())
    if link_scripts := values.get("link_scripts"):
        found = replace(found, link_scripts=link_scripts.switch())
    if "allowed_signers" in values:
        found = replace(found, allowed_signers=folder("allowed_signers", ""))
    if signature := values.get("require_signature"):
        found = replace(found, require_signature=signature.switch())
    if database := values.get("database"):
        found = replace(found, database=_database(root, database))
    if gpus := values.get("gpus"):
        found = replace(found, gpus=gpus.ids() if isinstance(gpus.value, list) else gpus.count())
    if cpus := values.get("cpus"):
        found = replace(found, cpus=cpus.count())
    if memory := values.get("memory"):
        found = replace(found, memory=memory.size())
    if limits := values.get("limits"):
        found = replace(found, limits=_limits(limits))
    if offline := values.get("offline"):
        found = replace(found, offline=offline.switch())
    return replace(found, stated=frozenset(values))


def _database(root: Path, given: _Value) -> str | None:
    """A URL, of a file with its whole path; None for the default. A wrong one is not shown: it may hold a password."""
    text = given.value if isinstance(given.value, str) else ""
    if text == "sqlite":
        return None
    if text.startswith("sqlite:///") and text != "sqlite:///":
        return f"sqlite://{_resolved(root, text.removeprefix('sqlite:///'))}"
    if re.match(r"postgres(ql)?(\+\w+)?://", text):
        return text
    raise UsageError(
        f"database in {given.stands_in} must be a URL",
        hint='Write it as database = "postgresql://user@db.example.org/trainenv", "sqlite:///FILE" or "sqlite"',
    )


def _proxies(given: _Value) -> dict[str, str]:
    """One URL for all, or a table of them by scheme; what is wrong is not shown, for it may hold a password."""
    table = {"http": given.value, "https": given.value} if isinstance(given.value, str) else given.value
    if not isinstance(table, dict) or not all(isinstance(url, str) and "://" in url for url in table.values()):
        raise UsageError(
            f"proxy in {given.stands_in} must be a URL", hint='Write it as proxy = "http://proxy.example.org:3128"'
        )
    return table


def _limits(given: _Value) -> Limits:
    table = given.table()
    if unknown := sorted(set(table) - {"tasks", "environments", "methods"}):
        raise UsageError(
            f"limits in {given.stands_in} knows no {unknown[0]!r}", hint="Known are: tasks, environments, methods"
        )

    def at_once(value: object, key: str) -> int:
        limit = _Value(value, f"limits.{key}", given.stands_in)
        if (count := limit.count()) == 0:
            raise limit.wrong("1 or more")
        return count

    def by_name(kind: str) -> dict[str, int]:
        named = _Value(table.get(kind, {}), f"limits.{kind}", given.stands_in).table()
        return {name: at_once(value, f"{kind}.{name}") for name, value in named.items()}

    return Limits(
        tasks=at_once(table["tasks"], "tasks") if "tasks" in table else None,
        environments=by_name("environments"),
        methods=by_name("methods"),
    )


def _mirrors(given: _Value) -> dict[str, tuple[str, ...]]:
    return {
        channel: _Value([urls] if isinstance(urls, str) else urls, f"mirrors.{channel}", given.stands_in).texts()
        for channel, urls in given.table().items()
    }
