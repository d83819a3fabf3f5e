"""The metrics of a task: found in its log as it grows, kept in ``metrics.jsonl``.

Standard library only and light: the supervisor reads every line through here. Nothing has to be
imported by the code that is trained. What lines state is in ``metric_lines``, what progress bars show
in ``progress_bars``; a method may name patterns of its own, which come first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from trainenv.training.metric_lines import POSITIONS, Metrics, from_named, log_data, parse
from trainenv.training.progress_bars import Bars

__all__ = ["POSITIONS", "Lines", "Metrics", "Reader", "Statement", "parse", "read", "to_line"]

_LONGEST_LINE = 64 * 1024
_LONGEST_FOR_PATTERNS = 4 * 1024
_MARKS = (b"=", b"{", b"|", b" - ", b"Epoch ", b"\xe2\x94\x81", b" " * 10)
"""A line without one of these states nothing; most of what floods a log has none."""
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x08")


class Statement(NamedTuple):
    """What a line states: a metrics record, the object of a ``[log_data]:`` line, or both."""

    metrics: Metrics | None
    data: dict[str, Any] | None = None


class Reader:
    """Finds what a growing log states, whatever pieces it is read in.

    ``patterns`` are regular expressions with named groups: a line in which one is found states the
    groups that are numbers. Raises ``re.error`` for one that is none.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._lines = Lines()
        self._bars = Bars()

    @property
    def has_patterns(self) -> bool:
        return bool(self._patterns)

    def drop_patterns(self) -> None:
        """Read on without the patterns."""
        self._patterns = []

    def feed(self, data: bytes) -> list[Statement]:
        """What the lines state that ``data`` completes."""
        if not self._patterns and not _may_state(self._lines.rest + data):
            self._lines.feed(data)
            return []
        return [stated for line in self._lines.feed(data) for stated in self._line(line)]

    def finish(self) -> list[Statement]:
        """What is left, once the log has ended."""
        rest = [stated for line in self._lines.finish() for stated in self._line(line)]
        return rest + [Statement(found) for found in self._bars.finish()]

    def _line(self, line: bytes) -> list[Statement]:
        if not self._patterns and not _may_state(line):
            return []
        text = line.decode(errors="replace")
        if "\x1b" in text or "\x08" in text:
            text = _CONTROLS.sub("", text)
        for pattern in self._patterns if len(text) <= _LONGEST_FOR_PATTERNS else ():
            if match := pattern.search(text):
                groups = match.groupdict().items()
                found = from_named((name, value) for name, value in groups if value is not None)
                if any(name not in POSITIONS for name in found):
                    return [Statement(found)]
        text, records = self._bars.line(text)
        stated = [Statement(record) for record in records]
        data = log_data(text)
        record = parse(text) if text else None
        if record is not None or data is not None:
            stated.append(Statement(record, data))
        return stated


def _may_state(data: bytes) -> bool:
    return any(mark in data for mark in _MARKS)


class Lines:
    """Splits a growing log into its lines, whatever pieces it is read in.

    A carriage return ends a line too (progress bars redraw themselves with it). Lines that are too
    long to be metrics are left out rather than kept in memory. ``rest`` is the line that has not ended yet.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        *whole, self.rest = (self.rest + data).replace(b"\r", b"\n").split(b"\n")
        if whole and self._too_long:
            del whole[0]
            self._too_long = False
        if len(self.rest) > _LONGEST_LINE:
            self.rest = b""
            self._too_long = True
        return [line for line in whole if len(line) <= _LONGEST_LINE]

    def finish(self) -> list[bytes]:
        """The last line, if the log ends without a line end."""
        rest, self.rest = self.rest, b""
        return [rest] if rest and not self._too_long else []


def to_line(found: Metrics) -> bytes:
    """``found`` as a line of ``metrics.jsonl``."""
    return json.dumps(found, ensure_ascii=False).encode(errors="replace") + b"\n"


def read(path: str) -> list[Metrics]:
    """The records of a ``metrics.jsonl``, oldest first; none if there is no such file yet."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]  # What follows the last line end is unfinished.
