"""``pylock.toml`` (PEP 751): the PyPI half of an environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.environments.locked import LockedEnvironment, LockedWheel, file_url, local_path
from trainenv.environments.records import NOTES_DIR
from trainenv.errors import SpecificationError
from trainenv.settings import parse_toml

if TYPE_CHECKING:
    from packaging.pylock import Package, Pylock

OWN = f"{NOTES_DIR}/pylock.toml"
"""Where an environment keeps its own."""


@dataclass(frozen=True)
class Choices:
    """What a ``pylock.toml`` offers; paths in it begin at ``folder``."""

    source: str
    content: Pylock
    folder: Path

    @property
    def requires_python(self) -> str | None:
        return str(self.content.requires_python) if self.content.requires_python else None

    def for_python(self, version: str) -> tuple[LockedWheel, ...]:
        """One file for each package that this machine needs with Python ``version``."""
        from packaging.pylock import PylockSelectError
        from packaging.tags import compatible_tags, cpython_tags

        major, minor = (int(part) for part in version.split(".")[:2])
        tags = [
            *cpython_tags((major, minor)),
            *compatible_tags((major, minor), interpreter=f"cp{major}{minor}"),
        ]
        try:
            selected = list(self.content.select(environment=_environment(version), tags=tags))
        except PylockSelectError as error:
            raise SpecificationError(
                f"{self.source} does not fit Python {version} on this machine",
                cause=str(error),
                hint="Name a Python that it fits, or lock again for this machine",
            ) from None
        return tuple(_wheel(package, source, self.folder) for package, source in selected)


def _environment(python: str) -> Any:
    """The values of environment markers for an interpreter of this machine of version ``python``."""
    from packaging.markers import default_environment

    return {
        **default_environment(),
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_version": python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def read(file: Path, text: str) -> LockedEnvironment:
    """The ``pylock.toml`` in ``text``. Raises ``SpecificationError`` where it is none."""
    choices = Choices(str(file), _parse(file, text), file.absolute().parent)
    return LockedEnvironment(str(file), choices=choices, halves=frozenset({"pypi"}))


def _parse(file: Path, text: str) -> Pylock:
    from packaging.pylock import Pylock, PylockValidationError

    try:
        return Pylock.from_dict(parse_toml(text))
    except PylockValidationError as error:
        raise SpecificationError(f"{file} is not a valid pylock.toml", cause=str(error)) from None
    except ValueError as error:
        raise SpecificationError(f"{file} is not valid TOML", cause=str(error)) from None


def read_own(prefix: Path) -> Iterator[LockedWheel]:
    """What stands in the ``pylock.toml`` that ``prefix`` keeps; each package has one file there."""
    file = prefix / OWN
    try:
        content = _parse(file, file.read_text())
    except (FileNotFoundError, SpecificationError):
        return
    for package in content.packages:
        if source := package.vcs or package.directory or package.archive or next(iter(package.wheels or ()), None):
            yield _wheel(package, source, file.parent)
        elif package.sdist:
            yield _wheel(package, package.sdist, file.parent)


def _wheel(package: Package, source: Any, folder: Path) -> LockedWheel:
    url = getattr(source, "url", None)
    location = str(url or file_url(os.path.normpath(folder / source.path)))
    if package.vcs:
        location = f"{package.vcs.type}+{location}@{package.vcs.commit_id}"
    if subdirectory := getattr(source, "subdirectory", None):
        location += f"#subdirectory={subdirectory}"
    return LockedWheel(
        package.name,
        str(package.version or ""),
        location,
        (getattr(source, "hashes", None) or {}).get("sha256"),
        direct=package.is_direct,
        editable=bool(getattr(source, "editable", False)),
        size=_size(source, location),
    )


def _size(source: Any, location: str) -> int | None:
    """Bytes of the file; a lock that uv wrote does not say it of files that lie on this machine."""
    size: int | None = getattr(source, "size", None)
    if size is None and (file := local_path(location.partition("#")[0])):
        with suppress(OSError):
            return file.stat().st_size if file.is_file() else None
    return size


def dump(wheels: Iterable[LockedWheel], python: str) -> str:
    """``wheels``, all exact, for Python ``python`` as text; the same wheels give the same bytes."""
    minor = python.split(".")[:2]
    lines = [
        'lock-version = "1.0"',
        'created-by = "trainenv"',
        f'requires-python = ">={python},<{minor[0]}.{int(minor[1]) + 1}"',
    ]
    wheels = sorted(wheels, key=lambda wheel: wheel.name)
    if not wheels:
        lines.append("packages = []")
    return "\n".join(lines) + "\n" + "".join(f"\n{_entry(wheel)}" for wheel in wheels)


def _entry(wheel: LockedWheel) -> str:
    lines = ["[[packages]]", f"name = {json.dumps(wheel.name)}"]
    if wheel.version:
        lines.append(f"version = {json.dumps(wheel.version)}")
    return "\n".join([*lines, _source(wheel), ""])


def replaced(text: str, folder: str, wheels: Mapping[str, LockedWheel]) -> str:
    """``text``, as uv writes it, with ``wheels``, all exact, in place of their namesakes from the URL ``folder``.

    Packages from there that have no such name are left out.
    """
    head, *entries = re.split(r"^(?=\[\[packages\]\])", text, flags=re.MULTILINE)
    kept: list[str] = []
    for entry in entries:
        name = re.search(r'^name = "(.+)"$', entry, re.MULTILINE)
        if f'"{folder}/' not in entry or name is None:
            kept.append(entry)
        elif wheel := wheels.get(name[1]):
            kept.append(f"{_entry(wheel)}\n")
    return head + ("".join(kept) if kept or not entries else "packages = []\n")


def _source(wheel: LockedWheel) -> str:
    location, _, fragment = wheel.location.partition("#")
    subdirectory = re.search(r"subdirectory=([^&]+)", fragment)
    values: dict[str, str | bool] = {}
    if wheel.is_vcs:
        kind, _, address = location.partition("+")
        url, _, commit = address.rpartition("@")
        values = {"type": kind, "url": url, "commit-id": commit}
        table = "vcs"
    elif wheel.is_folder:
        values = {"path": _path(location)} | ({"editable": True} if wheel.editable else {})
        table = "directory"
    else:
        table = "archive" if wheel.direct else "wheels" if location.endswith(".whl") else "sdist"
        # uv takes the file:// URL of a wheel in an index, but not that of an archive.
        is_path = table == "archive" and location.startswith("file:")
        values = {"path": _path(location)} if is_path else {"url": location}
    if subdirectory:
        values["subdirectory"] = subdirectory[1]
    parts = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    if table in ("archive", "wheels", "sdist"):
        parts.append(f'hashes = {{ sha256 = "{wheel.sha256}" }}')
    inline = f"{{ {', '.join(parts)} }}"
    return f"{table} = [{inline}]" if table == "wheels" else f"{table} = {inline}"


def _path(location: str) -> str:
    return str(local_path(location))
