"""conda's list of environments, ``~/.conda/environments.txt``: conda, mamba and IDEs read it."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def _file() -> Path:
    return Path("~/.conda/environments.txt").expanduser()


def prefixes() -> list[Path]:
    """The prefixes that conda, mamba or trainenv registered and that are still there."""
    try:
        lines = _file().read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, RuntimeError):
        return []
    found = [Path(line.strip()) for line in lines if line.strip().startswith("/")]
    return [prefix for prefix in dict.fromkeys(found) if (prefix / "conda-meta").is_dir()]


def register(prefix: Path) -> None:
    """List ``prefix``. A home folder that can't be written is no reason to fail."""
    _update(lambda lines: lines if str(prefix) in lines else [*lines, str(prefix)])


def unregister(prefix: Path) -> None:
    """Take ``prefix`` off the list."""
    _update(lambda lines: [line for line in lines if line != str(prefix)])


def _update(change: Callable[[list[str]], list[str]]) -> None:
    with suppress(OSError, RuntimeError):  # The latter where there is no home folder at all.
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+", encoding="utf-8", errors="surrogateescape") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            lines = stream.read().splitlines()
            changed = change(lines)
            if changed != lines:
                stream.truncate(0)
                stream.write("".join(f"{line}\n" for line in changed))
