"""An archive of another program becomes an environment: whole and proven, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from trainenv.archives import inventory
from trainenv.archives.foreign import conda_pack, pixi_pack
from trainenv.archives.foreign.extraction import Extraction, members_in
from trainenv.archives.foreign.platforms import machine_of
from trainenv.archives.foreign.recognise import PIXI_PACK, Kind
from trainenv.archives.host_needs import NeedsCollector
from trainenv.archives.hosts import require_host
from trainenv.archives.manifest import HostNeeds, Manifest
from trainenv.archives.members import Files
from trainenv.environments.environment import Environment
from trainenv.environments.staging import prefix_to_carry, staged
from trainenv.environments.verify import verify
from trainenv.errors import ArchiveError, UsageError, VerificationError
from trainenv.progress import Reporter
from trainenv.relocation import needs
from trainenv.settings import Settings, checked_name

_SUFFIX = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst|zip|squashfs|sqfs|sqsh|parcel|sh)\Z", re.IGNORECASE)
_TOLD = 5
"""How many of a kind of finding are told one by one."""


def unpack_foreign(
    settings: Settings,
    archive: Path,
    kind: Kind,
    *,
    name: str | None = None,
    prefix: str | None = None,
    confirm: Callable[[], None] = lambda: None,
    reporter: Reporter,
) -> str:
    """Make environment ``name`` (default: as the file is called) of ``archive``; returns its name.

    See ``unpack_environment`` for ``prefix`` and ``confirm``. Raises ``ArchiveError`` for an archive that is damaged,
    hostile or not for this machine, ``RelocationError`` for a prefix that a binary has no room for.
    """
    name = checked_name(name, "environment") if name else _name_of(archive)
    if kind.packer == PIXI_PACK:
        if prefix is not None and prefix != settings.target_prefix_of(name):
            raise UsageError(
                f"{archive} can't be given another prefix",
                cause="pixi-pack's archives hold packages, and an environment is made of them here",
                hint="Set visible_as in trainenv.toml, or unpack it and `trainenv pack --prefix`",
            )
        pixi_pack.build_from(settings, archive, kind, name, confirm, reporter)
        return name
    target_prefix = prefix_to_carry(settings, name, prefix)
    with staged(settings, name) as staging:
        beside = staging.path.with_name("unpacked")
        beside.mkdir()
        extraction = Extraction(archive, beside)
        with members_in(archive, kind, reporter, folder=beside) as (members, limits):
            extraction.write_all(members, limits)
        confirm()
        root = extraction.root()
        old = conda_pack.old_prefixes(beside / root)
        extraction.finish(root, old)
        staging.path.rmdir()
        (beside / root).rename(staging.path)
        try:
            manifest = _manifest(staging.path, name)
            require_host(str(archive), manifest, staging.path, reporter, new_bytes=0, target_prefix=target_prefix)
        except VerificationError as error:
            raise ArchiveError(f"{archive} is refused", cause=error.message, hint="Nothing was unpacked") from None
        conda_pack.move(staging.path, target_prefix, old, reporter)
        _prove(archive, Environment(name, staging.path), old, reporter)
    return name


def _name_of(archive: Path) -> str:
    """The file's own name without its endings, as conda-pack names archives after environments."""
    stem = archive.name
    while (shorter := _SUFFIX.sub("", stem)) != stem:
        stem = shorter
    try:
        return checked_name(stem, "environment")
    except UsageError:
        raise UsageError(
            f"the environment in {archive} needs another name than {stem!r}", hint="Give one with -n NAME"
        ) from None


def _manifest(prefix: Path, name: str) -> Manifest:
    """What stands in ``prefix``, in the words of trainenv's own archives, but for the list of files."""
    found = inventory.take(prefix)
    collected = NeedsCollector()
    for path in found.files:
        if path not in found.links:
            collected.add(path, needs(prefix / path))
    host_needs = collected.host_needs(found.files, found.packages, found.virtual_packages)
    if host_needs.machine is None:
        host_needs = HostNeeds(machine_of(found.platform))
    return Manifest(name, found.platform, found.python, "conda-pack", found.packages, host_needs, Files())


def _prove(archive: Path, environment: Environment, old: list[str], reporter: Reporter) -> None:
    """The interpreter must start; what else does not hold is told, as it may have been so where it was packed."""
    found = verify(environment, reporter, old_prefixes=old, imports=False)
    fatal = [line for line in found.problems if line.startswith(("bin/python does not", "bin/python believes"))]
    if fatal:
        raise ArchiveError(f"{archive} gives no environment that works", cause=fatal[0], hint="Nothing was unpacked")
    for line in found.problems[:_TOLD]:
        reporter.notice(line)
    if len(found.problems) > _TOLD:
        reporter.notice(
            f"{len(found.problems) - _TOLD} more findings: `trainenv env verify -n {environment.name}` lists them"
        )
