"""Metrics from log lines: training code prints them, nothing has to be imported.

Standard library only and light: the supervisor reads every line through here. A line is a metrics
record in one of four forms, each on a line of its own:

- ``{"epoch": 3, "loss": 0.12}``: a JSON object. Its numbers count; its strings, booleans, nulls
  and nested values don't.
- ``[log_data]: {"step": 3, "loss": 0.12}``: the same after a marker, which may follow other text
  (a logger's time and level).
- ``epoch=3 loss=0.12``: ``key=value`` pairs between spaces, commas, semicolons or bars. Nothing
  else may stand on the line.
- ``{'loss': 0.12, 'epoch': 3.0}``: the text of a Python dictionary, as trainers print it.

The last two must name a position (``step``, ``epoch``, ``global_step``, ``iteration``), so that a
line such as ``learning_rate=0.1 seed=3`` is not taken for one. Each form needs a number beside
the position. NaN and infinities are kept as None: a loss that diverged shows, and the record is
valid JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

Metrics = dict[str, "int | float | None"]

POSITIONS = ("step", "epoch", "global_step", "iteration")
MARKER = "[log_data]:"

_LONGEST_LINE = 64 * 1024
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|NaN|inf|Infinity)"
_PAIR = re.compile(rf"([A-Za-z_][\w./-]*)=({_NUMBER})\Z")
_ITEM = re.compile(rf"\s*'([^']+)'\s*:\s*('?)({_NUMBER})\2\s*\Z")
_SEPARATORS = re.compile(r"[\s,;|]+")


def parse(line: str) -> Metrics | None:
    """The metrics record that ``line`` states, or None if it states none."""
    text = line.strip()
    if len(text) > _LONGEST_LINE:
        return None
    if MARKER in text:
        return _from_json(text.split(MARKER, 1)[1].strip())
    if text.startswith("{'"):
        return _with_position(_from_items(text))
    if text.startswith("{"):
        return _from_json(text)
    if "=" in text:
        return _with_position(_from_pairs(text))
    return None


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


class Lines:
    """Splits a growing log into its lines, whatever pieces it is read in.

    A carriage return ends a line too (progress bars redraw themselves with it). Lines that are too
    long to be metrics are left out rather than kept in memory.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes, without their ends."""
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if whole and self._too_long:
            del whole[0]
            self._too_long = False
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
            self._too_long = True
        return [line.decode(errors="replace") for line in whole]

    def finish(self) -> list[str]:
        """The last line, if the log ends without a line end."""
        rest, self._rest = self._rest, b""
        return [rest.decode(errors="replace")] if rest and not self._too_long else []


def _from_json(text: str) -> Metrics | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return _checked({key: _finite(value) for key, value in found.items() if _is_number(value)})


def _from_items(text: str) -> Metrics | None:
    if not text.endswith("}"):
        return None
    matches = [_ITEM.match(item) for item in text[1:-1].split(",")]
    return _checked({match[1]: _number(match[3]) for match in matches if match})


def _from_pairs(text: str) -> Metrics | None:
    matches = [_PAIR.match(token) for token in _SEPARATORS.split(text) if token]
    if not all(matches):
        return None
    return _checked({match[1]: _number(match[2]) for match in matches if match})


def _checked(found: Metrics) -> Metrics | None:
    return found if any(name not in POSITIONS for name in found) else None


def _with_position(found: Metrics | None) -> Metrics | None:
    return found if found and any(name in POSITIONS for name in found) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        return _finite(float(text))


def _finite(value: int | float) -> int | float | None:
    return value if isinstance(value, int) or value - value == 0 else None
