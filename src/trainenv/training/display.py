"""A task's log as a terminal would show it: what a progress bar draws a thousand times is one line.

The log itself holds every byte as it was written. On a terminal these bytes are best shown as
they are; everywhere else (files, pipes, web pages) each redrawing would be a line of its own.
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

_CONTROL = re.compile(r"\r\n|[\r\n\b]|\x1b\[([0-9;?]*)([A-Za-z])")
_CUT_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]{0,20})?\Z")
_RUNNING = re.compile(r"\d%|\d/\d|it/s|s/it")
_OVERWRITES = re.compile(r"[\r\b\x1b]")
_LONGEST_ROW = 64 * 1024
_ROWS = 50
"""How far up a cursor can go: bars within bars take a few rows."""
_LIVE_SECONDS = 10.0


@dataclass
class _Row:
    """``text`` is what is seen, ``raw`` the same with its colours until something is overwritten."""

    text: str = ""
    raw: str = ""
    redrawn: bool = False
    given: str | None = None
    given_at: float = 0.0

    @property
    def shown(self) -> str:
        return self.text.rstrip() if self.redrawn else self.raw


class Screen:
    """Takes what a task writes by ``feed`` and gives the lines that are to be shown.

    Otherwise than a terminal it has no width. By default a line is given once nothing can change it
    any more. With ``live`` it is given when it ends, and a line that is redrawn for long every ten seconds, so
    some come more than once.
    """

    def __init__(self, *, live: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._clock = clock
        self._rows = [_Row(given_at=clock())]
        self._at = 0
        self._column = 0
        self._rest = ""

    def feed(self, text: str) -> str:
        """The lines to be shown next, with their ends."""
        out: list[str] = []
        text = self._rest + text
        cut = _CUT_CONTROL.search(text)
        self._rest = cut[0] if cut else ""
        text = text[: len(text) - len(self._rest)]
        if not _OVERWRITES.search(text):
            text = self._pass_plain(text, out)
        place = 0
        for match in _CONTROL.finditer(text):
            self._write(text[place : match.start()], out)
            self._control(match, out)
            place = match.end()
        self._write(text[place:], out)
        row = self._rows[self._at]
        if self._live and row.redrawn and self._due(row):
            self._give(row, out)
        return "".join(out)

    def finish(self) -> str:
        """The lines that are left once all is written."""
        out: list[str] = []
        *rows, last = self._rows
        for row in rows:
            self._give(row, out)
        if last.shown and last.given != last.shown:
            out.append(last.shown)
        return "".join(out)

    def _pass_plain(self, text: str, out: list[str]) -> str:
        """Pass on what plain lines come before the last few; returns those."""
        lines = text.split("\n")
        if len(lines) <= _ROWS + 1 or self._at < len(self._rows) - 1:
            return text
        self._write(lines[0], out)
        for row in self._rows:
            self._give(row, out)
        many = lines[1:-_ROWS]
        out += ["\n".join(many), "\n"]
        self._rows, self._at, self._column = [_Row(given_at=self._clock())], 0, 0
        return "\n".join(lines[-_ROWS:])

    def _write(self, text: str, out: list[str]) -> None:
        if not text:
            return
        row = self._rows[self._at]
        end = self._column + len(text)
        if self._column < len(row.text):
            row.redrawn = True
        row.text = f"{row.text[: self._column]:{self._column}}{text}{row.text[end:]}"
        row.raw = row.text if row.redrawn else row.raw + text
        self._column = end
        if len(row.text) > _LONGEST_ROW:
            for before in self._rows[: self._at]:
                self._give(before, out)
            out.append(row.raw)
            self._rows, self._at, self._column = [_Row(given_at=self._clock())], 0, 0

    def _control(self, match: re.Match[str], out: list[str]) -> None:
        what = match[0]
        if what in ("\n", "\r\n"):
            self._next_row(out)
        elif what == "\r":
            self._column = 0
        elif what == "\b":
            self._column = max(0, self._column - 1)
        elif match[2] == "m":
            if not self._rows[self._at].redrawn:
                self._rows[self._at].raw += what
        else:
            self._move(match[2], int(match[1]) if match[1].isdigit() else None)

    def _move(self, letter: str, number: int | None) -> None:
        row = self._rows[self._at]
        if letter == "A":
            self._at = max(0, self._at - (number or 1))
        elif letter == "B":
            self._at = min(len(self._rows) - 1, self._at + (number or 1))
        elif letter == "K" and number in (None, 0, 2):
            row.redrawn = row.redrawn or self._column < len(row.text)
            row.text = row.text[: self._column] if number != 2 else ""
        elif letter == "D":
            self._column = max(0, self._column - (number or 1))
        elif letter == "G":
            self._column = max(0, (number or 1) - 1)

    def _next_row(self, out: list[str]) -> None:
        row = self._rows[self._at]
        last = self._at == len(self._rows) - 1
        # Of bars within bars the outer one's line ends each time that the inner one is drawn.
        if self._live and (last or row.given is None or self._due(row) or not _RUNNING.search(row.text)):
            self._give(row, out)
        self._column = 0
        self._at += 1
        if not last:
            return
        self._rows.append(_Row(given_at=self._clock()))
        if len(self._rows) > _ROWS:
            self._give(self._rows.pop(0), out)
            self._at -= 1

    def _due(self, row: _Row) -> bool:
        return self._clock() - row.given_at >= _LIVE_SECONDS

    def _give(self, row: _Row, out: list[str]) -> None:
        if row.given != row.shown and (row.shown or not row.redrawn):
            out.append(f"{row.shown}\n")
            row.given, row.given_at = row.shown, self._clock()


def shown(pieces: Iterable[bytes], *, live: bool = False) -> Iterator[str]:
    """What a task wrote, in whatever pieces it comes, in lines as they are to be shown (see ``Screen``)."""
    screen = Screen(live=live)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        if text := screen.feed(decoder.decode(piece)):
            yield text
    yield screen.feed(decoder.decode(b"", final=True)) + screen.finish()
