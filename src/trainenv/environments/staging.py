"""Every change happens beside the environment and appears with one rename.

A staging folder ``envs_dir/.trainenv/staging/NAME-XXXX`` holds the prefix being made (``prefix``)
and a lock file that its maker, and whatever program the maker starts, keep locked. Who finds a
staging folder without a holder finds the remains of a killed process and removes them.

What a change has replaced is kept as ``envs_dir/.trainenv/generations/NAME/XXXX/prefix``, see
``generations``: the staging folder becomes that by one rename.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainenv import locks
from trainenv.environments import generations, mounts
from trainenv.environments.content_index import still_known
from trainenv.environments.shared_files import share
from trainenv.errors import (
    DiskFullError,
    EnvironmentExistsError,
    EnvironmentNotFoundError,
    InstallError,
    TrainenvError,
    UsageError,
)
from trainenv.settings import Settings
from trainenv.sharing import make_folder, open_file, shared_umask


@dataclass
class Staging:
    """A prefix in the making. ``path`` exists and is empty (or a clone, see ``staged``).

    ``target_prefix`` is the prefix its files must carry in the end: that of the workspace, or the one
    that the environment to be changed was unpacked with. Programs that write into
    ``path`` must inherit ``lock_descriptor``, so that nobody sweeps the folder under them. ``is_new_state`` is to be
    False where it has the same packages as what it replaces: a rollback leads past that then.
    """

    path: Path
    target_prefix: str
    lock_descriptor: int
    is_new_state: bool = True


@contextmanager
def staged(
    settings: Settings, name: str, *, replaces: bool = False, afresh: bool = False, if_busy: locks.IfBusy = locks.REFUSE
) -> Iterator[Staging]:
    """Make, or with ``replaces`` change, environment ``name``: whole or not at all.

    Leaving the block swaps the staging prefix in with one rename; an exception removes it and
    leaves everything as it was. With ``replaces`` the staging prefix begins as a hard-link clone of
    the environment, unless ``afresh``, and what it replaces is kept as a generation, as the settings say. Raises
    ``EnvironmentExistsError`` or ``EnvironmentNotFoundError`` when ``name`` is there or not there, and
    ``EnvironmentBusyError`` when another process has it and ``if_busy`` does not say otherwise.
    """
    target = settings.prefix_of(name)
    check_prefix(str(target), "Set envs_dir in trainenv.toml to another folder")
    check_prefix(settings.target_prefix_of(name), "Set visible_as in trainenv.toml to another path")
    with (
        disk_full_told(settings, name),
        locks.exclusive(settings, name, if_busy),
        locks.part_of_cache(settings.cache_dir),
        shared_umask(settings.envs_dir),
    ):
        sweep(settings)
        require(settings, name, exists=replaces)
        begun = time.time()
        folder, descriptor = _new_folder(settings, name)
        try:
            prefix = folder / "prefix"
            if replaces and not afresh:
                with still_known(settings.cache_dir, target):
                    clone(target, prefix)
            else:
                prefix.mkdir()
            if not replaces:
                generations.drop_all(settings, name, folder)
            carried = None
            if replaces:
                from trainenv.environments.relocated import carried_prefix

                carried = carried_prefix(prefix)
            made = Staging(prefix, carried or settings.target_prefix_of(name), descriptor)
            yield made
            share(settings, folder, begun)
            if replaces:
                generations.swap_in(settings, name, folder, is_new_state=made.is_new_state)
                _prune(settings, name)
            else:
                os.rename(prefix, target)
        finally:
            remove_tree(folder)
            os.close(descriptor)
    if settings.max_cache_size is not None:
        from trainenv.environments import cleaning

        cleaning.keep_within(settings, settings.max_cache_size)


_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_full_told(settings: Settings, name: str) -> Iterator[None]:
    """Raise ``DiskFullError`` where the block runs out of space while it changes environment ``name``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place = error.filename or settings.envs_dir
        raise DiskFullError(
            f"no space left for environment {name!r}",
            cause=f"the disk of {place} is full",
            hint="Free some (`trainenv clean` helps), or set envs_dir in trainenv.toml to a larger disk; "
            "nothing was changed",
        ) from None


def discard(settings: Settings, name: str) -> None:
    """Take environment ``name``, locked by the caller, out of sight with one rename and remove it.

    Its generations go first. That works on a full disk as well: who removes something wants room.
    """
    try:
        folder, descriptor = _new_folder(settings, name)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        remove_tree(generations.kept_in(settings, name))
        folder = _staging_dir(settings) / f"{name}-{os.urandom(4).hex()}"
        os.rename(settings.prefix_of(name), folder)
        remove_tree(folder)
        return
    try:
        generations.drop_all(settings, name, folder)
        os.rename(settings.prefix_of(name), folder / "prefix")
    finally:
        remove_tree(folder)
        os.close(descriptor)


def discard_generations(settings: Settings, name: str) -> None:
    """Remove all former states of environment ``name``, locked by the caller."""
    folder, descriptor = _new_folder(settings, name)
    try:
        generations.drop_all(settings, name, folder)
    finally:
        remove_tree(folder)
        os.close(descriptor)


def swap_with_generation(settings: Settings, name: str, kept: Path) -> None:
    """Exchange environment ``name``, locked by the caller, with the generation in folder ``kept``."""
    descriptor = _claim(kept)
    if descriptor is None:
        raise InstallError(f"the generation of {name!r} in {kept} can't be changed", hint="See who owns it")
    try:
        generations.exchange(kept / "prefix", settings.prefix_of(name), kept / "replaced")
        (kept / "lock").unlink(missing_ok=True)
    finally:
        os.close(descriptor)


_RENAMED = Path("conda-meta", "trainenv", "renamed_from.json")


def mark_renamed(prefix: Path, former: Path) -> None:
    """Write into ``prefix`` that it takes the place of the environment at ``former``, which goes next."""
    content = {"name": former.name, "inode": former.stat().st_ino}
    (prefix / _RENAMED).write_text(json.dumps(content), encoding="utf-8")


def unmark_renamed(prefix: Path) -> None:
    (prefix / _RENAMED).unlink(missing_ok=True)


def finish_renames(settings: Settings) -> list[tuple[str, str]]:
    """Remove environments whose renaming was cut off when the new one was there already; returns old and new names."""
    finished = []
    for new in settings.envs_dir.glob("*"):
        file = new / _RENAMED
        if not os.path.exists(file):
            continue
        try:
            content = json.loads(file.read_bytes())
            former = settings.prefix_of(content["name"])
            with locks.exclusive(settings, former.name):
                if former.exists() and former.stat().st_ino == content["inode"]:
                    discard(settings, former.name)
                    finished.append((former.name, new.name))
                unmark_renamed(new)
        except (OSError, ValueError, LookupError, TypeError, TrainenvError):
            continue  # Somebody is at it, or it is another user's.
    return finished


def require(settings: Settings, name: str, *, exists: bool) -> None:
    """Raise unless environment ``name`` is there (``exists``), or its folder is free or empty, with no image for it."""
    target = settings.prefix_of(name)
    if exists:
        if not (target / "conda-meta").is_dir():
            raise EnvironmentNotFoundError(
                f"there is no environment {name!r} in {settings.envs_dir}",
                hint="`trainenv env list` shows what there is",
            )
    elif (
        (is_mounted := mounts.image_folder(target) is not None)
        or target.is_symlink()
        or (target.exists() and (not target.is_dir() or any(target.iterdir())))
    ):
        is_environment = is_mounted or (target / "conda-meta").is_dir()
        raise EnvironmentExistsError(
            f"environment {name!r} exists already" if is_environment else f"{target} exists and is not empty",
            hint=f"Choose another name, or `trainenv env remove {name}` first"
            if is_environment
            else "Choose another name, or move that away",
        )


def sweep(settings: Settings) -> None:
    """Remove what killed processes left in staging, and finish a swap or a renaming that one began."""
    finish_renames(settings)
    staging = _staging_dir(settings)
    if not staging.is_dir():
        return
    claimed: list[tuple[Path, int]] = []
    with _guard(settings):
        for folder in staging.iterdir():
            if folder.is_dir() and (descriptor := _claim(folder)) is not None:
                with suppress(OSError):
                    name = (folder / "target").read_text()
                    generations.restore(settings.envs_dir / name, folder)
                    generations.keep(settings, name, folder)
                claimed.append((folder, descriptor))
        for aside in (settings.envs_dir / locks.STATE_DIR / "generations").glob("*/*/replaced"):
            if (descriptor := _claim(aside.parent)) is not None:
                generations.restore(settings.envs_dir / aside.parent.parent.name, aside.parent)
                os.close(descriptor)
    for folder, descriptor in claimed:
        remove_tree(folder)
        os.close(descriptor)


def clone(source: Path, target: Path) -> None:
    """A copy of ``source`` at ``target`` by hard links.

    What tools rewrite in place (``conda-meta``) is copied, or the original would change as well.
    """
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            destination = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name == "conda-meta":
                    shutil.copytree(entry.path, destination, symlinks=True)
                else:
                    clone(Path(entry.path), destination)
            else:
                _link(entry, destination)
    shutil.copystat(source, target, follow_symlinks=False)


def prefix_to_carry(settings: Settings, name: str, wanted: str | None) -> str:
    """``wanted``, else what ``settings`` say that the files of environment ``name`` carry.

    Raises ``UsageError`` for a ``wanted`` one that none can be.
    """
    if wanted is None:
        wanted = settings.target_prefix_of(name)
        check_prefix(wanted, "Set envs_dir or visible_as in trainenv.toml to another path")
        return wanted
    if not os.path.isabs(wanted) or os.path.normpath(wanted) != wanted:
        raise UsageError(f"{wanted!r} can't be a prefix", hint="Give an absolute path")
    check_prefix(wanted, "Give another --prefix")
    return wanted


def check_prefix(prefix: str, hint: str) -> None:
    """Raise ``UsageError`` for a prefix with characters that no spelling helps, since others read it.

    They stand between colons in PATH, on lines of their own in records, and between double quotes in packages' scripts.
    """
    if found := re.search(r"[\"\\$`:\x00-\x1f\x7f]", prefix):
        raise UsageError(
            f"no environment can live in {prefix!r}",
            cause=f"the path holds {found[0]!r}, which breaks the files and variables that name it",
            hint=hint,
        )
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"no environment can live in {prefix!r}", cause="the path is not UTF-8, in which files name it", hint=hint
        ) from None


def _link(entry: os.DirEntry[str], destination: Path) -> None:
    """Another name for a file; a copy where the kernel allows no more links to it or it is not ours."""
    try:
        os.link(entry.path, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        shutil.copy2(entry.path, destination, follow_symlinks=False)


def remove_tree(folder: Path) -> None:
    """Remove ``folder`` and all in it, also where its folders are read-only; missing is fine."""

    def unlock(function: object, path: str, _: object) -> None:
        with suppress(OSError):
            if not os.path.lexists(path):
                return
            if path != str(folder):
                os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    shutil.rmtree(folder, onerror=unlock)


def _staging_dir(settings: Settings) -> Path:
    return settings.envs_dir / locks.STATE_DIR / "staging"


@contextmanager
def _guard(settings: Settings) -> Iterator[None]:
    """Between making a staging folder and locking it, nobody may sweep."""
    descriptor = open_file(_staging_dir(settings) / ".guard", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _new_folder(settings: Settings, name: str) -> tuple[Path, int]:
    staging = _staging_dir(settings)
    make_folder(staging)
    with _guard(settings):
        folder = staging / f"{name}-{os.urandom(4).hex()}"
        try:
            make_folder(folder)
            (folder / "target").write_text(name)
            descriptor = open_file(folder / "lock", os.O_RDWR)
        except OSError:
            remove_tree(folder)
            raise
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return folder, descriptor


def _claim(folder: Path) -> int | None:
    """The lock of a staging folder that nobody holds any more, else None.

    None as well for a folder that its maker is just removing, and for another user's.
    """
    try:
        descriptor = open_file(folder / "lock", os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _prune(settings: Settings, name: str) -> None:
    """Remove the generations beyond those that the settings allow, the ones put there first."""
    surplus = generations.folders(settings, name)[settings.generations :]
    if not surplus:
        return
    folder, descriptor = _new_folder(settings, name)
    try:
        for kept in surplus:
            os.rename(kept, folder / kept.name)
    finally:
        with still_known(settings.cache_dir, settings.prefix_of(name)):
            remove_tree(folder)
        os.close(descriptor)
