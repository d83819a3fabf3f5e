"""Which tasks are meant: by method, status, environment, time, and conditions on parameters and metrics.

Standard library only: every list of tasks comes through here.
"""

from __future__ import annotations

import datetime
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainenv.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_CONDITION = re.compile(r"\s*([A-Za-z_][\w./-]*?)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """``NAME OPERATOR VALUE`` on a parameter, or else the last value of a metric.

    ``params.NAME`` and ``metrics.NAME`` mean the one or the other.
    """

    name: str
    operator: str
    value: str

    def holds(self, parameters: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
        """Whether a task meets it. One that has no such value, or a value of another kind, does not."""
        kind, _, name = self.name.partition(".")
        places: list[tuple[Mapping[str, Any], str]] = [(parameters, self.name), (metrics, self.name)]
        if kind in ("params", "metrics"):
            places.append(({"params": parameters, "metrics": metrics}[kind], name))
        found = next((values[key] for values, key in places if key in values), None)
        if found is None:
            return False
        if isinstance(found, bool) or not isinstance(found, int | float):
            text = str(found).lower() if isinstance(found, bool) else str(found)
            return self.operator in ("=", "==", "!=") and _OPERATORS[self.operator](text, self.value)
        try:
            return _OPERATORS[self.operator](float(found), float(self.value))
        except ValueError:
            return self.operator == "!="


@dataclass(frozen=True)
class Selection:
    """What each says holds; what is None says nothing. ``since`` is as in ``Task.created``."""

    method: str | None = None
    status: str | None = None
    conda_env: str | None = None
    name: str | None = None
    since: str | None = None
    where: tuple[Condition, ...] = ()
    limit: int | None = None


def selected(*, since: str | None = None, where: Iterable[str] = (), **equal: Any) -> Selection:
    """What options say, with ``since`` and ``where`` as people write them. Raises ``UsageError``."""
    moment = None if since is None else point_in_time(since)
    return Selection(**equal, since=moment, where=tuple(map(condition, where)))


def condition(text: str) -> Condition:
    """``text`` as a condition, such as ``loss<0.1``. Raises ``UsageError``."""
    match = _CONDITION.fullmatch(text)
    if match is None or not match[3]:
        raise UsageError(f"{text!r} is no condition", hint="Write it as learning_rate>0.01 or optimizer=adam")
    if match[2] in ("<", "<=", ">", ">="):
        try:
            float(match[3])
        except ValueError:
            raise UsageError(f"{text!r} compares with no number", hint="Write it as learning_rate>0.01") from None
    return Condition(match[1], match[2], match[3])


def point_in_time(text: str) -> str:
    """``2h`` (ago), ``2026-11-22`` or ``2026-11-22T09:05`` (here, unless it says a zone) as ISO 8601 in UTC.

    Raises ``UsageError``.
    """
    utc = datetime.timezone.utc
    if match := _AGO.fullmatch(text.strip()):
        ago = datetime.timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
        moment = datetime.datetime.now(tz=utc) - ago
    else:
        try:
            moment = datetime.datetime.fromisoformat(re.sub(r"Z\Z", "+00:00", text.strip())).astimezone(utc)
        except (ValueError, OverflowError, OSError):
            raise UsageError(
                f"{text!r} is no time", hint="Write it as 30m, 2h, 7d, 2026-11-22 or 2026-11-22T09:05"
            ) from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
