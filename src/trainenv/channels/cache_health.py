"""Is the package cache what it was? Environments hold hard links into it, so an edit in one shows here.

An entry is checked file by file against the sha256 of its own ``paths.json`` when it is first met,
after a while, and whenever a size, inode or time of change differs from what was noted after the last
check. So a warm create looks at the status of the files only: 10 ms for a Python, instead of 100.

An entry that does not hold is condemned: without ``info/index.json`` py-rattler fetches it anew and
puts it in place by a rename, under its own locks. Environments that link the old files keep those.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.channels import digests, package_check

FULL_CHECK_SECONDS = 7 * 24 * 3600.0
"""After this time content is read again, also where nothing seems changed: bits can flip on a disk."""

_MOST_LOOKS = 5
_FORMAT = 3
_TRUSTED = ("info/paths.json", "info/index.json", "info/files", "info/link.json")


@dataclass(frozen=True)
class Entry:
    """One extracted package, ``pkgs/STEM``; ``stamp`` is what is noted of it."""

    folder: Path
    stamp: Path

    @property
    def is_there(self) -> bool:
        return (self.folder / "info" / "index.json").is_file()


def entry_of(cache_dir: Path, stem: str) -> Entry:
    """The entry of the package file ``stem`` (``NAME-VERSION-BUILD``), there or not."""
    return Entry(cache_dir / "pkgs" / stem, cache_dir / "checked" / f"{stem}.json")


def damage(entry: Entry, *, full: bool = False) -> str | None:
    """What is wrong with ``entry``, None if nothing is; ``full`` reads every file.

    An entry that is sound is stamped. One that is not there has no damage. Another process may put a new one
    in its place meanwhile, for the same name may mean another file in another channel: then that is looked at.
    """
    for _ in range(_MOST_LOOKS):
        with suppress(FileNotFoundError):
            before = _present(entry)
            found = _damage(entry, full)
            if found is None or _present(entry) == before:
                return found
    return None


def _present(entry: Entry) -> list[int] | None:
    try:
        return _identity(entry)
    except FileNotFoundError:
        return None


def _identity(entry: Entry) -> list[int]:
    """Tells the folder from another one in its place, also from one that has got its inode."""
    status = entry.folder.stat()
    return [status.st_ino, status.st_mtime_ns]


def _damage(entry: Entry, full: bool) -> str | None:
    if not entry.is_there:
        entry.stamp.unlink(missing_ok=True)
        return None
    known = _read(entry)
    seen = _fingerprint(entry.folder)
    if not full and known.get("fingerprint") == seen and 0 <= time.time() - known["checked"] < FULL_CHECK_SECONDS:
        return None
    found = next(_differences(entry.folder, known), None)
    if found is None:
        _write(entry, seen, known.get("archive"))
    return found


def condemn(entry: Entry) -> None:
    """Make py-rattler take ``entry`` for missing, so that it is fetched again."""
    entry.stamp.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        (entry.folder / "info" / "index.json").unlink()


def stamp(entry: Entry, archive: str) -> None:
    """Note a fresh entry, and the hash of its ``archive`` (``KIND:HEX``) that was checked just now."""
    with suppress(FileNotFoundError):  # Another process puts a new one in its place.
        if entry.is_there and _read(entry).get("archive") != archive:
            _write(entry, _fingerprint(entry.folder), archive)


def is_of(entry: Entry, archive: str) -> bool:
    """Whether ``entry`` is known to come from the archive with this hash (``KIND:HEX``)."""
    return _read(entry).get("archive") == archive


def ways_out(entry: Entry) -> list[str]:
    """The links of ``entry`` that lead out of the prefix they are put into."""
    known: list[str] | None = _read(entry).get("ways_out")
    return package_check.ways_out(entry.folder) if known is None else known


def is_stamped(entry: Entry) -> bool:
    """Whether ``entry`` was looked at before, and found sound."""
    return bool(_read(entry))


def entries(cache_dir: Path) -> Iterator[Entry]:
    """All entries of the cache, by name."""
    with suppress(FileNotFoundError):
        for folder in sorted((cache_dir / "pkgs").iterdir()):
            if not folder.name.startswith(".") and (folder / "info").is_dir():
                yield entry_of(cache_dir, folder.name)


def _fingerprint(folder: Path) -> str:
    """A digest over path, size, inode and time of change of everything in ``folder``.

    The inode's own change time is left out: each new hard link sets it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path, status in sorted(_walk(str(folder), "")):
        digest.update(f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0".encode("utf-8", "replace"))
    return digest.hexdigest()


def _walk(folder: str, inside: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        for item in found:
            path = f"{inside}{item.name}"
            if item.is_dir(follow_symlinks=False):
                yield from _walk(item.path, f"{path}/")
            else:
                yield path, item.stat(follow_symlinks=False)


def _differences(folder: Path, known: dict[str, Any]) -> Iterator[str]:
    if "trusted" in known and known["trusted"] != _trusted(folder):
        yield "its own list of files was changed"
        return
    if not known and (fault := package_check.fault(folder)):
        yield fault
        return
    try:
        listed = json.loads((folder / "info" / "paths.json").read_bytes())["paths"]
    except FileNotFoundError:
        if known:
            yield "files were changed, and it has no hashes"
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield "its info/paths.json can't be read"
        return
    for item in listed:
        if difference := _difference(folder / item["_path"], item):
            yield f"{item['_path']} {difference}"


def _difference(file: Path, item: dict[str, Any]) -> str | None:
    kind = item.get("path_type", "hardlink")
    if kind == "softlink":
        return None if file.is_symlink() else "is not a link any more"
    if kind == "directory":
        return None if file.is_dir() else "is gone"
    try:
        if file.is_symlink():
            return "became a link"
        if "size_in_bytes" in item and file.stat().st_size != item["size_in_bytes"]:
            return "has another size"
        if item.get("sha256") and digests.of_file(file) != item["sha256"]:
            return "has another content"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


def _trusted(folder: Path) -> str:
    """What all else is checked against: the package's own records, and where its links point."""
    digest = hashlib.sha256()
    for name in _TRUSTED:
        with suppress(FileNotFoundError):
            digest.update(f"{name}\0".encode() + (folder / name).read_bytes())
    for path, status in sorted(_walk(str(folder), "")):
        if (status.st_mode & 0o170000) == 0o120000:
            digest.update(f"{path}\0{os.readlink(folder / path)}\0".encode("utf-8", "replace"))
    return digest.hexdigest()


def _read(entry: Entry) -> dict[str, Any]:
    """The stamp, ``{}`` where there is none or the folder is another one than was stamped."""
    try:
        content = json.loads(entry.stamp.read_bytes())
        if content["format"] == _FORMAT and content["folder"] == _identity(entry):
            return {key: content[key] for key in ("fingerprint", "trusted", "checked", "archive", "ways_out")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}


def _write(entry: Entry, fingerprint: str, archive: str | None) -> None:
    entry.stamp.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": _FORMAT,
        "folder": _identity(entry),
        "fingerprint": fingerprint,
        "trusted": _trusted(entry.folder),
        "checked": time.time(),
        "archive": archive,
        "ways_out": package_check.ways_out(entry.folder),
    }
    beside = entry.stamp.with_name(f".{entry.stamp.name}.{os.getpid()}")
    beside.write_text(json.dumps(content))
    os.replace(beside, entry.stamp)
