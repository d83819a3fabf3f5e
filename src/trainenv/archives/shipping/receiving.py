"""The far side of ``push``: ``trainenv receive``, which ``ssh`` starts and which unpacks what the near side offers.

It reads the archive through the connection as ``pull`` reads one from a server: only what is needed here, and what
came before a connection was lost stays in the cache for the next one.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

from trainenv.archives import machine
from trainenv.archives.holding import contents_of
from trainenv.archives.shipping import kept
from trainenv.archives.shipping.ahead import RemoteSource
from trainenv.archives.shipping.asking import Asking
from trainenv.archives.shipping.transport import ANOTHER_FOLDER, Interrupted, changed
from trainenv.archives.shipping.wire import (
    DONE,
    ERROR,
    GET,
    HELLO,
    OFFER,
    ORDER,
    PART_END,
    PROTOCOL,
    READY,
    Lines,
    StandardStreams,
    Stream,
    message,
    values_of,
)
from trainenv.archives.unpacking import Unpacked, unpack_environment
from trainenv.environments import environment, registry, staging
from trainenv.environments.verify import Verification, verify
from trainenv.errors import ArchiveError, EnvironmentExistsError, TrainenvError, TransferError, UsageError
from trainenv.progress import JsonLinesReporter, Reporter
from trainenv.settings import FILE_NAME, Settings, checked_name, load

_MOST_ALIKE = 4
"""Environments whose files are looked at: hashing those for the first time takes a second for each gigabyte."""


def receive() -> int:
    """Talk on standard input and output until the environment is there, or is not; returns the exit code."""
    stream = StandardStreams()
    stream.write(f"{HELLO}{PROTOCOL} {importlib.metadata.version('trainenv')}\n".encode())
    try:
        done = _received(stream)
    except TrainenvError as error:
        said = {"message": error.message, "cause": error.cause, "hint": error.hint, "exit_code": error.exit_code}
        with suppress(Interrupted):
            stream.write(message(ERROR, said))
        return error.exit_code
    except Interrupted:
        return 1
    with suppress(Interrupted):
        stream.write(message(DONE, done))
    return 0


def place_for(path: str) -> Settings:
    """The settings under which something is put into ``path``: those of the workspace there, if it is one.

    Any other folder is where environments lie; none at all means the user's own workspace. ``path`` may be relative to
    the home folder.
    """
    if not path:
        return load()
    folder = _folder(path)
    if os.path.isfile(folder / FILE_NAME):
        return load(folder)
    return replace(load(), envs_dir=folder, visible_as=None)


def _received(stream: StandardStreams) -> dict[str, Any]:
    order = values_of(stream.line(ORDER))
    name = checked_name(str(order.get("name")), "environment")
    path, prefix, replaces = str(order.get("path", "")), order.get("prefix"), bool(order.get("replaces"))
    settings = place_for(path)
    _require_place(settings, name, replaces=replaces)
    reporter = JsonLinesReporter(cast(TextIO, Lines(stream)))
    here = _contents(settings, order.get("packages"), reporter)
    stream.write(message(READY, {"size": len(here)}) + here)
    offer = values_of(stream.line(OFFER))
    sent = _SentFile(stream, int(offer["size"]), str(offer["identity"]), settings.read_timeout)
    with (
        kept.keep(settings.cache_dir, f"push {name}", sent.identity) as stored,
        reporter.step(f"send {name}", unit="B") as step,
    ):
        source = RemoteSource(sent, step, stored)
        try:
            unpacked = unpack_environment(
                settings,
                source,
                name=name,
                prefix=None if prefix is None else str(prefix),
                replaces=replaces,
                reporter=reporter,
            )
        finally:
            source.close()
    target = settings.prefix_of(name)
    registry.register(target)
    return {"prefix": str(target), "command": _command(settings, name, path), **_proof(settings, unpacked, reporter)}


def _contents(settings: Settings, packages: object, reporter: Reporter) -> bytes:
    """What the environments here that have most of ``packages`` hold, as ``machine`` writes it."""
    wanted = set(map(str, packages)) if isinstance(packages, list) else set()
    found = []
    for each in [*environment.list_all(settings), *environment.list_foreign(settings)]:
        with suppress(TrainenvError):
            shared = wanted & {f"{package.name} {package.version}" for package in each.packages}
            found.append((len(shared), str(each.prefix), each))
    alike = [each for count, _, each in sorted(found, key=lambda one: (-one[0], one[1])) if count][:_MOST_ALIKE]
    return machine.side_to_bytes(contents_of(settings, alike, reporter))


def _command(settings: Settings, name: str, path: str) -> str:
    """How to start something in it."""
    if not path:
        return f"trainenv run -n {name} python"
    if settings.file.is_file() and settings.root == _folder(path):
        return f"trainenv --workspace {shlex.quote(str(settings.root))} run -n {name} python"
    return f"trainenv run -p {shlex.quote(str(settings.prefix_of(name)))} python"


def _folder(path: str) -> Path:
    return Path(os.path.realpath(Path("~").expanduser() / path))


def _proof(settings: Settings, unpacked: Unpacked, reporter: Reporter) -> dict[str, Any]:
    """What ``env verify`` finds in what is new here: the rest has proven itself when it came."""
    found: Verification = verify(environment.get(settings, unpacked.name), reporter, proven=unpacked.proven)
    return {"verified": found.ok, "files": found.files, "problems": found.problems}


def _require_place(settings: Settings, name: str, *, replaces: bool) -> None:
    """Say what stands against it before anything is packed and sent."""
    if settings.require_signature:
        raise UsageError(
            "it takes only what is signed",
            cause=f"require_signature in {settings.file}",
            hint="Use `trainenv pack --sign`, and `trainenv unpack` there",
        )
    staging.check_prefix(str(settings.prefix_of(name)), ANOTHER_FOLDER)
    folder = settings.envs_dir
    while not os.path.lexists(folder):
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        cause = "permission denied" if folder.is_dir() else f"{folder} is no folder"
        raise ArchiveError(f"{settings.envs_dir} can't be written", cause=cause, hint=ANOTHER_FOLDER)
    try:
        staging.require(settings, name, exists=replaces)
    except EnvironmentExistsError as error:
        raise EnvironmentExistsError(
            error.message,
            cause=error.cause,
            hint="Give --replace to put this one in its place, or another name with --as",
        ) from None


class _SentFile:
    """The archive that the near side offers, as a ``Transport``. A connection that breaks off is not made anew here."""

    name = "what was sent"
    ranged = True
    lanes = 3

    def __init__(self, stream: Stream, size: int, identity: str, seconds: float) -> None:
        self.size: int | None = size
        self.identity = identity
        self._asking = Asking(stream, PART_END, seconds)

    def blocks(self, start: int, length: int | None) -> Iterator[bytes]:
        try:
            assert length is not None
            number = self._asking.ask(f"{GET}{start} {length}\n")
            yield from self._asking.answer(number, 0, length)
        except Interrupted as error:
            raise TransferError("the connection broke off", cause=str(error)) from None
        if self._asking.state != self.identity:
            raise changed(self.name)

    def close(self) -> None:
        self._asking.end()
