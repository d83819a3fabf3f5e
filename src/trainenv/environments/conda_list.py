"""What ``conda list --export`` prints and ``conda create --file`` reads: ``NAME=VERSION=BUILD`` a line.

PyPI packages stand among them, with the build ``pypi_0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_HEADER = "# This file may be used to create an environment using:"
_ENTRY = re.compile(r"(?P<name>[\w.-]+)(?:=(?P<version>[^\s=<>!~,]+)(?:=(?P<build>[^\s=<>!~,]+))?)?")


def is_one(text: str, lines: Sequence[str]) -> bool:
    """Whether ``text`` is such a list; ``lines`` are those that hold something. pip can read none with a build."""
    found = [_ENTRY.fullmatch(line.strip()) for line in lines]
    return bool(lines) and (_HEADER in text or (all(found) and any(match and match["build"] for match in found)))


def read(text: str) -> tuple[list[str], list[tuple[str, int]]]:
    """The conda specs of a list, and the PyPI requirements, each with the number of its line."""
    specs, requirements = [], []
    for number, line in _lines(text):
        match = _ENTRY.fullmatch(line)
        if match and (match["build"] or "").startswith("pypi_"):
            requirements.append((f"{match['name']}=={match['version']}", number))
        else:
            specs.append(line)
    return specs, requirements


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if (line := line.strip()) and not line.startswith("#"):
            yield number, line
