"""Mend an environment: what ``verify`` finds is put back from cache or channel, in one transaction."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainenv import locks, relocation
from trainenv.channels.access import Access
from trainenv.environments import environment, left_out
from trainenv.environments.contents import CONDA, NOTES, PYPI, Damage, Inspection, inspect
from trainenv.environments.copies import keep_records_true, placeholder_lengths
from trainenv.environments.lock import write_lock
from trainenv.environments.mending import Mending, make_executable
from trainenv.environments.mending_conda import CondaMender
from trainenv.environments.mending_pypi import PypiMender
from trainenv.environments.ownership import forget_needs
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    NOTES_DIR,
    conda_records,
    pypi_distributions,
    read_note,
    write_note,
)
from trainenv.environments.relocated import carried_prefix, recorded, write_carried_prefix
from trainenv.environments.staging import staged
from trainenv.environments.verify import forbidden_prefixes, problems_of
from trainenv.progress import Reporter
from trainenv.settings import Settings


@dataclass
class Repair:
    """What ``repair`` did: lines on what was ``mended``, and on what could not be, with the reason."""

    mended: list[str] = field(default_factory=list)
    unmended: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.unmended

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "mended": self.mended, "unmended": self.unmended}


class _NothingMendedError(Exception):
    """Leaves the environment untouched: no change, no generation."""


def repair(
    settings: Settings,
    name: str,
    reporter: Reporter,
    *,
    relocate: bool = False,
    if_busy: locks.IfBusy = locks.REFUSE,
) -> Repair:
    """Put back what of environment ``name`` is not as recorded; whole or not at all, as any change.

    With ``relocate`` the files get the prefix of the folder that the environment is in, for when
    somebody moved it by hand. Raises ``EnvironmentNotFoundError`` and ``EnvironmentBusyError``.
    """
    prefix = environment.own(settings, name).prefix
    banned = forbidden_prefixes(prefix)
    result = Repair()
    carried = carried_prefix(prefix)
    moves = relocate and carried not in (None, settings.target_prefix_of(name))
    if not moves and not problems_of(_inspect(prefix, banned, reporter)):
        return result
    try:
        with staged(settings, name, replaces=True, if_busy=if_busy) as made:
            staging = made
            before = _inspect(staging.path, banned, reporter)
            if moves and carried is not None:
                target = settings.target_prefix_of(name)
                _relocate(staging.path, carried, target, reporter)
                staging = replace(made, target_prefix=target)
                result.mended.append(f"the files carry the prefix {target} now, instead of {carried}")
            reasons = _mend(Mending(settings, staging, prefix, Access.of(settings), reporter), before, banned)
            after = _inspect(staging.path, banned, reporter)
            left = set(problems_of(after))
            result.mended += [line for line in problems_of(before) if line not in left]
            result.unmended = [_with_reason(item, reasons) for item in after.damage]
            result.unmended += [f"{path} holds the prefix {held}" for path, held in after.leftovers]
            if not result.mended:
                raise _NothingMendedError
    except _NothingMendedError:
        pass
    return result


def _inspect(prefix: Path, banned: list[str], reporter: Reporter) -> Inspection:
    with reporter.step("check files", unit="files") as step:
        return inspect(prefix, banned=banned, step=step)


def _with_reason(damage: Damage, reasons: dict[str, str]) -> str:
    reason = reasons.get(damage.owner)
    return f"{damage}: {reason}" if reason else str(damage)


def _mend(mending: Mending, found: Inspection, banned: list[str]) -> dict[str, str]:
    """Mend what was ``found``; returns by package why it can't be."""
    prefix, target = mending.prefix, mending.staging.target_prefix
    CondaMender(mending).mend([item for item in found.damage if item.kind == CONDA])
    replaced = PypiMender(mending).mend([item for item in found.damage if item.kind == PYPI])
    if replaced:
        note = read_note(prefix, ENVIRONMENT_NOTE)
        write_note(prefix, ENVIRONMENT_NOTE, {**note, "replaced": {**note.get("replaced", {}), **replaced}})
    forget_needs(prefix, read_note(prefix, ENVIRONMENT_NOTE).get("replaced", {}))
    for path, held in found.leftovers:
        if held in banned:
            moved = relocation.relocate_tree(prefix, held, target, paths=[path])
            keep_records_true(prefix, moved, target)
    for path in left_out.paths(prefix, conda_records(prefix), pypi_distributions(prefix)) - {*found.present}:
        (prefix / path).unlink(missing_ok=True)  # A package comes whole, its archive did not.
    _mend_notes(mending, [item for item in found.damage if item.kind == NOTES])
    return mending.reasons


def _relocate(prefix: Path, carried: str, target: str, reporter: Reporter) -> None:
    lengths = placeholder_lengths(prefix)
    known = recorded(prefix, carried)
    moved = relocation.relocate_tree(
        prefix, carried, target, placeholder_lengths=lengths, recorded=known, reporter=reporter
    )
    keep_records_true(prefix, moved, target)
    write_carried_prefix(prefix, target)


def _mend_notes(mending: Mending, damage: list[Damage]) -> None:
    """What belongs to no package: the environment's history and lock, and programs of its user."""
    prefix = mending.prefix
    for item in damage:
        file = prefix / item.path
        if item.path == "conda-meta/history":
            file.touch()
            os.utime(file, (0, 0))
        elif item.path == f"{NOTES_DIR}/pixi.lock":
            write_lock(prefix, [])
        elif item.path.startswith("bin/"):
            make_executable(file)
