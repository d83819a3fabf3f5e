"""What mending conda's and PyPI's packages has in common: where it happens, and how one file is put back."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from trainenv.channels.access import Access
from trainenv.environments.staging import Staging, remove_tree
from trainenv.progress import Reporter
from trainenv.settings import Settings


@dataclass
class Mending:
    """Mending ``staging``, a clone of the environment at ``original``. ``reasons`` say by package why one can't be."""

    settings: Settings
    staging: Staging
    original: Path
    access: Access
    reporter: Reporter
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> Path:
        return self.staging.path


def put(source: Path, target: Path) -> None:
    """Make ``target`` a link to the file ``source``, or a copy of the symlink; whatever stood there goes."""
    clear(target)
    mode = source.lstat().st_mode
    if not source.is_symlink() and not mode & 0o400:
        source.chmod(0o644 | mode & 0o111)
    os.link(source, target, follow_symlinks=False)


def make_executable(file: Path) -> None:
    """Let ``file`` be started by whoever may read it; a package cache that it is linked into has it right then, too."""
    mode = file.stat().st_mode & 0o7777
    wanted = mode | (mode & 0o444) >> 2
    try:
        file.chmod(wanted)
    except PermissionError:  # Another member of the group made it.
        beside = file.with_name(f".executable-{os.getpid()}")
        shutil.copy2(file, beside)
        beside.chmod(wanted)
        os.replace(beside, file)


def clear(path: Path) -> None:
    """Make room at ``path``: no file, link or folder there, and nothing but folders above it."""
    for above in reversed(path.parents):
        if above.is_symlink() or above.is_file():
            above.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
    if path.suffix == ".py":
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
