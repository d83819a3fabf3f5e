"""``push`` to a place that keeps archives: a folder, a web server that takes PUT, whatever fsspec knows.

An archive is at its address whole or not at all, as far as the place allows, and its size and end are read back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainenv.archives.manifest import Archive
from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.patience import persistently
from trainenv.archives.shipping.pulling import connected
from trainenv.archives.shipping.transport import Interrupted
from trainenv.channels.access import Access
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter, Step
from trainenv.settings import Settings

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_END = 1 << 16
_STORES = frozenset(("memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"))
"""File systems in which a file appears when all of it is there, and in which renaming means copying."""


def target_of(place: Address, file_name: str) -> Address:
    """``place``, or the file ``file_name`` in it if it is a folder."""
    if place.kind == "file" and Path(place.path).is_dir() and not place.text.endswith("/"):
        place = replace(place, text=f"{place.text}/", name=f"{place.name}/", path=f"{place.path}/")
    if not place.text.partition("?")[0].endswith("/"):
        return place
    path = place.path if place.path.endswith("/") else f"{place.path}/"
    return replace(place.with_suffix(file_name), path=f"{path}{file_name}")


def put(settings: Settings, target: Address, archive: Archive, reporter: Reporter, *, replaces: bool) -> str:
    """Bring the file of ``archive`` to ``target``; returns its public address.

    Raises ``ArchiveError``, also for one that is there already, unless it ``replaces`` that.
    """
    with reporter.step(f"send {target.file_name}", total=archive.bytes, unit="B") as step:
        if target.kind == "file":
            _copy(archive.path, Path(target.path), step, replaces=replaces)
            return target.name
        if target.kind == "http":
            persistently(lambda: _put_http(settings, target, archive.path, step, replaces), target.name)
        else:
            persistently(lambda: _put_other(target, archive.path, step, replaces), target.name)
    with reporter.step("compare it there"):
        persistently(lambda: _compare(settings, target, archive.path), target.name)
    return target.name


def _copy(archive: Path, target: Path, step: Step, *, replaces: bool) -> None:
    beside = target.with_name(f".{target.name}.part")
    if target.exists() and not replaces:
        raise _taken(str(target))
    try:
        with archive.open("rb") as source, beside.open("wb") as out:
            while block := source.read(1 << 20):
                out.write(block)
                step.advance(len(block))
        os.replace(beside, target)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise ArchiveError(
            f"{target} can't be written",
            cause=error.strerror or str(error),
            hint="Name a folder that is there and yours",
        ) from None


def _put_http(settings: Settings, target: Address, archive: Path, step: Step, replaces: bool) -> None:
    from urllib3 import exceptions

    from trainenv.channels.connections import Connections

    access = Access.of(settings, [target.text])
    if access.offline:
        raise ArchiveError(f"{target.name} can't be reached", cause="trainenv is offline")
    with closing(Connections(access, 1)) as connections:
        try:
            # This asks also for a login, if one is needed, before anything is sent.
            there = connections.get(target.name, {"Range": "bytes=0-0"})
            there.close()
            if there.status in (200, 206) and not replaces:
                raise _taken(target.name)
            answer = connections.put(target.name, archive.stat().st_size, lambda: _Counted(archive.open("rb"), step))
        except exceptions.HTTPError as error:
            raise Interrupted(access.public(str(error))) from None
        except OSError as error:
            raise Interrupted(error.strerror or str(error)) from None
        answer.close()
        _check(answer, target.name)


def _check(answer: BaseHTTPResponse, name: str) -> None:
    if 200 <= answer.status < 300:
        return
    reason = f"HTTP status {answer.status} {answer.reason or ''}".strip()
    if answer.status in (408, 429, 500, 502, 503, 504):
        raise Interrupted(reason)
    hint = {
        401: "Give a login in netrc, in [credentials] of trainenv.toml or in the address",
        403: "See who may write there",
        404: "See whether the folder is there",
        405: "This server takes no files by PUT",
        409: "See whether the folder is there",
    }.get(answer.status, "")
    raise ArchiveError(f"{name} can't be written", cause=reason, hint=hint)


def _put_other(target: Address, archive: Path, step: Step, replaces: bool) -> None:
    from fsspec.callbacks import Callback

    from trainenv.archives.shipping.other import file_system, guarded

    class Shown(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            step.advance(inc)

    system, path = file_system(target)
    if not replaces and guarded(lambda: system.exists(path), target.name):
        raise _taken(target.name)
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    folder, slash, name = path.rpartition("/")
    beside = path if protocol in _STORES else f"{folder}{slash}.{name}.part"
    try:
        guarded(lambda: system.put_file(os.fspath(archive), beside, callback=Shown()), target.name)
        if beside != path:
            guarded(lambda: system.mv(beside, path), target.name)
    except (Interrupted, ArchiveError):
        with suppress(Exception):  # It is gone, or can't be removed either.
            if beside != path:
                system.rm(beside)
        raise


def _compare(settings: Settings, target: Address, archive: Path) -> None:
    size = archive.stat().st_size
    with closing(connected(settings, target)) as there, archive.open("rb") as here:
        length = min(size, _END)
        here.seek(size - length)
        is_same = there.size in (None, size) and (
            not there.ranged or b"".join(there.blocks(size - length, length)) == here.read()
        )
        if not is_same:
            raise ArchiveError(f"{target.name} is not what was sent", hint="Push it again with --replace")


def _taken(name: str) -> ArchiveError:
    return ArchiveError(f"{name} exists already", hint="Give --replace, or choose another name")


class _Counted:
    """``file`` for who sends it: what is read of it is counted on ``step``."""

    def __init__(self, file: IO[bytes], step: Step) -> None:
        self._file = file
        self._step = step
        self.close: Callable[[], Any] = file.close

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._step.advance(len(block))
        return block
