"""How long work reports itself: one protocol, and reporters that show it.

Work opens a step, moves it forward, and says notices; who watches decides how that looks::

    with reporter.step("pack tabular_env", total=size, unit="B") as step:
        step.advance(len(block))

What a terminal or a log file shows is in ``terminal``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from trainenv.printable import printable


class Step(Protocol):
    """One piece of work in progress. ``unit`` is ``"B"`` for bytes, else a plural noun."""

    def advance(self, amount: int = 1) -> None:
        """Move forward by ``amount`` units. Safe to call from any thread."""

    def expect(self, total: int) -> None:
        """Say how many units the whole step has, once that is known."""

    def detail(self, text: str) -> None:
        """Say what is being worked on now, in a few words."""

    def conclude(self, text: str, **figures: int) -> None:
        """Say what came of the step, for its last line; ``figures`` are the same for programs."""


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

    def conclude(self, text: str, **figures: int) -> None: ...


class SilentReporter:
    """Shows nothing; keeps the notices in ``notices`` for who asks."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        yield _NullStep()

    def notice(self, text: str) -> None:
        self.notices.append(text)


class NoticesOnly(SilentReporter):
    """Shows nothing but the notices, on standard error."""

    def notice(self, text: str) -> None:
        print(f"! {printable(text)}", file=sys.stderr)


class _JsonStep:
    """Writes its state at most ten times a second."""

    def __init__(self, out: JsonLinesReporter, name: str, total: int | None, unit: str) -> None:
        self._out, self._name, self._total, self._unit = out, name, total, unit
        self._done = 0
        self.figures: dict[str, int] = {}
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

    def conclude(self, text: str, **figures: int) -> None:
        self.figures = figures

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
        step.write("done", seconds=round(time.monotonic() - begun, 3), **step.figures)

    def notice(self, text: str) -> None:
        self.write({"event": "notice", "text": text})


class _Gathering:
    """A reporter whose steps in bytes are parts of one step; all else it passes on."""

    def __init__(self, reporter: Reporter, whole: Step) -> None:
        self._reporter = reporter
        self._whole = whole
        self._totals: list[int] = []
        self._figures: dict[str, int] = {}

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        if unit != "B":
            with self._reporter.step(name, total, unit) as step:
                yield step
            return
        part = _Part(self, len(self._totals))
        self._totals.append(0)
        part.expect(total or 0)
        yield part
        self._whole.detail("")

    def notice(self, text: str) -> None:
        self._reporter.notice(text)

    def advance(self, amount: int) -> None:
        self._whole.advance(amount)

    def detail(self, text: str) -> None:
        self._whole.detail(text)

    def expect(self, part: int, total: int) -> None:
        self._totals[part] = total
        self._whole.expect(sum(self._totals))

    def conclude(self, figures: dict[str, int]) -> None:
        for name, figure in figures.items():
            self._figures[name] = self._figures.get(name, 0) + figure
        self._whole.conclude(carried(**self._figures), **self._figures)


class _Part:
    """A step that is part of a larger one."""

    def __init__(self, gathering: _Gathering, number: int) -> None:
        self._gathering = gathering
        self._number = number

    def advance(self, amount: int = 1) -> None:
        self._gathering.advance(amount)

    def expect(self, total: int) -> None:
        self._gathering.expect(self._number, total)

    def detail(self, text: str) -> None:
        self._gathering.detail(text)

    def conclude(self, text: str, **figures: int) -> None:
        self._gathering.conclude(figures)


@contextmanager
def gathered(reporter: Reporter, name: str) -> Iterator[Reporter]:
    """One step for all that is fetched and put in place in the block, by way of the reporter it gives.

    Its bytes are those of package files: once for each that is fetched, and once for each that is put
    in place. What one part has to do is known when that part begins.
    """
    with reporter.step(name, unit="B") as whole:
        yield _Gathering(reporter, whole)


def carried(packages: int, fetched: int, downloaded: int) -> str:
    """What came of fetching and installing: ``12 packages, 45.0 MB downloaded``.

    ``fetched`` is how many of the packages came, ``downloaded`` their bytes as far as anybody knew their size.
    """
    size = f"{downloaded / 1e6:.1f} MB" if downloaded >= 100_000 else f"{downloaded / 1e3:.1f} kB"
    size = f"{size} downloaded" if downloaded else f"{fetched or 'nothing'} downloaded"
    return f"{packages} package{'' if packages == 1 else 's'}, {size}"
