"""Taking changes back: the states of an environment that can be had, and going to one of them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainenv import locks
from trainenv.environments import generations, staging
from trainenv.environments.diff import Change, compare
from trainenv.environments.environment import own
from trainenv.environments.records import packages, read_note
from trainenv.errors import EnvironmentNotFoundError
from trainenv.settings import Settings


@dataclass(frozen=True)
class Generation:
    """One state of an environment: 1 as it was made, then one more with each change.

    ``prefix`` is where the state lies now, ``present`` the prefix of the environment as it is.
    """

    number: int
    prefix: Path
    present: Path

    @property
    def is_present(self) -> bool:
        return self.prefix == self.present

    @property
    def changed(self) -> str:
        """When the state came to be, in UTC as ISO 8601."""
        if noted := read_note(self.prefix, generations.NOTE).get("changed"):
            return str(noted)
        seconds = (self.prefix / "conda-meta").stat().st_mtime
        return f"{datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"

    @cached_property
    def changes(self) -> list[Change]:
        """What would change in the environment if it went to this state."""
        return [] if self.is_present else compare(packages(self.present), packages(self.prefix))

    def to_json(self) -> dict[str, Any]:
        """One entry of ``env generations --json``."""
        return {
            "number": self.number,
            "changed": self.changed,
            "present": self.is_present,
            "changes": [change.to_json() for change in self.changes],
        }


def list_generations(settings: Settings, name: str) -> list[Generation]:
    """The present state of environment ``name`` and the kept ones, newest first.

    Raises ``EnvironmentNotFoundError``.
    """
    present = own(settings, name).prefix
    prefixes = [present, *(folder / "prefix" for folder in generations.folders(settings, name))]
    found = [Generation(generations.number_of(prefix), prefix, present) for prefix in prefixes]
    return sorted(found, key=lambda item: item.number, reverse=True)


def rollback(settings: Settings, name: str, to: int | None = None, if_busy: locks.IfBusy = locks.REFUSE) -> None:
    """Exchange environment ``name`` with its state ``to``, by default the one it was in before.

    The present state is kept in its place, so a second rollback goes forward again. Raises
    ``EnvironmentNotFoundError`` where there is no such state, ``EnvironmentBusyError`` while the
    environment is in use.
    """
    own(settings, name)
    with staging.disk_full_told(settings, name), locks.exclusive(settings, name, if_busy):
        staging.sweep(settings)
        staging.require(settings, name, exists=True)
        kept = {generations.number_of(folder / "prefix"): folder for folder in generations.folders(settings, name)}
        if not kept:
            raise EnvironmentNotFoundError(
                f"there is no former state of environment {name!r}",
                cause=f"generations = {settings.generations} in {settings.file} keeps none"
                if not settings.generations
                else "it was not changed since it was made",
            )
        if to is not None and to not in kept:
            raise EnvironmentNotFoundError(
                f"environment {name!r} is in state {to} already"
                if to == generations.number_of(settings.prefix_of(name))
                else f"there is no state {to} of environment {name!r}",
                hint=f"Kept are: {', '.join(map(str, sorted(kept)))}; see `trainenv env generations {name}`",
            )
        staging.swap_with_generation(settings, name, kept[to] if to is not None else next(iter(kept.values())))
