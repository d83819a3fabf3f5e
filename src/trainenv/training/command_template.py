"""Commands with parameters in braces, ``python train.py -r {rate} {data}``, as MLflow's projects have them.

A shell runs them. A value is quoted for the place where its braces stand, so no value is ever read
as anything but one text by the shell. ``{{`` and ``}}`` are braces themselves.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Callable, Iterator, Mapping

_QUOTE = re.compile(r"\\.|['\"]", re.DOTALL)
_SPECIAL_IN_DOUBLE_QUOTES = re.compile(r'([\\"$`])')


def fields(template: str) -> list[str]:
    """The names in braces. Raises ``ValueError`` for braces that hold no plain name, or don't match."""
    return [name for _, name in _parts(template) if name is not None]


def render(template: str, values: Mapping[str, str]) -> str:
    """The command with ``values`` put in, each quoted."""
    text, quote = "", ""
    for literal, name in _parts(template):
        text += literal
        for match in _QUOTE.finditer(literal):
            if match[0] == quote or (not quote and match[0] in ("'", '"')):
                quote = "" if quote else match[0]
            elif quote == "'" and match[0] == "\\'":
                quote = ""  # A backslash means nothing between single quotes.
        if name is not None:
            text += _QUOTED[quote](values[name])
    return text


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    for literal, name, specification, conversion in string.Formatter().parse(template):
        if name is not None and (specification or conversion or not re.fullmatch(r"[A-Za-z_][\w-]*", name)):
            raise ValueError(f"{{{name}}} is no parameter's name")
        yield literal, name


_QUOTED: dict[str, Callable[[str], str]] = {
    "": shlex.quote,
    "'": lambda value: value.replace("'", "'\\''"),
    '"': lambda value: _SPECIAL_IN_DOUBLE_QUOTES.sub(r"\\\1", value),
}
