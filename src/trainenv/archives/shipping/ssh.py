"""A file on a machine that ``ssh`` reaches, in parts; that machine needs no more than a shell and ``dd``."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.asking import Asking
from trainenv.archives.shipping.shell import Shell
from trainenv.archives.shipping.transport import changed
from trainenv.errors import ArchiveError

_UNIT = 1 << 16
_MARK = "trainenv-file "

_SERVE = (
    "f=$1; "
    'say() { echo "trainenv-file $(stat -Lc "%s %Y %i" "$f" 2>/dev/null)"; }; '
    'if [ ! -e "$f" ]; then echo "trainenv-file none"; exit; fi; '
    'if [ ! -f "$f" ]; then echo "trainenv-file folder"; exit; fi; '
    'if [ ! -r "$f" ]; then echo "trainenv-file unreadable"; exit; fi; '
    "say; "
    "while read -r skip count bytes; do "
    f'{{ dd if="$f" bs={_UNIT} skip=$skip count=$count; cat /dev/zero; }} 2>/dev/null | head -c $bytes; say; '
    "done"
)
"""Answers each line (first unit, number of units, bytes) with just as many bytes and a line on the file's state.

What a file that became shorter lacks is made up with zeros, so that the answer ends where it should.
"""

_REFUSALS = {
    "none": ("there is no such file", "See whether the path is right"),
    "folder": ("it is a folder", "Name the archive in it"),
    "unreadable": ("permission denied", "See who may read it there"),
}


class SshFile:
    """The file at ``place``. Requests go out without waiting for the answers to those before them."""

    ranged = True
    lanes = 3

    def __init__(self, place: Address, read_timeout: float) -> None:
        self.name = place.name
        self._place = place
        self._seconds = read_timeout
        self._guard = threading.Lock()
        self._asking: Asking | None = None
        self._state = ""
        self._current()
        self.identity = self._state
        self.size: int | None = int(self._state.split()[0])

    def blocks(self, start: int, length: int | None) -> Iterator[bytes]:
        assert self.size is not None
        length = self.size - start if length is None else length
        drop = start % _UNIT
        units = (drop + length + _UNIT - 1) // _UNIT
        with self._guard:
            asking = self._current()
            ticket = asking.ask(f"{start // _UNIT} {units} {drop + length}\n")
        yield from asking.answer(ticket, drop, length)
        if asking.state != self._state:
            raise changed(self.name)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.end()

    def _current(self) -> Asking:
        """The connection, made anew if it is broken."""
        if self._asking is None or self._asking.broken:
            # A path that is relative, or begins with a dash, must not be taken for an option.
            path = self._place.path if self._place.path.startswith("/") else f"./{self._place.path}"
            shell = Shell(self._place, _SERVE, (path,))
            try:
                state = shell.line(_MARK)
            except BaseException:
                shell.close()
                raise
            if state in _REFUSALS or not state.split():
                shell.close()
                cause, hint = _REFUSALS.get(state, ("it can't be looked at", ""))
                raise ArchiveError(f"{self.name} can't be fetched", cause=cause, hint=hint)
            if self._state and state != self._state:
                shell.close()
                raise changed(self.name)
            self._state = state
            self._asking = Asking(shell, _MARK, self._seconds)
        return self._asking
