"""What of a prefix goes into an archive: all of it, but for what was not wanted and what can't travel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainenv.archives import editable, inventory, links, selection
from trainenv.archives.inventory import Inventory
from trainenv.archives.manifest import LeftOut
from trainenv.archives.selection import Filter
from trainenv.archives.sources import unreadable
from trainenv.environments import left_out
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import Reporter, SilentReporter
from trainenv.settings import Settings


@dataclass(frozen=True)
class Choice:
    """What is to be packed.

    ``strip`` leaves out what the environment runs without, then ``filters`` leave out and bring back
    in their order. ``editable`` says what becomes of projects outside of the prefix, ``dereference``
    packs what links lead to outside of it. ``settings`` are needed to build wheels, and tell what
    folders are this machine's own.
    """

    filters: Sequence[Filter] = ()
    strip: bool = False
    editable: editable.Editable = "refuse"
    dereference: bool = False
    settings: Settings | None = None


@dataclass(frozen=True)
class Contents:
    """The members of an archive-to-be, and what it lacks by wish: for the user, and as its note says it.

    ``note`` is the content of ``left_out.json``, None where nothing that a package brought is missing;
    ``missing`` is how many files it lists.
    """

    found: Inventory
    left_out: LeftOut
    note: bytes | None
    missing: int


def gather(prefix: Path, carried: str, choice: Choice, scratch: Path, reporter: Reporter) -> Contents:
    """What to pack of ``prefix``, whose files carry ``carried``. ``scratch`` is an empty folder.

    Raises ``ArchiveError`` for what can't be packed as it is.
    """
    present = inventory.take(prefix)
    for path in present.special:
        reporter.notice(f"{path} is neither file, link nor folder and is left out")
    for path in present.nested:
        reporter.notice(f"{path} is no part of this environment and is left out")
    try:
        whole = _with_projects(prefix, carried, present, choice, scratch, reporter)
        found = _with_links(prefix, carried, whole, choice.dereference, reporter)
        found, left = selection.select(prefix, found, choice.filters, choice.strip, reporter.notice)
    except OSError as error:
        raise ArchiveError(
            f"{prefix} can't be packed", cause=f"{error.filename or scratch}: {error.strerror or error}"
        ) from None
    missing = selection.recorded(whole, found)
    note = left_out.document(missing) if missing else None
    found = replace(found, listed_by={})  # As long as the list of files, and nobody asks for it any more.
    return Contents(found, left, note, sum(map(len, missing.values())))


def present(prefix: Path, carried: str) -> Contents:
    """What of ``prefix``, whose files carry ``carried``, is there, without asking whether it can travel."""
    try:
        found = _with_links(prefix, carried, inventory.take(prefix), dereference=False, reporter=SilentReporter())
    except OSError as error:
        raise unreadable(error.filename, error) from None
    return Contents(found, LeftOut(), None, 0)


def _with_projects(
    prefix: Path, carried: str, found: Inventory, choice: Choice, scratch: Path, reporter: Reporter
) -> Inventory:
    projects = editable.projects(prefix, found)
    if not projects:
        return found
    if choice.editable == "include":
        return editable.included(prefix, carried, found, projects, scratch, reporter)
    if choice.editable == "wheel":
        if choice.settings is None:
            raise UsageError("wheels can only be built in a workspace")
        with reporter.step("build wheels"):
            return editable.as_wheels(prefix, carried, found, projects, scratch, choice.settings)
    raise editable.refused(prefix, projects)


def _with_links(prefix: Path, carried: str, found: Inventory, dereference: bool, reporter: Reporter) -> Inventory:
    """``found`` without links that lead out, or with what they lead to in their place."""
    root = os.fspath(prefix)
    given = {path: os.readlink(f"{root}/{path}") for path in found.links if path not in found.targets}
    told = links.sorted_out(root, carried, given)
    found = replace(found, targets={**found.targets, **told.targets})
    if not told.outward:
        return found
    files, folders, places = set(found.files), set(found.folders), dict(found.places)
    for path, target in told.outward.items():
        files.discard(path)
        real = os.path.realpath(f"{root}/{path}")
        if dereference and prefix.is_relative_to(real):
            raise ArchiveError(
                f"{prefix} can't be packed",
                cause=f"the link {path} leads to {target}, which the environment itself lies in",
                hint="Remove the link",
            )
        members = list(links.contents(path, real)) if dereference else []
        if not members:
            why = "" if os.path.exists(real) else ", where nothing is"
            hint = "" if dereference or why else "; --dereference packs what is there"
            reporter.notice(f"the link {path} leads out of the environment, to {target}{why}, and is left out{hint}")
        for member, place, is_folder in members:
            if is_folder:
                folders.add(member)
            else:
                files.add(member)
                places[member] = place
    kept_links = found.links - told.outward.keys()
    found = replace(found, links=kept_links, places=places)
    return found.with_files(files, folders)
