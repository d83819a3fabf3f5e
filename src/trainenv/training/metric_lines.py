"""Which single lines of a log state metrics, and what they state.

Standard library only. A line is a metrics record in one of these forms:

- ``{"epoch": 3, "loss": 0.12}``: a JSON object. Its numbers count; its strings, booleans, nulls
  and nested values don't.
- ``[log_data]: {"step": 3, "loss": 0.12}``: the same after a marker, which may follow other text.
  In the form that DeepExtension's scripts print, the measured numbers are in ``details``, and what
  stands beside them (``seq``, ``msg``, ``taskUuid``) is none.
- ``{'loss': 0.12, 'epoch': 3.0}``: the text of a Python dictionary, as Hugging Face's Trainer prints
  it. Numbers may be in quotes, or wrapped as ``np.float64(0.12)`` or ``tensor(0.12)``.
- ``epoch=3 loss=0.12``: ``key=value`` pairs between spaces, commas, semicolons or bars. Nothing
  else may stand there.

Before each may stand what loggers put there: a time or a level, and names (``12:30:01 INFO train:``).
The last two must name a position (``step``, ``epoch``, ``global_step``, ``iteration``), so that a
line such as ``learning_rate=0.1 seed=3`` is not taken for one. Each form needs a number beside
the position. NaN and infinities are kept as None: a loss that diverged shows, and the record is
valid JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

Metrics = dict[str, "int | float | None"]

POSITIONS = ("step", "epoch", "global_step", "iteration")
MARKER = "[log_data]:"
NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|NaN|inf|Infinity)"

_LEVELS = "TRACE|DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL"
_LOGGED = re.compile(rf"\d\d:\d\d|\b(?:{_LEVELS}|{_LEVELS.lower()})\b")  # What a logger's words have in them.
_LOGGERS_WORDS = re.compile(r"[\w\s.,:/\[\]()|<>*+-]{0,300}[\s:|\]>-]\Z")
_STATED = re.compile(r"\{|[A-Za-z_][\w./-]*=")
_PAIR = re.compile(rf"([A-Za-z_][\w./-]*)=({NUMBER})\Z")
_ITEM = re.compile(rf"\s*['\"]([^'\"]+)['\"]\s*:\s*(?:(['\"]?)({NUMBER})\2|[\w.]+\(({NUMBER})[^()]*\))\s*(?:,|\Z)")
_SEPARATORS = re.compile(r"[\s,;|]+")


def parse(line: str) -> Metrics | None:
    """The metrics record that ``line`` states, or None if it states none."""
    text = line.strip()
    if MARKER in text:
        found = log_data(text)
        return None if found is None else _measured(found)
    if not text.startswith("{"):
        text = _without_logger(text)
    if text.startswith("{'"):
        return _with_position(_from_items(text))
    if text.startswith("{"):
        return _checked(_numbers(_object(text)))
    if "=" in text:
        return _with_position(_from_pairs(text))
    return None


def log_data(line: str) -> dict[str, Any] | None:
    """The JSON object that ``line`` carries after the marker ``[log_data]:``, if it does."""
    _, marker, text = line.partition(MARKER)
    return _object(text.strip()) if marker else None


def number(text: str) -> int | float | None:
    """The number that ``text`` is; None where it is not finite."""
    try:
        return int(text)
    except ValueError:
        return _finite(float(text))


def from_named(values: Iterable[tuple[str, str]]) -> Metrics:
    """Names and the texts of their numbers as a record; a text that is no number is left out."""
    found: Metrics = {}
    for name, text in values:
        try:
            found[name] = number(text)
        except ValueError:
            continue
    return found


def _without_logger(text: str) -> str:
    """``text`` without what a logger put before what it was told to log."""
    stated = _STATED.search(text)
    if stated is None or not stated.start():
        return text
    before = text[: stated.start()]
    return text[stated.start() :] if _LOGGERS_WORDS.match(before) and _LOGGED.search(before) else text


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _measured(data: dict[str, Any]) -> Metrics | None:
    """The metrics in an object after the marker."""
    if "details" in data and "msg" in data:
        details = data["details"]
        return _checked(_numbers(details)) if isinstance(details, dict) else None
    return _checked(_numbers(data))


def _numbers(found: dict[str, Any] | None) -> Metrics:
    return {key: _finite(value) for key, value in (found or {}).items() if _is_number(value)}


def _from_items(text: str) -> Metrics | None:
    if not text.endswith("}"):
        return None
    found: Metrics = {}
    start, end = 1, len(text) - 1
    while start < end:
        if match := _ITEM.match(text, start, end):
            found[match[1]] = number(match[3] or match[4])
            start = match.end()
        else:
            start = text.find(",", start, end) + 1 or end  # Not a number: on to what may be the next item.
    return _checked(found)


def _from_pairs(text: str) -> Metrics | None:
    matches = [_PAIR.match(token) for token in _SEPARATORS.split(text) if token]
    if not all(matches):
        return None
    return _checked({match[1]: number(match[2]) for match in matches if match})


def _checked(found: Metrics) -> Metrics | None:
    return found if any(name not in POSITIONS for name in found) else None


def _with_position(found: Metrics | None) -> Metrics | None:
    return found if found and any(name in POSITIONS for name in found) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: int | float) -> int | float | None:
    return value if isinstance(value, int) or value - value == 0 else None
