"""uv's own settings: what stands in ``uv.toml`` and ``[tool.uv]``, for what trainenv must not overrule.

uv reads these files by itself. But what trainenv tells it from pip's settings, by variables and
options, would win over them; so whatever they speak of, trainenv does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.credentials import without_credentials
from trainenv.settings import parse_toml

_TRUE = {"y", "yes", "t", "true", "on", "1"}


@dataclass(frozen=True)
class UvFile:
    """One file that uv reads; ``content`` is its table of uv's settings."""

    path: Path
    content: Mapping[str, Any]

    @property
    def tables(self) -> list[Mapping[str, Any]]:
        """Its settings, and those for ``uv pip``."""
        own = self.content.get("pip")
        return [self.content, own] if isinstance(own, dict) else [self.content]

    @property
    def default_index(self) -> str | None:
        for table in self.tables:
            if isinstance(url := table.get("index-url"), str):
                return url
        return next((str(index["url"]) for index in self._indexes if index.get("default") is True), None)

    @property
    def indexes(self) -> list[str]:
        """All addresses of indexes and places of wheels, with the secrets that they may hold."""
        found = [str(index["url"]) for index in self._indexes]
        for table in self.tables:
            for key in ("index-url", "extra-index-url", "find-links"):
                value = table.get(key)
                found += [value] if isinstance(value, str) else [str(item) for item in value or ()]
        return found

    @property
    def _indexes(self) -> list[Mapping[str, Any]]:
        return [index for index in self.content.get("index") or () if isinstance(index, dict) and "url" in index]

    def states(self, key: str) -> bool:
        return any(key in table for table in self.tables)

    @property
    def summary(self) -> str:
        """The settings it has, with the public addresses of its indexes."""
        names = sorted({key for table in self.tables for key in table} - {"pip"})
        places = ", ".join(without_credentials(url) for url in self.indexes)
        return ", ".join(names) + (f" ({places})" if places else "")


def uv_files(folder: Path | None = None) -> list[UvFile]:
    """The files that uv, run in ``folder``, takes its settings from; the first one wins.

    A file that can't be read is passed over: uv says what is wrong with it.
    """
    if named := os.environ.get("UV_CONFIG_FILE"):
        return list(_read(Path(named)))
    if os.environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    found: list[UvFile] = []
    here = (folder or Path.cwd()).absolute()
    for above in (here, *here.parents):
        if found := [*_read(above / "uv.toml"), *_read(above / "pyproject.toml")][:1]:
            break
    own = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    found += _read(own / "uv" / "uv.toml")
    system = [Path(place) for place in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep) if place]
    for place in (*system, Path("/etc")):
        if (place / "uv" / "uv.toml").is_file():
            found += _read(place / "uv" / "uv.toml")
            break
    return found


def _read(file: Path) -> Iterator[UvFile]:
    try:
        content = parse_toml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if file.name != "pyproject.toml":
        yield UvFile(file, content)
    elif isinstance(tool := content.get("tool"), dict) and isinstance(own := tool.get("uv"), dict):
        yield UvFile(file, own)
