"""How long work reports itself: one protocol, and reporters that show it.

Work opens a step, moves it forward, and says notices; who watches decides how that looks::

    with reporter.step("pack tabular_env", total=size, unit="B") as step:
        step.advance(len(block))
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text


class Step(Protocol):
    """One piece of work in progress. ``unit`` is ``"B"`` for bytes, else a plural noun."""

    def advance(self, amount: int = 1) -> None:
        """Move forward by ``amount`` units. Safe to call from any thread."""

    def expect(self, total: int) -> None:
        """Say how many units the whole step has, once that is known."""

    def detail(self, text: str) -> None:
        """Say what is being worked on now, in a few words."""


class Reporter(Protocol):
    """Who is told about long work."""

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        """Open a step; leaving the block ends it, by an exception as failed."""

    def notice(self, text: str) -> None:
        """Tell the user one thing worth knowing, in one line."""


class _NullStep:
    def advance(self, amount: int = 1) -> None: ...

    def expect(self, total: int) -> None: ...

    def detail(self, text: str) -> None: ...


class SilentReporter:
    """Shows nothing; keeps the notices in ``notices`` for who asks."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        yield _NullStep()

    def notice(self, text: str) -> None:
        self.notices.append(text)


class _JsonStep:
    """Writes its state at most ten times a second."""

    def __init__(self, out: JsonLinesReporter, name: str, total: int | None, unit: str) -> None:
        self._out, self._name, self._total, self._unit = out, name, total, unit
        self._done = 0
        self._written = time.monotonic()
        self._counting = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._counting:
            self._done += amount
            now = time.monotonic()
            if now - self._written < 0.1:
                return
            self._written = now
        self.write("progress")

    def expect(self, total: int) -> None:
        self._total = total

    def detail(self, text: str) -> None:
        self._out.write({"event": "detail", "step": self._name, "text": text})

    def write(self, event: str, **more: object) -> None:
        self._out.write(
            {"event": event, "step": self._name, "done": self._done, "total": self._total, "unit": self._unit} | more
        )


class JsonLinesReporter:
    """Writes one JSON object a line, by default to standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._writing = threading.Lock()

    def write(self, event: dict[str, object]) -> None:
        with self._writing:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        step = _JsonStep(self, name, total, unit)
        begun = time.monotonic()
        step.write("start")
        try:
            yield step
        except BaseException:
            step.write("failed", seconds=round(time.monotonic() - begun, 3))
            raise
        step.write("done", seconds=round(time.monotonic() - begun, 3))

    def notice(self, text: str) -> None:
        self.write({"event": "notice", "text": text})


class _ShownStep:
    """A running step of a ``RichReporter``: what its line says."""

    def __init__(self, name: str, depth: int, total: int | None, unit: str) -> None:
        self.name = name
        self.depth = depth
        self.total = total
        self.unit = unit
        self.done = 0
        self.working_on = ""
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


_SHOWN_AFTER = 0.2
"""Seconds that a step must last to be shown while it runs; what is over sooner would only flicker."""

_NAME_CELLS, _TIME_CELLS, _BAR_CELLS = 56, 9, 16
"""Widths in terminal cells. Times stand one below the other, in a log file as well."""


class RichReporter:
    """Shows a bar for a step while it runs, and one line with its time and amount when it is over.

    Where the stream is no terminal there is no bar, only the lines. Steps inside a step are indented
    and come before it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        stream = stream or sys.stderr
        self.console = Console(file=stream, highlight=False)
        plain = self.console.is_dumb_terminal or self.console.options.ascii_only
        self._has_bars = stream.isatty() and not plain
        self._live: Live | None = None
        self._running: list[_ShownStep] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        if self._has_bars and self._live is None:
            self._live = self._started_live()
        step = _ShownStep(name, len(self._running), total, unit)
        self._running.append(step)
        mark = ("✗", "red")
        try:
            yield step
            mark = ("✓", "green")
        finally:
            self._running.pop()
            if self._live is not None and not self._running:
                self._live.stop()
                self._live = None
            self.console.print(self._line(step, mark), soft_wrap=True)

    def notice(self, text: str) -> None:
        from rich.text import Text

        self.console.print(Text.assemble("  " * len(self._running), ("!", "yellow"), f" {text}"), soft_wrap=True)

    def _started_live(self) -> Live:
        from rich.live import Live

        live = Live(
            get_renderable=self._live_lines,
            console=self.console,
            transient=True,
            refresh_per_second=10,
            redirect_stdout=sys.stdout.isatty(),  # what is piped on must not land here
        )
        live.start()
        return live

    def _live_lines(self) -> Text:
        """One line for each step that has been running for a while; a bar for the innermost of them."""
        from rich.text import Text

        running = [step for step in tuple(self._running) if step.seconds >= _SHOWN_AFTER]
        lines = []
        for step in running:
            line = self._line(step, (_SPINNER[int(step.seconds * 10) % len(_SPINNER)], "green"))
            if step is running[-1]:
                line.append_text(_bar(step, self.console.width - line.cell_len - 2))
            line.truncate(self.console.width - 1)
            lines.append(line)
        return Text("\n", no_wrap=True).join(lines)

    def _line(self, step: _ShownStep, mark: tuple[str, str]) -> Text:
        """``MARK NAME TIME`` and, when the step is over, its amount.

        A name that is too long is cut while the step runs, and pushes the time to the right in the end.
        """
        from rich.text import Text

        runs = step in self._running
        named = Text.assemble("  " * step.depth, mark, f" {step.name}")
        if runs and step.working_on:
            named.append(f": {step.working_on}", "dim")
        cells = _NAME_CELLS
        if self._has_bars:
            cells = max(20, min(cells, self.console.width - _TIME_CELLS - _BAR_CELLS - 3))
        if runs or named.cell_len < cells:
            named.truncate(cells, overflow="ellipsis", pad=True)
        named.append(human_time(step.seconds).rjust(_TIME_CELLS), "dim")
        amount = "" if runs else _amount(step.done, None, step.unit)
        if amount and not (self._has_bars and named.cell_len + 2 + len(amount) > self.console.width):
            named.append(f"  {amount}", "dim")
        return named


_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def _bar(step: _ShownStep, room: int) -> Text:
    """A bar with the amount beside it, or what of them has room; to and fro where no total is known."""
    from rich.text import Text

    if room < _BAR_CELLS:
        return Text()
    if step.total is None:
        turns = int(step.seconds * 10) % (2 * (_BAR_CELLS - 4))
        before = min(turns, 2 * (_BAR_CELLS - 4) - turns)
        filled = 4
    else:
        before, filled = 0, min(_BAR_CELLS, _BAR_CELLS * step.done // max(1, step.total))
    rest = _BAR_CELLS - before - filled
    bar = Text.assemble("  ", ("─" * before, "bright_black"), ("━" * filled, "green"), ("─" * rest, "bright_black"))
    amount = "" if step.total is None else _amount(step.done, step.total, step.unit)
    if amount and len(amount) + 1 <= room - _BAR_CELLS:
        bar.append(f" {amount}")
    return bar


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
