"""Environments that are not unpacked but mounted: a squashfs image, and over it the few files that hold the prefix.

``envs_dir/.trainenv/mounts/NAME`` holds what belongs to such an environment: ``mount.json`` (which image, how to know
it again), ``relocated`` (the files over the image) and ``image`` (where it is mounted). The environment's own folder is
where both are laid over each other, for reading only. With the folder goes ``[mounts]`` in ``trainenv.toml``.

Whether it is mounted at the moment is of no account: whoever uses it calls ``ensure`` before, so it comes back after
the machine was started anew, or when whatever served it was killed. Standard library only, and as little of it as
can be: this is on the way of ``trainenv run``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainenv import locks, sharing
from trainenv.errors import MountError

_NOTE = "mount.json"
_PIECE = 4 << 20
_OPTIONS = "ro,nosuid,nodev"
_IN_CONTAINERS = ("/run/.containerenv", "/.dockerenv")
_FUSE_SETTINGS = "/etc/fuse.conf"
_OF_IMAGE = Path("conda-meta", "trainenv", "relocation.json")
"""Every image has it, and it never lies over one: who sees it sees the image."""


@dataclass(frozen=True)
class Mount:
    """A mounted image. ``body`` are the bytes that are the image proper, ``digest`` is that of its pieces.

    ``size`` and ``mtime_ns`` are the file's: while they are the same it is believed to be the same file.
    """

    image: str
    size: int
    mtime_ns: int
    body: int
    digest: str
    python: str | None = None
    bytes: int = 0
    packages: int = 0


def folder_of(prefix: Path) -> Path:
    """Where what belongs to the environment at ``prefix`` lies, if that is a mounted one."""
    return prefix.parent / locks.STATE_DIR / "mounts" / prefix.name


def mount_of(prefix: Path) -> Mount | None:
    """What is mounted at ``prefix``, now or when it is used; None for other environments."""
    if not _is_noted(prefix):
        return None
    import json

    try:
        return Mount(**json.loads((folder_of(prefix) / _NOTE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def image_folder(prefix: Path) -> Path | None:
    """Where the image of a mounted environment is as it was packed; None for other environments."""
    return folder_of(prefix) / "image" if _is_noted(prefix) else None


def is_mounted(prefix: Path) -> bool:
    """Whether the environment at ``prefix`` is there at the moment, with who serves it alive."""
    if not os.path.ismount(prefix):
        return False
    try:
        for place in (prefix, folder_of(prefix) / "image"):
            os.statvfs(place)  # Unlike a stat it is answered by whoever serves the mount.
    except OSError:
        return False
    return os.path.exists(prefix / _OF_IMAGE)


def bury(prefix: Path) -> None:
    """Unmount what nobody serves any more, so that nobody stumbles over it."""
    if _is_noted(prefix) and not is_mounted(prefix):
        with suppress(MountError):
            for place in (prefix, folder_of(prefix) / "image"):
                _detach(place)


def ensure(prefix: Path) -> None:
    """Mount the environment at ``prefix`` if it is one to be mounted and is not. Raises ``MountError``."""
    if not _is_noted(prefix) or is_mounted(prefix):
        return
    if os.geteuid() != 0 and _is_of_another(prefix):
        raise MountError(
            f"environment {prefix.name!r} can't be used",
            cause="another user has mounted it, and what serves it is for that user alone",
            hint="Where a group shares the workspace, a line `user_allow_other` in /etc/fuse.conf makes it for all",
        )
    with _locked(prefix) as lock:
        if is_mounted(prefix):
            return
        mount = mount_of(prefix)
        if mount is None:
            raise MountError(
                f"environment {prefix.name!r} can't be mounted",
                cause=f"{folder_of(prefix) / _NOTE} can't be read",
                hint=f"Remove it (`trainenv env remove {prefix.name}`) and mount its image again",
            )
        folder = folder_of(prefix)
        _check_image(prefix, mount)
        for place in (prefix, folder / "image"):
            _detach(place)
            sharing.make_folder(place)
        _attach_image(mount.image, folder / "image", lock)
        try:
            _attach_overlay(folder, prefix, lock)
        except MountError:
            _detach(folder / "image")
            raise


def note(prefix: Path, mount: Mount) -> None:
    """From now on the environment at ``prefix`` is ``mount``, whose relocated files lie in ``folder_of``."""
    import json

    beside = folder_of(prefix) / f"{_NOTE}.new"
    beside.write_text(json.dumps(asdict(mount)) + "\n")
    beside.rename(folder_of(prefix) / _NOTE)


def release(prefix: Path) -> None:
    """Unmount the environment at ``prefix``, whoever still reads there keeps what he has open, and forget it."""
    from trainenv.environments.staging import remove_tree

    folder = folder_of(prefix)
    for place in (prefix, folder / "image"):
        _detach(place)
    (folder / _NOTE).unlink(missing_ok=True)
    with suppress(OSError):
        prefix.rmdir()
    if folder.is_dir():
        remove_tree(folder)


def refused(prefix: Path, mount: Mount) -> MountError:
    """The error for who wants to change a mounted environment."""
    return MountError(
        f"environment {prefix.name!r} can't be changed",
        cause=f"it is mounted from {mount.image}, for reading only",
        hint=f"Make a copy that can: trainenv env clone {prefix.name} -n NEW",
    )


def _is_noted(prefix: Path) -> bool:
    return os.path.exists(folder_of(prefix) / _NOTE)


def _is_of_another(prefix: Path) -> bool:
    """Whether a program in user space serves the environment at ``prefix`` to another user alone."""
    try:
        for place in (prefix, folder_of(prefix) / "image"):
            os.lstat(place)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _for_whom(place: Path) -> str:
    """What lets others see what is mounted in user space at ``place``, where a group shares it and they may."""
    try:
        with open(_FUSE_SETTINGS, encoding="utf-8") as file:
            may = any(line.strip() == "user_allow_other" for line in file)
    except OSError:
        may = False
    shared = sharing.group_of(place.parent) is not None
    return ",allow_other,default_permissions" if shared and (may or os.geteuid() == 0) else ""


@contextmanager
def _locked(prefix: Path) -> Iterator[int]:
    """One process at a time mounts the environment at ``prefix``.

    What is started to mount inherits the descriptor: it may still be at work when its starter was killed.
    """
    import fcntl

    descriptor = os.open(folder_of(prefix), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_image(prefix: Path, mount: Mount) -> None:
    """The file must be the one that was checked; where its time differs its content tells."""
    try:
        status = os.stat(mount.image)
    except OSError as error:
        raise MountError(
            f"environment {prefix.name!r} can't be mounted",
            cause=f"its image {mount.image}: {error.strerror}",
            hint=f"Put it back there, or remove the environment: trainenv env remove {prefix.name}",
        ) from None
    if (status.st_size, status.st_mtime_ns) == (mount.size, mount.mtime_ns):
        return
    if status.st_size != mount.size or _digest(mount) != mount.digest:
        raise MountError(
            f"environment {prefix.name!r} can't be mounted",
            cause=f"{mount.image} is not the image any more that it was mounted from",
            hint=f"Put that back, or `trainenv env remove {prefix.name}` and mount this one",
        )
    note(prefix, Mount(**{**asdict(mount), "mtime_ns": status.st_mtime_ns}))


def _digest(mount: Mount) -> str:
    import hashlib

    joined = hashlib.sha256()
    with open(mount.image, "rb", buffering=0) as file:
        left = mount.body
        while left and (piece := file.read(min(_PIECE, left))):
            joined.update(hashlib.sha256(piece).digest())
            left -= len(piece)
    return joined.hexdigest()


def _attach_image(image: str, place: Path, lock: int) -> None:
    program = next((name for name in ("squashfuse_ll", "squashfuse") if _which(name)), None)
    fuse = [] if program is None else [[program, "-o", _OPTIONS + _for_whom(place), image, str(place)]]
    _try(
        f"{image} can't be mounted",
        [["mount", "-t", "squashfs", "-o", f"loop,{_OPTIONS}", image, str(place)]] if os.geteuid() == 0 else [],
        fuse,
        "squashfuse",
        lock,
    )


def _attach_overlay(folder: Path, place: Path, lock: int) -> None:
    """Lay what is ``relocated`` in ``folder`` over the ``image`` there. Seen from there no name needs an escape."""
    layers = "lowerdir=relocated:image"
    _try(
        f"nothing can be mounted at {place}",
        [["mount", "-t", "overlay", "-o", f"{_OPTIONS},{layers}", "overlay", str(place)]] if os.geteuid() == 0 else [],
        [["fuse-overlayfs", "-o", f"ro,{layers}{_for_whom(place)}", str(place)]] if _which("fuse-overlayfs") else [],
        "fuse-overlayfs",
        lock,
        folder,
    )


def _try(
    message: str, kernel: list[list[str]], fuse: list[list[str]], package: str, lock: int, folder: Path | None = None
) -> None:
    """The kernel mounts for root; else, and where it refuses, as in many containers, a program in user space does.

    ``folder`` is where they are started.
    """
    said = []
    for command in [*kernel, *fuse]:
        code, output = _run(command, [lock] if command in kernel else [], folder)
        if code == 0:
            return
        said.append(f"{command[0]}: {output or f'exit code {code}'}")
    if not fuse:
        said.append(f"there is no program {package}")
    ways = [] if fuse else [f"Install the package {package}"]
    is_refused = any(word in line for line in said for word in ("not permitted", "denied", "device not found"))
    if fuse and is_refused and any(map(os.path.exists, _IN_CONTAINERS)):
        ways.append("Start the container with --device /dev/fuse --cap-add SYS_ADMIN")
    hint = f"{ways[0]}, or unpack it without --mount" if ways else "Unpack it without --mount"
    raise MountError(message, cause="; ".join(said), hint=hint)


def _run(command: Sequence[str], inherited: Sequence[int] = (), folder: Path | None = None) -> tuple[int, str]:
    """Exit code and last line of what was said. What serves a mount lives on, so it must take nothing along."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder or "/",
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            pass_fds=inherited,
            check=False,
        )
        output.seek(0)
        lines = output.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip() and "dmesg" not in line]
    return done.returncode, said[-1] if said else ""


def _detach(place: Path) -> None:
    """Unmount whatever is mounted at ``place``, also if it is still used or nobody serves it any more."""
    ways = [["umount", str(place)], ["fusermount3", "-u", str(place)], ["fusermount", "-u", str(place)]]
    ways += [["umount", "-l", str(place)], ["fusermount3", "-uz", str(place)], ["fusermount", "-uz", str(place)]]
    while os.fspath(place) in _mount_points():
        said = ""
        for command in ways:
            if not _which(command[0]):
                continue
            code, said = _run(command)
            if code == 0:
                break
        else:
            raise MountError(f"{place} can't be unmounted", cause=said, hint="See who mounted it, and who uses it")


def _mount_points() -> set[str]:
    """All mount points, which the kernel writes with octal numbers for blanks and the like."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [line.split(b" ")[4] for line in file]
    return {os.fsdecode(point.decode("unicode_escape").encode("latin-1")) for point in points}


def _which(name: str) -> bool:
    import shutil

    return shutil.which(name) is not None
