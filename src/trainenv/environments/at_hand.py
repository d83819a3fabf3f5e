"""Files that a lock names by addresses out of reach, and that lie in a mirror folder of this machine.

A lock says where each file came from; a machine without a network has them in a folder that
``trainenv channel mirror`` made. A file of that name with the hash of the lock is the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainenv.channels import conda, digests
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel, local_path
from trainenv.settings import Settings


def folders(settings: Settings, channels: Sequence[str]) -> list[Path]:
    """Those of ``channels``, and of the channels and mirrors of ``settings``, that are folders of this machine."""
    mirrors = [place for several in settings.mirrors.values() for place in several]
    places = map(conda.located, [*channels, *settings.channels, *mirrors])
    found = [local_path(place) or Path(place) for place in places if place.startswith(("/", "file:"))]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def conda_packages(locked: LockedEnvironment, places: Sequence[Path]) -> LockedEnvironment:
    """``locked`` with the packages that one of the folders ``places`` has taken from there."""
    packages = [_package(package, places) for package in locked.conda]
    instead: dict[str, list[str]] = {channel: [] for channel in locked.channels}
    for before, after in zip(locked.conda, packages, strict=True):
        instead.setdefault(before.channel, []).append(after.channel)
    channels = [new for channel, several in instead.items() for new in several or [channel]]
    return replace(locked, conda=tuple(packages), channels=tuple(dict.fromkeys(channels)))


def wheel(wanted: LockedWheel, places: Sequence[Path]) -> LockedWheel:
    """``wanted``, from one of the folders ``places`` where it has it."""
    found = _find(places, "wheels", wanted.location, "sha256", wanted.sha256)
    return replace(wanted, location=found.as_uri()) if found else wanted


def _package(package: LockedConda, places: Sequence[Path]) -> LockedConda:
    kind, digest = ("sha256", package.sha256) if package.sha256 else ("md5", package.md5)
    found = _find(places, package.subdir, package.url, kind, digest)
    return replace(package, url=found.as_uri()) if found else package


def _find(places: Sequence[Path], within: str, url: str, kind: str, digest: str | None) -> Path | None:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if digest is None or not name:
        return None
    files = (place / within / name for place in places)
    return next((file for file in files if file.is_file() and digests.of_file(file, kind) == digest), None)
