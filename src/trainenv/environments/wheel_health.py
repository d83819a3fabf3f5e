"""Are the files that uv linked from its cache what their wheels said?

Environments hold hard links into uv's cache as well, and uv does not look at what it links. A wheel's
``RECORD`` has the sha256 of its files; they are compared when a wheel is first installed, after a
while, and whenever a size or time of change differs from what was noted then.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trainenv.channels.cache_health import FULL_CHECK_SECONDS
from trainenv.environments.records import Distribution

_WRITTEN_BY_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


def damaged(distributions: Iterable[Distribution], cache_dir: Path) -> list[Distribution]:
    """Those of the distributions, installed just now, that do not hold the hashes of their own ``RECORD``."""
    return [distribution for distribution in distributions if not _is_sound(distribution, cache_dir)]


def accept(distributions: Iterable[Distribution], cache_dir: Path) -> None:
    """Take them as they are: fetched anew they are the same, so the wheel itself has wrong hashes."""
    for distribution in distributions:
        files = _files(distribution)
        _write(_stamp(cache_dir, files), _fingerprint(distribution.prefix, files))


def _is_sound(distribution: Distribution, cache_dir: Path) -> bool:
    files = _files(distribution)
    stamp = _stamp(cache_dir, files)
    seen = _fingerprint(distribution.prefix, files)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(stamp.read_bytes())
        if known["fingerprint"] == seen and 0 <= time.time() - known["checked"] < FULL_CHECK_SECONDS:
            return True
    if not all(_holds(distribution.prefix / path, wanted) for path, wanted in files):
        return False
    _write(stamp, seen)
    return True


def _files(distribution: Distribution) -> list[tuple[str, str]]:
    """Path and sha256 of what came out of the wheel; scripts and notes are made by the installer."""
    inside = os.path.dirname(distribution.folder) + "/"
    return sorted(
        (path, wanted)
        for path, wanted, _ in distribution.record()
        if wanted.startswith("sha256=")
        and path.startswith(inside)
        and not (path.startswith(distribution.folder) and os.path.basename(path) in _WRITTEN_BY_INSTALLERS)
    )


def _stamp(cache_dir: Path, files: list[tuple[str, str]]) -> Path:
    return cache_dir / "checked" / "wheels" / f"{hashlib.sha256(repr(files).encode()).hexdigest()[:32]}.json"


def _fingerprint(prefix: Path, files: list[tuple[str, str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path, _ in files:
        try:
            status = os.lstat(f"{prefix}/{path}")
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "replace"))
        except OSError:
            digest.update(f"{path}\0gone\0".encode("utf-8", "replace"))
    return digest.hexdigest()


def _holds(file: Path, wanted: str) -> bool:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError:
        return False
    return f"sha256={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}" == wanted


def _write(stamp: Path, fingerprint: str) -> None:
    stamp.parent.mkdir(parents=True, exist_ok=True)
    beside = stamp.with_name(f".{stamp.name}.{os.getpid()}")
    beside.write_text(json.dumps({"fingerprint": fingerprint, "checked": time.time()}))
    os.replace(beside, stamp)
