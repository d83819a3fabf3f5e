"""What a task takes of its machine, as ``resources`` in ``method.yaml`` says it.

Standard library only and light: it is on the way of every task's start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from trainenv.errors import UsageError
from trainenv.sizes import parse_size

WORDS = ("gpus", "gpu_memory", "cpus", "memory", "time")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_DURATION = re.compile(rf"{_DURATION_PART.pattern}(\s*{_DURATION_PART.pattern})*")


@dataclass(frozen=True)
class Resources:
    """What a task takes while it runs; None where nothing is said.

    ``gpus`` and ``cpus`` are counts, and 0 GPUs means that it must see none. ``gpu_memory`` is what it
    needs of each of its GPUs, in bytes: it shares them with others then, else it has them alone.
    ``memory`` is in bytes and a limit, ``time`` in seconds and one as well.
    """

    gpus: int | None = None
    gpu_memory: int | None = None
    cpus: int | None = None
    memory: int | None = None
    time: float | None = None

    def changed(self, given: Mapping[str, object]) -> Resources:
        """These, but as ``given`` says it in the words of ``method.yaml``. Raises ``UsageError``."""
        found = self
        for word, value in given.items():
            if word not in WORDS:
                raise UsageError(f"there is no resource {word!r}", hint=f"Known are: {', '.join(WORDS)}")
            try:
                found = replace(found, **{word: parsed(word, value)})
            except UsageError as error:
                raise UsageError(f"{word} can't be {value!r}", cause=error.message, hint=error.hint) from None
        if found.gpu_memory is not None and not found.gpus:
            raise UsageError("gpu_memory is what each of the GPUs must have free", hint="Say how many GPUs as well")
        return found

    def to_json(self) -> dict[str, int | float | None]:
        return asdict(self)


def parsed(word: str, value: object) -> Any:
    """The ``value`` of one of ``WORDS``, as ``Resources`` has it. Raises ``UsageError`` that says why not."""
    if value is None:
        return None
    if word in ("gpus", "cpus"):
        return _count(value, 0 if word == "gpus" else 1)
    return _seconds(value) if word == "time" else _bytes(value)


def _count(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"it must be a whole number, {least} or more")
    return value


def _bytes(value: object) -> int:
    """A number of bytes, or text such as ``8GB`` or ``512 MiB``."""
    try:
        size = parse_size(value)
    except ValueError:
        size = 0
    if size <= 0:
        raise UsageError("it must be a size above 0", hint="Write it as 8GB or 512MiB")
    return size


def _seconds(value: object) -> float:
    """A number of seconds, or text such as ``2h`` or ``1h 30m``."""
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        value = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError("it must be a time above 0", hint="Write it as 90s, 30m, 2h or 1h 30m")
    return float(value)
