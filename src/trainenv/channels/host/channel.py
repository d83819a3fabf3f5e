"""The channel folder: packages, their records, and the index made from these.

::

    host/linux-64/python-3.11.7-0_host_1a2b3c4d.conda, repodata.json
    host/noarch/pip-23.2.1-py311_host_5e6f7a8b.conda, repodata.json
    host/records/KEY.json         what was made of which interpreter, or why it can't be

Everything appears by rename, in this order: packages, record, index. So whoever is killed in between
leaves at most a package that nothing names, and the next call goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainenv.channels.host.interpreters import Interpreter, find_interpreters
from trainenv.channels.host.probing import FAILURE_KEPT_SECONDS, identity_of
from trainenv.errors import ChannelError, InterpreterError
from trainenv.progress import Reporter

_FORMAT = 1
"""Rises when packages are made in another way, so that those made in the old way are made again."""

_REACH_CHANNEL = (
    "To take Python from a conda channel that this machine reaches, name it in 'channels' of trainenv.toml, "
    "or name a mirror of it under 'mirrors'"
)


@dataclass(frozen=True)
class HostChannel:
    """The channel at ``path`` with at least the package asked for, and all interpreters found."""

    path: Path
    interpreters: list[Interpreter]

    @property
    def url(self) -> str:
        return self.path.as_uri()


def provide(cache_dir: Path, reporter: Reporter, wanted: Callable[[str], bool] | None = None) -> HostChannel:
    """The host channel under ``cache_dir`` with the best interpreter whose version satisfies ``wanted``.

    It is packaged once; a later call finds it by path, size and time of change. Several processes may
    call at once, and each may be killed at any point. Raises ``InterpreterError``, naming what there is
    and why that will not do, if no interpreter satisfies ``wanted`` (any, if None) or can be packaged.
    """
    interpreters = find_interpreters(cache_dir)
    folder = cache_dir / "host"
    suits = wanted or (lambda version: True)
    try:
        subdirs = {"noarch", *(one.layout.subdir for one in interpreters if one.layout)}
        with _locked(folder, subdirs):
            for position, interpreter in enumerate(interpreters):
                if interpreter.unusable is not None or not suits(interpreter.version):
                    continue
                reason = _ensure(folder, interpreter, cache_dir, reporter)
                if reason is None:
                    _write_index(folder, subdirs)
                    return HostChannel(folder, interpreters)
                interpreters[position] = replace(interpreter, unusable=reason)
    except OSError as error:
        raise ChannelError(
            f"the host channel in {folder} can't be written",
            cause=error.strerror or str(error),
            hint="Free space, or set cache_dir in trainenv.toml to another folder",
        ) from None
    raise _nothing_suits(interpreters, suits)


def package_all(
    cache_dir: Path, reporter: Reporter, chosen: Callable[[Interpreter], bool], also: Sequence[Path] = ()
) -> list[Interpreter]:
    """Package every interpreter that is ``chosen``, of this machine's and those in ``also``.

    Returns them; one that can't be packaged has its reason in ``unusable``.
    """
    interpreters = find_interpreters(cache_dir, also)
    folder = cache_dir / "host"
    outcome: list[Interpreter] = []
    subdirs = {"noarch", *(one.layout.subdir for one in interpreters if one.layout)}
    with _locked(folder, subdirs):
        for interpreter in filter(chosen, interpreters):
            reason = interpreter.unusable or _ensure(folder, interpreter, cache_dir, reporter)
            outcome.append(replace(interpreter, unusable=reason))
        _write_index(folder, subdirs)
    return outcome


@contextmanager
def _locked(folder: Path, subdirs: set[str]) -> Iterator[None]:
    """Be the only one at work in ``folder``; what killed processes left there is gone."""
    for name in ("records", *sorted(subdirs)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_leftovers(folder)
        yield


def _ensure(folder: Path, interpreter: Interpreter, cache_dir: Path, reporter: Reporter) -> str | None:
    """Package ``interpreter`` unless that is done. Returns the reason if it can't be, else None."""
    record = folder / "records" / f"{_key(interpreter)}.json"
    known = _read(record)
    if known and "unusable" in known:
        if 0 <= time.time() - known["tried"] < FAILURE_KEPT_SECONDS:
            return str(known["unusable"])
    elif known and "pip" not in known["missing"] and _is_whole(folder, known):
        return None
    # What makes packages is not needed where they are made already.
    from trainenv.channels.host import condafile, package

    with reporter.step(f"package Python {interpreter.version} from {interpreter.executable}") as step:
        made: dict[str, Any] = {
            "interpreter": str(interpreter.executable),
            "identity": identity_of(interpreter.executable),
        }
        try:
            packages, missing = package.packages_of(interpreter, folder, cache_dir, step)
        except InterpreterError as error:
            made |= {"unusable": str(error), "tried": time.time()}
        else:
            step.detail("compression")
            records = {one.file_name: condafile.write(one, folder / one.subdir) for one in packages}
            made |= {"packages": records, "missing": missing}
            for name in missing:
                reporter.notice(f"No place had {name} for Python {interpreter.version}: packaged without it")
    _write(record, made)
    return made.get("unusable")


def _key(interpreter: Interpreter) -> str:
    named = json.dumps([_FORMAT, str(interpreter.executable), identity_of(interpreter.executable)])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _is_whole(folder: Path, record: dict[str, Any]) -> bool:
    return all(
        (folder / entry["subdir"] / name).is_file()
        and (folder / entry["subdir"] / name).stat().st_size == entry["size"]
        for name, entry in record["packages"].items()
    )


def _remove_leftovers(folder: Path) -> None:
    for leftover in (*folder.glob(".building-*"), *folder.glob("*/.building-*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _write_index(folder: Path, subdirs: set[str]) -> None:
    """Write each ``repodata.json`` that does not say what the records say.

    An interpreter that changed or is gone has no place in the index any more; its package stays on
    disk for the locks that name it.
    """
    listed: dict[str, dict[str, Any]] = {subdir: {} for subdir in sorted(subdirs)}
    for path in sorted((folder / "records").glob("*.json")):
        record = _read(path)
        if not record or record["identity"] != identity_of(Path(record["interpreter"])):
            continue
        if "packages" in record and _is_whole(folder, record):
            for name, entry in record["packages"].items():
                listed.setdefault(entry["subdir"], {})[name] = entry
    for subdir, entries in listed.items():
        index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": entries, "repodata_version": 1}
        path = folder / subdir / "repodata.json"
        if _read(path) != index:
            _write(path, index)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".building-{os.getpid()}-{path.name}")
    with open(temporary, "w") as out:
        json.dump(content, out, indent=1, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)


def _nothing_suits(interpreters: list[Interpreter], suits: Callable[[str], bool]) -> InterpreterError:
    usable = list(dict.fromkeys(one.version for one in interpreters if one.unusable is None))
    refused = [
        f"{one} can't be packaged, because {one.unusable}"
        for one in interpreters
        if one.unusable is not None and (not one.version or suits(one.version))
    ]
    causes = [f"there are {', '.join(usable)}" if usable else "there is none that can be packaged", *refused]
    return InterpreterError("this machine has no Python that suits", cause="; ".join(causes), hint=_REACH_CHANNEL)
