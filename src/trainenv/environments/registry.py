"""Where conda's environments are: its list ``~/.conda/environments.txt``, which mamba and IDEs read as well,
and its folders of environments.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainenv.errors import TrainenvError


def _file() -> Path:
    return Path("~/.conda/environments.txt").expanduser()


def prefixes() -> list[Path]:
    """The prefixes that conda, mamba or trainenv registered and that are still there."""
    try:
        lines = _file().read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, RuntimeError):
        return []
    found = [Path(line.strip()) for line in lines if line.strip().startswith("/")]
    return [prefix for prefix in dict.fromkeys(found) if os.path.isdir(prefix / "conda-meta")]


def find_all() -> dict[Path, str]:
    """Every prefix that conda would list, and the name that it has there.

    A base installation is ``base``; for one in no folder of environments the name is that of its folder.
    """
    found: dict[Path, str] = {}
    bases = [*_bases(), *prefixes()]
    folders = [*_envs_dirs(), *(base / "envs" for base in bases)]
    candidates = [*bases, *(prefix for folder in folders for prefix in _inside(folder))]
    for prefix in candidates:
        if os.path.isdir(prefix / "conda-meta") and prefix.resolve() not in map(Path.resolve, found):
            found[prefix] = "base" if os.path.isdir(prefix / "condabin") else prefix.name
    return found


def _bases() -> list[Path]:
    """The base installations that this shell knows of."""
    variables = ("CONDA_EXE", "MAMBA_EXE", "_CONDA_EXE")
    found = [Path(os.environ[name]).parent.parent for name in variables if os.environ.get(name)]
    return found + [Path(os.environ[name]) for name in ("CONDA_ROOT", "MAMBA_ROOT_PREFIX") if os.environ.get(name)]


def _envs_dirs() -> list[Path]:
    """The folders in which conda and mamba look for environments by name."""
    named: list[str] = []
    for variable in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH"):
        named += filter(None, os.environ.get(variable, "").split(os.pathsep))
    from trainenv.channels import condarc

    for file in condarc.find_files():
        with suppress(TrainenvError):
            listed = condarc.read_file(file).get("envs_dirs") or []
            named += [os.path.expanduser(str(folder)) for folder in ([listed] if isinstance(listed, str) else listed)]
    named.append(os.path.expanduser("~/.conda/envs"))
    return [Path(folder) for folder in named if os.path.isabs(folder)]


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def register(prefix: Path) -> None:
    """List ``prefix``. A home folder that can't be written is no reason to fail."""
    _update(lambda lines: lines if str(prefix) in lines else [*lines, str(prefix)])


def unregister(prefix: Path) -> None:
    """Take ``prefix`` off the list."""
    _update(lambda lines: [line for line in lines if line != str(prefix)])


def _update(change: Callable[[list[str]], list[str]]) -> None:
    """Replace the list by the changed one at once: it is conda's as well, and not to be lost on a full disk."""
    with suppress(OSError, RuntimeError):  # The latter where there is no home folder at all.
        file = Path(os.path.realpath(_file()))
        file.parent.mkdir(parents=True, exist_ok=True)
        while not _updated(file, change):
            pass


def _updated(file: Path, change: Callable[[list[str]], list[str]]) -> bool:
    """Whether the list could be changed; False where somebody has replaced it meanwhile."""
    with file.open("a+", encoding="utf-8", errors="surrogateescape") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not file.exists() or os.fstat(stream.fileno()).st_ino != file.stat().st_ino:
            return False
        stream.seek(0)
        lines = stream.read().splitlines()
        changed = change(lines)
        if changed != lines:
            beside = file.with_name(f".{file.name}.{os.getpid()}")
            try:
                beside.write_text("".join(f"{line}\n" for line in changed), encoding="utf-8", errors="surrogateescape")
                shutil.copymode(file, beside)
                os.replace(beside, file)
            finally:
                beside.unlink(missing_ok=True)
    return True
