"""Long work on a terminal: one bar while it lasts, one line with time and amount when it is over.

Written by hand: a library for terminals takes longer to import than a small environment to create.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from trainenv.printable import printable
from trainenv.progress import Step

Piece = tuple[str, str]
"""A text and its style, a key of ``_STYLES``."""

_STYLES = {
    "": "",
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "bold green": "1;32",
    "yellow": "33",
    "grey": "90",
}

_SHOWN_AFTER = 0.2
"""Seconds that a step must last to be shown while it runs; what is over sooner would only flicker."""

_FRAME_SECONDS = 0.1

_NAME_CELLS, _TIME_CELLS, _OUTCOME_CELLS, _BAR_CELLS, _SHORT_BAR_CELLS = 56, 9, 30, 16, 8
"""Widths in terminal cells. Times stand one below the other, in a log file as well."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class _ShownStep:
    """A running step: what its line says."""

    def __init__(self, name: str, depth: int, total: int | None, unit: str) -> None:
        self.name = name
        self.depth = depth
        self.total = total
        self.unit = unit
        self.done = 0
        self.working_on = ""
        self.outcome = ""
        self._begun = time.monotonic()
        self._counting = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def advance(self, amount: int = 1) -> None:
        with self._counting:
            self.done += amount

    def expect(self, total: int) -> None:
        self.total = total

    def detail(self, text: str) -> None:
        self.working_on = text

    def conclude(self, text: str, **figures: int) -> None:
        self.outcome = text


class TerminalReporter:
    """Shows a bar for a step while it runs, and one line with its time and amount when it is over.

    Where the stream is no terminal there is no bar, only the lines. Steps inside a step are indented
    and come before it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        is_terminal = self._stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        self._has_bars = is_terminal and (self._stream.encoding or "").lower().replace("-", "") == "utf8"
        self._has_colors = (is_terminal or bool(os.environ.get("FORCE_COLOR"))) and not os.environ.get("NO_COLOR")
        self._live: _Live | None = None
        self._running: list[_ShownStep] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        step = _ShownStep(name, len(self._running), total, unit)
        self._running.append(step)
        if self._has_bars and self._live is None:
            self._live = _Live(self._stream, self._frame)
        mark = ("✗", "red")
        try:
            yield step
            mark = ("✓", "green")
        finally:
            self._running.pop()
            if self._live is not None and not self._running:
                self._live.stop()
                self._live = None
            self.print(*self._ended(step, mark))

    def notice(self, text: str) -> None:
        self.print(("  " * len(self._running), ""), ("!", "yellow"), (f" {printable(text)}", ""))

    def print(self, *pieces: Piece) -> None:
        """One line above whatever runs."""
        line = self._styled(pieces) + "\n"
        if self._live is not None:
            self._live.above(self._stream, line)
        else:
            self._stream.write(line)
            self._stream.flush()

    def _ended(self, step: _ShownStep, mark: Piece) -> list[Piece]:
        """``MARK NAME TIME OUTCOME``; a name that is too long pushes the rest to the right."""
        columns = _columns(self._stream)
        cells = _NAME_CELLS
        if self._has_bars:
            cells = max(20, min(cells, columns - _TIME_CELLS - _OUTCOME_CELLS))
        name = f"{'  ' * step.depth}{mark[0]} {step.name}"
        name += " " * (cells - _cells(name))
        lasted = human_time(step.seconds).rjust(_TIME_CELLS)
        outcome = step.outcome or _amount(step.done, None, step.unit)
        if not step.outcome and self._has_bars and _cells(name) + _TIME_CELLS + 2 + len(outcome) > columns:
            outcome = ""
        before, _, after = name.partition(mark[0])
        return [(before, ""), mark, (after, ""), (lasted, "dim"), (f"  {outcome}" if outcome else "", "dim")]

    def _frame(self) -> list[str]:
        """One line for each step that has been running for a while; the outermost that counts has the bar."""
        running = [step for step in tuple(self._running) if step.seconds >= _SHOWN_AFTER]
        if not running:
            return []
        counting = next((step for step in running if step.unit and step.total), running[-1])
        room = _columns(self._stream) - 1
        return [self._styled(_running_line(step, room, with_bar=step is counting)) for step in running]

    def _styled(self, pieces: tuple[Piece, ...] | list[Piece]) -> str:
        if not self._has_colors:
            return "".join(text for text, _ in pieces)
        return "".join(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and style else text for text, style in pieces)


class _Live:
    """Lines at the bottom of a terminal that are drawn again and again, until ``stop``.

    Meanwhile what others print to the same terminal comes above them.
    """

    def __init__(self, stream: TextIO, frame: Callable[[], list[str]]) -> None:
        self._stream = stream
        self._frame = frame
        self._shown: list[str] = []
        self._drawing = threading.RLock()
        self._stopped = threading.Event()
        self._replaced = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        for name, own in self._replaced.items():
            if own is not None and own.isatty():
                setattr(sys, name, _Above(own, self))
        threading.Thread(target=self._run, daemon=True).start()

    def above(self, stream: TextIO, text: str) -> None:
        """Write whole lines of ``text`` to ``stream``."""
        with self._drawing:
            shown = self._shown
            self._erase()
            stream.write(text)
            stream.flush()
            self._draw(shown)

    def stop(self) -> None:
        """Leave the terminal as if nothing had been shown."""
        self._stopped.set()
        for name, own in self._replaced.items():
            if isinstance(above := getattr(sys, name), _Above):
                above.finish()
                setattr(sys, name, own)
        with self._drawing:
            if self._shown:
                self._erase()
                self._stream.write("\x1b[?25h")
                self._stream.flush()

    def _run(self) -> None:
        self._stopped.wait(_SHOWN_AFTER)
        while not self._stopped.is_set():
            with self._drawing, suppress(OSError, ValueError):  # the terminal may go away
                if not self._stopped.is_set() and (lines := self._frame()):
                    self._stream.write("" if self._shown else "\x1b[?25l")
                    self._erase()
                    self._draw(lines)
            self._stopped.wait(_FRAME_SECONDS)

    def _draw(self, lines: list[str]) -> None:
        self._stream.write("\n".join(lines))
        self._stream.flush()
        self._shown = lines

    def _erase(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K" + "\x1b[1A\x1b[2K" * (len(self._shown) - 1))


class _Above:
    """A standard stream while lines are shown below: what is written comes out line by line above them."""

    def __init__(self, stream: TextIO, live: _Live) -> None:
        self._stream = stream
        self._live = live
        self._begun = ""

    def write(self, text: str) -> int:
        lines, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._live.above(self._stream, lines + newline)
        return len(text)

    def flush(self) -> None: ...

    def finish(self) -> None:
        """Write the line that has no end yet."""
        if self._begun:
            self._live.above(self._stream, f"{self._begun}\n")

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _running_line(step: _ShownStep, room: int, *, with_bar: bool) -> list[Piece]:
    """``SPINNER NAME: WHAT TIME BAR AMOUNT``, or what of it has ``room`` cells."""
    lead = f"{'  ' * step.depth}{_SPINNER[int(step.seconds * 10) % len(_SPINNER)]} "
    working_on = f": {step.working_on}" if step.working_on else ""
    lasted = (human_time(step.seconds).rjust(_TIME_CELLS), "dim")
    amount = ("" if step.total is None else f" {_amount(step.done, step.total, step.unit)}".rstrip(), "")
    tails: list[tuple[int, list[Piece]]] = [(24, [lasted]), (0, [])]
    if with_bar:
        long, short = _bar(step, _BAR_CELLS), _bar(step, _SHORT_BAR_CELLS)
        tails = [
            (28, [lasted, *long, amount]),
            (28, [lasted, *short, amount]),
            (16, [*short, amount]),
            (12, [amount]),
            *tails,
        ]
    wanted = _cells(lead + step.name + working_on)
    for least, tail in tails:
        cells = min(_NAME_CELLS, room - sum(_cells(text) for text, _ in tail))
        if cells >= min(least, wanted):
            break
    name = _cut(lead + step.name, cells)
    working_on = _cut(working_on, cells - _cells(name))
    padding = " " * (cells - _cells(name) - _cells(working_on))
    indent = 2 * step.depth
    return [
        (name[:indent], ""),
        (name[indent : indent + 1], "green"),
        (name[indent + 1 :], ""),
        (working_on + padding, "dim"),
        *tail,
    ]


def _bar(step: _ShownStep, cells: int) -> list[Piece]:
    """A bar of so many ``cells``; to and fro where no total is known."""
    if step.total is None:
        filled = cells // 4
        turns = int(step.seconds * 10) % (2 * (cells - filled))
        before = min(turns, 2 * (cells - filled) - turns)
    else:
        before, filled = 0, min(cells, cells * step.done // max(1, step.total))
    rest = cells - before - filled
    return [("  ", ""), ("─" * before, "grey"), ("━" * filled, "green"), ("─" * rest, "grey")]


def _cells(text: str) -> int:
    """How many cells of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _cut(text: str, cells: int) -> str:
    """``text``, with an ellipsis where it takes more than ``cells``."""
    if _cells(text) <= cells:
        return text
    while text and _cells(text) >= cells:
        text = text[:-1]
    return f"{text}…" if cells > 0 else ""


def _columns(stream: TextIO) -> int:
    if (columns := os.environ.get("COLUMNS", "")).isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return shutil.get_terminal_size().columns


def human_time(seconds: float) -> str:
    """Seconds as ``40 ms``, ``1.2 s`` or ``2 min 05 s``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _amount(done: int, total: int | None, unit: str) -> str:
    """``12.3/45.0 MB`` for bytes, ``3/7 packages`` for the rest; nothing where nothing is counted."""
    if not unit or not (done or total):
        return ""
    if unit == "B":
        return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    if total is None:
        return f"{done} {unit.removesuffix('s') if done == 1 else unit}"
    return f"{done}/{total} {unit}"
