"""Trying again: how often, after how long, and when to give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from trainenv.archives.shipping.transport import Interrupted
from trainenv.errors import TransferError
from trainenv.progress import Step

T = TypeVar("T")

_TRIES = 6
"""How often in a row nothing may come before it is given up."""

_FIRST_TRIES = 4
"""The same before anything has come at all: then the address is probably wrong."""

FIRST_WAIT = 0.5
"""Seconds before the second try; each later one waits twice as long."""
_LONGEST_WAIT = 8.0


class Patience:
    """Counts the tries at ``name`` that brought nothing, and waits between them, until ``stopped`` is set.

    ``step`` shows why it waits.
    """

    def __init__(
        self, name: str, step: Step | None = None, stopped: threading.Event | None = None, tries: int = _TRIES
    ) -> None:
        self._name = name
        self._step = step
        self._stopped = stopped or threading.Event()
        self._tries = tries
        self._failures = 0

    def came(self) -> None:
        """Something came: the count begins anew."""
        if self._failures and self._step:
            self._step.detail("")
        self._failures = 0

    def interrupted(self, error: Interrupted, so_far: str = "") -> None:
        """Wait before the next try; raises ``TransferError`` if there have been enough of them.

        ``so_far`` says from where the next command would go on.
        """
        self._failures += 1
        if self._failures >= self._tries:
            raise TransferError(
                f"{self._name} can't be reached any more" if so_far else f"{self._name} can't be reached",
                cause=str(error),
                hint=f"Run the same again: it goes on from {so_far}" if so_far else "See whether it is there",
            ) from None
        if self._step:
            self._step.detail(f"{error}, trying again")
        wait = min(FIRST_WAIT * 2 ** (self._failures - 1), _LONGEST_WAIT)
        self._stopped.wait(max(wait, error.wait or 0.0))


def persistently(act: Callable[[], T], name: str) -> T:
    """What ``act`` gives, tried again a few times while it raises ``Interrupted``."""
    patience = Patience(name, tries=_FIRST_TRIES)
    while True:
        try:
            return act()
        except Interrupted as error:
            patience.interrupted(error)
