"""Changes ``trainenv.toml`` and leaves the user's own lines and comments as they are."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.errors import UsageError
from trainenv.settings import Settings

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def add_mount(settings: Settings, name: str, image: str) -> None:
    """Let ``[mounts]`` say that environment ``name`` is mounted from ``image``."""
    with _changing(settings) as document:
        document.setdefault("mounts", {})[name] = image


def drop_mount(settings: Settings, name: str) -> None:
    """Take environment ``name`` out of ``[mounts]``."""
    with _changing(settings) as document:
        mounts = document.get("mounts", {})
        mounts.pop(name, None)
        if not mounts:
            document.pop("mounts", None)


@contextmanager
def _changing(settings: Settings) -> Iterator[TOMLDocument]:
    """The document, written back if it has been changed: whole or not at all."""
    import tomlkit

    file = Path(os.path.realpath(settings.file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            document = tomlkit.parse(before)
            yield document
            after = tomlkit.dumps(document).rstrip("\n") + "\n"
            if after.strip() != before.strip():
                beside = file.with_name(f".{file.name}.new")
                beside.write_text(after, encoding="utf-8")
                if file.exists():
                    beside.chmod(file.stat().st_mode & 0o777)
                beside.replace(file)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{file} can't be written", cause=error.strerror or str(error)) from None
