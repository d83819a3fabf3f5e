"""What each way to a remote file offers, and what it says when the way is broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from trainenv.errors import ArchiveError

ANOTHER_FOLDER = "Name another folder in the address"


class Transport(Protocol):
    """One file elsewhere.

    ``name`` is for messages. ``size`` is in bytes, ``None`` where nobody says. ``identity`` changes with the
    content (an ETag, a time), and is empty where nothing does. ``ranged`` says whether any part can be had
    without all that is before it, ``lanes`` how many at once are of use.
    """

    name: str
    size: int | None
    identity: str
    ranged: bool
    lanes: int

    def blocks(self, start: int, length: int | None) -> Iterator[bytes]:
        """The ``length`` bytes (``None``: all) from ``start`` on, as they come.

        Raises ``Interrupted`` where the way broke off or the other side is busy: what has come is right, and
        the rest may be asked for again. Raises ``ArchiveError`` where that is of no use. Other threads may
        ask at the same time.
        """

    def close(self) -> None:
        """Hang up."""


class Interrupted(Exception):  # noqa: N818 - nothing is wrong yet.
    """It did not come to an end, and may when it is tried again, after ``wait`` seconds if that is given."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def changed(name: str) -> ArchiveError:
    """The error for a file that became another while it was read."""
    return ArchiveError(
        f"{name} was changed while it was read", cause="it is another file there now", hint="Run the same again"
    )
