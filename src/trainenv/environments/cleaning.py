"""What no environment uses any more: found, sized, removed.

An entry of a cache counts as used while a record names it or a hard link leads to its files: then
its removal would free nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv import locks
from trainenv.channels import answers
from trainenv.environments import given, registry, staging
from trainenv.environments.records import ENVIRONMENT_NOTE, read_note
from trainenv.environments.sizes import Size, is_linked_elsewhere, size_of
from trainenv.errors import EnvironmentBusyError
from trainenv.settings import Settings

PACKAGES, WHEELS, HOST, UNPACKED, TRANSFERS, STAGING, GENERATIONS, REPODATA = (
    "conda packages",
    "PyPI packages",
    "host channel",
    "unpacked channels",
    "broken transfers",
    "staging",
    "generations",
    "channel indexes",
)
_POINTERS = (".http", ".rev")
_OF_THE_CACHE = (PACKAGES, WHEELS, HOST, UNPACKED, TRANSFERS, REPODATA)


@dataclass(frozen=True)
class Unused:
    """One thing to remove: ``paths`` belong together. ``size`` is in bytes, ``used`` a time in seconds since 1970."""

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: Size
    used: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "paths": [str(path) for path in self.paths],
            "apparent": self.size.apparent,
            "freed": self.size.own,
        }


def clean(settings: Settings, *, everything: bool = False, dry_run: bool = False) -> list[Unused]:
    """Remove what no environment uses; returns it. With ``dry_run`` nothing is removed.

    With ``everything`` also the states that ``env rollback`` could return to, and the channels'
    indexes, which are fetched again. Raises ``EnvironmentBusyError`` while an environment is being
    made or changed, as that reads from the cache.
    """
    if dry_run:
        return list(find_unused(settings, everything=everything))
    with _cache_to_itself(settings):
        found = list(find_unused(settings, everything=everything))
        return [item for item in found if _remove(settings, item)]


def keep_within(settings: Settings, limit: int) -> list[Unused]:
    """Bring what only the cache holds down to ``limit`` bytes, least recently used first; returns what went.

    What environments link is not counted, as its removal would free nothing. Beside another change
    nothing happens: the next change sees to it.
    """
    _note_use(settings)
    removed: list[Unused] = []
    with suppress(EnvironmentBusyError), _cache_to_itself(settings):
        found = [item for item in find_unused(settings, everything=True) if item.kind in _OF_THE_CACHE]
        held = sum(item.size.own for item in found)
        for item in sorted(found, key=lambda item: (item.used, item.name)):
            if held <= limit:
                break
            if _remove(settings, item):
                removed.append(item)
                held -= item.size.own
    return removed


def find_unused(settings: Settings, *, everything: bool = False) -> Iterator[Unused]:
    """What ``clean`` would remove, kind by kind."""
    stems = _recorded(settings)
    yield from _packages(settings.cache_dir / "pkgs", stems)
    yield from _wheels(settings.cache_dir / "uv")
    yield from _superseded(settings.cache_dir / "host", stems)
    yield from _unpacked(settings)
    yield from _transfers(settings.cache_dir / "transfers")
    yield from _abandoned(settings)
    yield from _generations(settings, everything)
    for indexes in (settings.cache_dir / name for name in ("repodata", answers.FOLDER, given.FOLDER)):
        if everything and indexes.is_dir() and any(indexes.iterdir()):
            yield _unused(REPODATA, indexes.name, [indexes])


def _unused(kind: str, name: str, paths: Sequence[Path]) -> Unused:
    with suppress(OSError):
        return Unused(kind, name, tuple(paths), size_of(paths), paths[0].stat().st_mtime)
    return Unused(kind, name, tuple(paths), size_of(paths))


def _prefixes(settings: Settings) -> Iterator[Path]:
    """Every prefix that may use the cache: of this workspace, kept for a rollback, and of other ones."""
    yield from _folders(settings.envs_dir)
    yield from registry.prefixes()
    state = settings.envs_dir / locks.STATE_DIR
    for pattern in ("staging/*/prefix", "staging/*/replaced", "generations/*/*/prefix"):
        yield from state.glob(pattern)


def _recorded(settings: Settings) -> set[str]:
    """The conda packages that environments have, as ``NAME-VERSION-BUILD``."""
    return {file.stem for prefix in _prefixes(settings) for file in (prefix / "conda-meta").glob("*.json")}


def _packages(cache: Path, stems: set[str]) -> Iterator[Unused]:
    for entry in _entries(cache):
        if entry.name.startswith(".") and entry.is_dir():
            yield _unused(PACKAGES, entry.name, [entry])  # py-rattler's, when it is killed.
        elif entry.name.endswith((".conda", ".tar.bz2")):
            yield _unused(PACKAGES, entry.name, [entry])
        elif entry.is_dir() and entry.name not in stems and not is_linked_elsewhere(entry):
            stamp = cache.parent / "checked" / f"{entry.name}.json"
            beside = [entry.with_name(f"{entry.name}.lock"), stamp]
            yield _unused(PACKAGES, entry.name, [entry, *(path for path in beside if path.exists())])


def _wheels(cache: Path) -> Iterator[Unused]:
    """uv's unpacked wheels, each with what leads to it: uv takes a pointer without its end for a broken wheel."""
    entries = [entry for archives in sorted(cache.glob("archive-v*")) for entry in _folders(archives)]
    unused = [entry for entry in entries if not is_linked_elsewhere(entry)]
    pointers = _pointers(cache, [entry.name for entry in unused])
    for entry in unused:
        named = sorted(item.name.removesuffix(".dist-info") for item in entry.glob("*.dist-info"))
        yield _unused(WHEELS, ", ".join(named) or entry.name, [entry, *pointers.get(entry.name, [])])


def _pointers(cache: Path, archives: Sequence[str]) -> dict[str, list[Path]]:
    """The links and small files of uv's cache that name one of its ``archives``, by archive."""
    found: dict[str, list[Path]] = {}
    names = [(archive, archive.encode()) for archive in archives]
    for bucket in (*cache.glob("wheels-v*"), *cache.glob("sdists-v*")) if archives else ():
        for folder, inner, files in os.walk(bucket):
            for place in (Path(folder, name) for name in (*files, *inner)):
                if place.is_symlink():
                    content = os.fsencode(place.readlink())
                elif place.is_file() and place.suffix in _POINTERS:
                    content = place.read_bytes()
                else:
                    continue
                for archive, needle in names:
                    if needle in content:
                        found.setdefault(archive, []).append(place)
    return found


def _superseded(channel: Path, stems: set[str]) -> Iterator[Unused]:
    """Packages of interpreters that changed or went, which its index names no more."""
    for subdir in _folders(channel):
        with suppress(OSError, ValueError):
            listed = json.loads((subdir / "repodata.json").read_bytes())["packages.conda"]
            for file in sorted(subdir.glob("*.conda")):
                if file.name not in listed and file.stem not in stems:
                    yield _unused(HOST, file.name, [file])


def _unpacked(settings: Settings) -> Iterator[Unused]:
    """Channels that came in an archive of pixi-pack, which no environment names; also what a killed process left."""
    named = {
        str(channel)
        for prefix in _prefixes(settings)
        for channel in read_note(prefix, ENVIRONMENT_NOTE).get("channels", [])
    }
    for folder in _entries(settings.cache_dir / "unpacked"):
        if not any(f"/unpacked/{folder.name}/" in f"{channel}/" for channel in named):
            yield _unused(UNPACKED, folder.name, [folder])


def _transfers(folder: Path) -> Iterator[Unused]:
    """What came of archives before a connection was lost, unless somebody is fetching the rest."""
    for transfer in _entries(folder):
        if not locks.is_held(transfer / "lock"):
            yield _unused(TRANSFERS, transfer.name, [transfer])


def _abandoned(settings: Settings) -> Iterator[Unused]:
    """Staging folders of killed processes."""
    for folder in _folders(settings.envs_dir / locks.STATE_DIR / "staging"):
        if not locks.is_held(folder / "lock"):
            yield _unused(STAGING, folder.name, [folder])


def _generations(settings: Settings, everything: bool) -> Iterator[Unused]:
    for folder in _folders(settings.envs_dir / locks.STATE_DIR / "generations"):
        if everything or not (settings.envs_dir / folder.name / "conda-meta").is_dir():
            yield _unused(GENERATIONS, folder.name, [folder])


def _note_use(settings: Settings) -> None:
    """Environments use their packages now: a folder's time says when it was last used."""
    for stem in _recorded(settings):
        with suppress(OSError):
            os.utime(settings.cache_dir / "pkgs" / stem)


def _remove(settings: Settings, item: Unused) -> bool:
    """Remove ``item``; False for one that somebody has taken into use meanwhile, or that isn't ours to remove."""
    if item.kind == STAGING:
        staging.sweep(settings)
    elif item.kind == GENERATIONS:
        with suppress(EnvironmentBusyError), locks.exclusive(settings, item.name):
            staging.discard_generations(settings, item.name)
    else:
        _remove_all(item.paths)
    return not item.paths[0].exists()


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            staging.remove_tree(path)
        else:
            with suppress(OSError):
                path.unlink()


@contextmanager
def _cache_to_itself(settings: Settings) -> Iterator[None]:
    """Nobody takes anything from the cache or puts it there; also no ``uv`` whose trainenv was killed."""
    with ExitStack() as stack:
        stack.enter_context(locks.whole_cache(settings.cache_dir))
        for lock in (settings.cache_dir / "uv" / ".lock", settings.cache_dir / "host" / ".lock"):
            if lock.exists():
                stack.enter_context(_locked(lock))
        yield


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise locks.cache_busy(lock) from None
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith(".")]


def total(items: Iterable[Unused]) -> Size:
    """What ``items`` take and free together."""
    return sum((item.size for item in items), Size())
