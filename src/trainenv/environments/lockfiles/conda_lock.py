"""``conda-lock.yml`` of version 1: read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainenv.channels.target import Target, this_platform
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel
from trainenv.environments.lockfiles import pixi
from trainenv.environments.lockfiles.platform import refuse_unless_for
from trainenv.environments.lockfiles.yaml import load_mapping
from trainenv.environments.records import canonical_name
from trainenv.errors import SpecificationError

_OF_PIXI = (2, 3)
"""Versions of ``pixi.lock`` that looked like a ``conda-lock.yml``."""

_CATEGORIES = ("main", "dev")
"""What ``conda-lock install`` takes unless told otherwise; the rest are extras."""


def platforms(file: Path, text: str) -> list[str]:
    """The platforms that have packages."""
    content = load_mapping(file, text)
    if content.get("version") in _OF_PIXI:
        return pixi.platforms(file, text)
    entries = content.get("package") or []
    return sorted({str(entry.get("platform")) for entry in entries if isinstance(entry, dict)})


def read(file: Path, text: str, platform: str | None = None) -> LockedEnvironment:
    """The packages for ``platform``, by default this machine. Raises ``SpecificationError`` if there are none."""
    content = load_mapping(file, text)
    version = content.get("version")
    if version in _OF_PIXI:
        return pixi.read(file, text, platform)
    if version != 1:
        raise SpecificationError(f"{file} is a conda-lock.yml of version {version}", cause="version 1 is understood")
    entries = [entry for entry in content.get("package") or [] if isinstance(entry, dict)]
    here = platform or this_platform()
    refuse_unless_for(here, (str(entry.get("platform")) for entry in entries), str(file))
    conda: list[LockedConda] = []
    wheels: list[LockedWheel] = []
    for entry in entries:
        if entry.get("platform") != here or entry.get("category", "main") not in _CATEGORIES:
            continue
        try:
            if entry.get("manager") == "pip":
                wheels.append(_wheel(entry))
            else:
                conda.append(LockedConda.from_url(str(entry["url"]), **_hashes(entry)))
        except (KeyError, TypeError, ValueError) as error:
            raise SpecificationError(
                f"{file} has a package that is not understood", cause=f"{entry.get('name')}: {error}"
            ) from None
    channels = tuple(dict.fromkeys(package.channel for package in conda))
    return LockedEnvironment(str(file), channels, tuple(conda), tuple(wheels), target=Target(here))


def _wheel(entry: dict[str, Any]) -> LockedWheel:
    location = str(entry["url"]).partition("#sha256=")[0]
    direct = "+" in location.partition("://")[0]
    name = canonical_name(str(entry["name"]))
    return LockedWheel(name, str(entry["version"]), location, _hashes(entry)["sha256"], direct)


def _hashes(entry: dict[str, Any]) -> dict[str, str | None]:
    hashes = entry.get("hash") or {}
    return {kind: str(hashes[kind]) if hashes.get(kind) else None for kind in ("sha256", "md5")}
