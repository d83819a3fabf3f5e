"""The near side of ``push`` to a machine that has trainenv: it offers, and the other side takes what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any

from trainenv.archives import machine
from trainenv.archives.delta import OtherSide
from trainenv.archives.hashing import sha256_of
from trainenv.archives.manifest import Archive
from trainenv.archives.shipping.relay import Relay
from trainenv.archives.shipping.shell import Shell
from trainenv.archives.shipping.transport import Interrupted
from trainenv.archives.shipping.wire import (
    DONE,
    ERROR,
    EVENT,
    GET,
    HELLO,
    OFFER,
    ORDER,
    PART_END,
    PROTOCOL,
    READY,
    exactly,
    message,
    values_of,
)
from trainenv.archives.sources import LocalFile
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter

START = (
    'if [ -n "$1" ] && ! command -v "$1" >/dev/null 2>&1; then echo "trainenv-missing"; exit; fi; '
    'for c in "$1" trainenv "$HOME/.local/bin/trainenv"; do '
    'if [ -n "$c" ] && command -v "$c" >/dev/null 2>&1; then exec "$c" receive; fi; done; '
    'c=$(${SHELL:-/bin/sh} -lc "command -v trainenv" </dev/null 2>/dev/null | tail -n 1); '
    'if [ -n "$c" ] && [ -x "$c" ]; then exec "$c" receive; fi; '
    'echo "trainenv-none"'
)
"""Becomes ``trainenv receive``, if there is one: ``$1``, on PATH, where pip puts it, or on PATH of a login shell."""


def begins(shell: Shell) -> bool:
    """Whether a trainenv that speaks our protocol answers on ``shell``; False without any.

    Raises ``ArchiveError`` for one that does not, and ``Interrupted``.
    """
    try:
        line = shell.line("trainenv-")
    except ArchiveError as error:
        if "receive" in error.cause:
            raise _other_version(shell, "it knows no `receive`") from None
        if shell.ended_by_itself:
            raise ArchiveError(
                f"trainenv on {shell.place.host} does not answer",
                cause=error.cause,
                hint="See there whether it works, name another with --trainenv, or do without: `--trainenv none`",
            ) from None
        raise
    if line == "none":
        return False
    if line == "missing":
        raise ArchiveError(f"{shell.place.name} has no such trainenv", hint="--trainenv names the program there")
    spoken, _, version = line.removeprefix(HELLO.removeprefix("trainenv-")).partition(" ")
    if spoken != str(PROTOCOL):
        raise _other_version(shell, f"trainenv {version} there speaks protocol {spoken}, this one {PROTOCOL}")
    return True


class Offer:
    """One archive, offered on one connection after the other until the other side has what it needs.

    ``sent`` counts the bytes that went.
    """

    def __init__(
        self, order: Mapping[str, Any], pack: Callable[[OtherSide | None], Archive], reporter: Reporter
    ) -> None:
        self._order = order
        self._pack = pack
        self._reporter = reporter
        self._identity = ""
        self.sent = 0

    def run(self, shell: Shell) -> dict[str, Any]:
        """What the other side says when the environment is there. Raises what it raised, and ``Interrupted``."""
        where = shell.place.host
        relay = Relay(self._reporter, where)
        try:
            shell.write(message(ORDER, self._order))
            return self._served(shell, relay)
        except (Interrupted, ArchiveError):
            self._raise_last_words(shell)
            raise
        finally:
            relay.close()

    def _served(self, shell: Shell, relay: Relay) -> dict[str, Any]:
        while not (line := shell.line()).startswith(READY):
            if line.startswith(EVENT):
                relay.event(values_of(line))
            _raise_error(line, shell)
        there = exactly(shell, int(values_of(line.removeprefix(READY)).get("size", 0)))
        archive = self._pack(machine.from_bytes(there)).path
        with closing(LocalFile(archive)) as source:
            self._identity = self._identity or sha256_of(archive)
            shell.write(message(OFFER, {"size": source.size, "identity": self._identity}))
            while True:
                line = shell.line()
                if line.startswith(GET):
                    start, length = map(int, line.removeprefix(GET).split())
                    shell.write(source.read(start, length))
                    shell.write(f"{PART_END}{self._identity}\n".encode())
                    self.sent += length
                elif line.startswith(EVENT):
                    relay.event(values_of(line))
                elif line.startswith(DONE):
                    return values_of(line.removeprefix(DONE))
                else:
                    _raise_error(line, shell)

    def _raise_last_words(self, shell: Shell) -> None:
        """Raise the error that the other side sent before it went away, if it did."""
        with suppress(Interrupted, ValueError):
            while True:
                try:
                    line = shell.line(ERROR, 1)
                except ArchiveError:
                    return
                _raise_error(ERROR + line, shell)


def _raise_error(line: str, shell: Shell) -> None:
    if line.startswith(ERROR):
        said = values_of(line.removeprefix(ERROR))
        raise RefusedError(
            f"{shell.place.host}: {said.get('message', '')}",
            cause=str(said.get("cause", "")),
            hint=str(said.get("hint", "")),
        )


class RefusedError(ArchiveError):
    """The other side said no, in its own words."""


def _other_version(shell: Shell, cause: str) -> ArchiveError:
    hint = "Update the older one; `--trainenv none` does without the one there"
    return ArchiveError(f"trainenv on {shell.place.host} can't receive from this one", cause=cause, hint=hint)
