"""How long work reports itself: one protocol, and reporters that show it.

Work opens a step, moves it forward, and says notices; who watches decides how that looks::

    with reporter.step("pack tabular_env", total=size, unit="B") as step:
        step.advance(len(block))
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._written >= 0.1:
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

    def write(self, event: dict[str, object]) -> None:
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


class _RichStep:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)

    def expect(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def detail(self, text: str) -> None:
        self._progress.update(self._task, detail=text)


class RichReporter:
    """Shows a bar for a step while it runs and one line with its time when it is done.

    Without a terminal there is no bar, only the lines. Steps inside a step are indented.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self.console = Console(file=stream or sys.stderr, highlight=False)
        self._progress: Progress | None = None
        self._depth = 0

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        from rich.markup import escape

        label = "  " * self._depth + escape(name)
        begun = time.monotonic()
        mark = "[red]✗[/red]"
        self._depth += 1
        try:
            if self.console.is_terminal:
                with self._bar(label, total, unit) as step:
                    yield step
            else:
                yield _NullStep()
            mark = "[green]✓[/green]"
        finally:
            self._depth -= 1
            self.console.print(f"{mark} {label} [dim]{time.monotonic() - begun:.1f} s[/dim]", soft_wrap=True)

    @contextmanager
    def _bar(self, label: str, total: int | None, unit: str) -> Iterator[Step]:
        outermost = self._progress is None
        progress = self._progress = self._progress or self._open()
        task = progress.add_task(label, total=total, detail="", bytes=unit == "B", unit=unit)
        try:
            yield _RichStep(progress, task)
        finally:
            progress.remove_task(task)
            if outermost:
                progress.stop()
                self._progress = None

    def notice(self, text: str) -> None:
        from rich.markup import escape

        self.console.print(f"[yellow]![/yellow] {escape(text)}", soft_wrap=True)

    def _open(self) -> Progress:
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Task as RichTask
        from rich.text import Text

        class Amount(ProgressColumn):
            """``12.3/45.0 MB`` for bytes, ``3/7 packages`` for the rest, nothing without a total."""

            def render(self, task: RichTask) -> Text:
                if task.total is None:
                    return Text("")
                if task.fields["bytes"]:
                    return Text(f"{task.completed / 1e6:.1f}/{task.total / 1e6:.1f} MB")
                return Text(f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}")

        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            Amount(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/dim]"),
            console=self.console,
            transient=True,
        )
        progress.start()
        return progress
