"""An environment of this machine to another one, or to a place that keeps archives."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainenv.archives.delta import OtherSide
from trainenv.archives.formats import chosen
from trainenv.archives.manifest import Archive
from trainenv.archives.shipping import kept, putting
from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.bare import BarePush, activation_command
from trainenv.archives.shipping.offering import START, Offer, begins
from trainenv.archives.shipping.patience import Patience
from trainenv.archives.shipping.shell import Shell
from trainenv.archives.shipping.transport import Interrupted
from trainenv.environments.environment import Environment
from trainenv.environments.verify import verify
from trainenv.errors import UsageError
from trainenv.progress import Reporter
from trainenv.settings import Settings

WITHOUT = "none"
"""In place of the path of a trainenv: do without one."""

Pack = Callable[[Path, OtherSide | None], Archive]
"""Packs what of the environment another side lacks into a new file, in the format that this is named after."""


@dataclass(frozen=True)
class Pushed:
    """What came of it. ``place`` is the folder of the environment, or the address of the archive.

    ``sent`` is in bytes. ``files`` have been held against their sha256 there; ``problems`` are what ``env verify``
    finds there and not here. ``next_command`` is what to type, ``on`` the machine where,
    which is empty for a place that has no host.
    """

    name: str
    on: str
    place: str
    sent: int
    files: int
    next_command: str
    with_trainenv: bool = False
    problems: list[str] = field(default_factory=list)
    is_archive: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Wish:
    """What is asked of ``push``: the name there, and the prefix under which yet another machine or container sees it.

    ``replaces`` puts it in the place of the environment of that name. ``trainenv`` is the program there, by default
    looked for; ``WITHOUT`` does without it.
    """

    name: str
    prefix: str | None = None
    replaces: bool = False
    trainenv: str | None = None


def push(
    settings: Settings, environment: Environment, place: Address, wish: Wish, pack: Pack, reporter: Reporter
) -> Pushed:
    """Bring ``environment`` to ``place``: as one to another machine, as an archive to any other place.

    Connections that break off are made again, and go on. Raises ``ArchiveError``.
    """
    name, trainenv = wish.name, wish.trainenv
    with kept.keep(settings.cache_dir, f"push {name} to {place.name}", "archive") as stored:
        packed: dict[str, Archive] = {}

        def packing(format: str, there: OtherSide | None = None) -> Archive:
            if format not in packed:
                file = stored.files / f"{name}.{format}"
                file.unlink(missing_ok=True)
                packed[format] = pack(file, there if there and there.contents else None)
            return packed[format]

        if place.kind != "ssh":
            return _put(settings, place, wish, packing, reporter)
        token = hashlib.sha256(f"{platform.node()} {stored.folder}".encode()).hexdigest()[:12]
        order = {
            "name": name,
            "path": place.path,
            "prefix": wish.prefix,
            "replaces": wish.replaces,
            "packages": [f"{package.name} {package.version}" for package in environment.packages],
        }
        offer = Offer(order, lambda there: packing("tar.zst", there), reporter)
        bare = BarePush(place, name, wish.prefix, token, packing, reporter)
        patience = Patience(place.name)
        while True:
            before = offer.sent + bare.sent
            try:
                done = None if trainenv == WITHOUT else _offered(place, trainenv, offer)
                if done is not None:
                    return _told_by_trainenv(environment, place, name, offer.sent, done, reporter)
                if wish.replaces:
                    raise UsageError(
                        f"nothing can be replaced on {place.host}",
                        cause="there is no trainenv, which would do it in one step",
                        hint="Name trainenv's program there with --trainenv, or remove the environment there first",
                    )
                if trainenv != WITHOUT:
                    reporter.notice(f"there is no trainenv on {place.host}: its own tar and shell will do")
                    trainenv = WITHOUT
                target, files = bare.run()
                return Pushed(name, place.host, target, bare.sent, files, activation_command(target))
            except Interrupted as error:
                if offer.sent + bare.sent > before:
                    patience.came()
                reporter.notice(f"{place.host}: {error}, trying again")
                patience.interrupted(error, "where that happened" if offer.sent + bare.sent else "")


def _put(
    settings: Settings, place: Address, wish: Wish, packing: Callable[[str], Archive], reporter: Reporter
) -> Pushed:
    if wish.prefix or wish.trainenv:
        raise UsageError("--visible-as and --trainenv are for other machines", hint="An archive has no prefix yet")
    target = putting.target_of(place, f"{wish.name}.tar.zst")
    archive = packing(chosen(Path(target.file_name)).ending.removeprefix("."))
    address = putting.put(settings, target, archive, reporter, replaces=wish.replaces)
    return Pushed(
        archive.name, place.host, address, archive.bytes, 0, f"trainenv pull {shlex.quote(address)}", is_archive=True
    )


def _offered(place: Address, trainenv: str | None, offer: Offer) -> dict[str, Any] | None:
    """What a trainenv there says in the end; None without any."""
    shell = Shell(place, START, (trainenv or "",))
    try:
        return offer.run(shell) if begins(shell) else None
    finally:
        with suppress(OSError):
            shell.close()


def _told_by_trainenv(
    environment: Environment, place: Address, name: str, sent: int, done: dict[str, Any], reporter: Reporter
) -> Pushed:
    problems = [str(line) for line in done.get("problems", [])]
    if problems:
        here = set(verify(environment, reporter).problems)
        problems = [line for line in problems if line not in here]
    files, command = int(done.get("files", 0)), str(done.get("command", ""))
    return Pushed(name, place.host, str(done.get("prefix", "")), sent, files, command, True, problems)
