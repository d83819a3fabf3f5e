"""The lock of an environment as it is now, also where conda or pip changed it behind trainenv's back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from trainenv.environments.records import NOTES_DIR, Package, canonical_name

_FILE = f"{NOTES_DIR}/pixi.lock"
_CONDA = re.compile(r"^- conda: \S*/([^/\s]+)-([^-/\s]+)-([^-/\s]+)\.(?:conda|tar\.bz2)$", re.MULTILINE)
_PYPI = re.compile(r"^- pypi: .*\n  name: (\S+)(?:\n  version: (\S+))?", re.MULTILINE)


def current_lock(prefix: Path, packages: Iterable[Package]) -> bytes | None:
    """A ``pixi.lock`` of the ``packages`` that ``prefix`` holds: its own if it still names these, else a new one.

    A new one takes some tenths of a second. None if there can be none.
    """
    try:
        written = (prefix / _FILE).read_bytes()
    except OSError:
        written = b""
    if written and _names(written.decode(errors="replace")) == _expected(packages):
        return written
    try:
        from trainenv.environments.lock import lock_text

        return lock_text(prefix).encode()
    except Exception:  # py-rattler has no error class of its own; without a lock a task can still run.
        return written or None


def _names(lock: str) -> set[tuple[str, str]]:
    found = {(match[1], f"{unquote(match[2])} {match[3]}") for match in _CONDA.finditer(lock)}
    return found | {(canonical_name(match[1]), (match[2] or "").strip("'\"")) for match in _PYPI.finditer(lock)}


def _expected(packages: Iterable[Package]) -> set[tuple[str, str]]:
    return {
        (package.name, package.version if package.build == "pypi" else f"{package.version} {package.build}")
        for package in packages
    }
