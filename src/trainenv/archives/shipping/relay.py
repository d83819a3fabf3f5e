"""What another machine reports of its work, shown here as if it was done here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

from trainenv.progress import Reporter, Step


class Relay:
    """Passes the events of a ``progress.JsonLinesReporter`` on to ``reporter``; ``where`` stands before notices."""

    def __init__(self, reporter: Reporter, where: str) -> None:
        self._reporter = reporter
        self._where = where
        self._open: dict[str, _Open] = {}

    def event(self, event: Mapping[str, Any]) -> None:
        """Show one event; one of an unknown kind is passed over."""
        kind, name = event.get("event"), str(event.get("step", ""))
        if kind == "notice":
            self._reporter.notice(f"{self._where}: {event.get('text', '')}")
        elif kind == "start":
            self._open[name] = _Open(self._reporter.step(name, _number(event.get("total")), str(event.get("unit", ""))))
        elif (running := self._open.get(name)) is not None:
            if kind == "detail":
                running.step.detail(str(event.get("text", "")))
                return
            running.move(_number(event.get("done")) or 0, _number(event.get("total")))
            if kind in ("done", "failed"):
                del self._open[name]
                running.end(failed=kind == "failed")

    def close(self) -> None:
        """End what is still open as failed, the innermost first."""
        while self._open:
            self._open.popitem()[1].end(failed=True)


class _Open:
    def __init__(self, context: AbstractContextManager[Step]) -> None:
        self._context = context
        self.step = context.__enter__()
        self._done = 0

    def move(self, done: int, total: int | None) -> None:
        if total is not None:
            self.step.expect(total)
        if done > self._done:
            self.step.advance(done - self._done)
            self._done = done

    def end(self, *, failed: bool) -> None:
        error = RuntimeError("it failed there") if failed else None
        with suppress(RuntimeError):
            self._context.__exit__(type(error) if error else None, error, None)


def _number(value: object) -> int | None:
    return value if type(value) is int else None
