"""Tells in what notation a text is written where a prefix stands, so that any prefix can be written there rightly.

A plain prefix looks the same in all of them. It is the place that says what another one must look like there: a file
with JSON's name, a string of a Python file, a word of a shell script outside of quotes. What is told never depends on
the prefix itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainenv.relocation.rewrite import Data

    _Token = tuple[int, int, tuple[str, ...]]
    """Where a part of the text begins and ends, and the spellings there, the best first."""

_JSON_SUFFIXES = (".json", ".jsonl", ".ipynb", "conda-meta/state")
_XML_SUFFIXES = (".xml", ".html", ".htm", ".svg", ".xsl", ".plist", "/catalog")
_PYTHON_SUFFIXES = (".py", ".pyi", ".js", ".toml")
_SHELL_SUFFIXES = (".sh", ".bash", ".zsh", ".fish", ".csh", ".la")
_CMAKE_SUFFIXES = (".cmake", "/CMakeLists.txt")
_LARGEST = 1 << 20
"""In bigger files only the name says what they are written in."""

_JSON = ("json", "json-utf8", "json-capitals", "json-slashes")
_URL = ("url", "url-browser", "url-python")
_XML = ("xml",)
_SHELL = ("shell",)
_CMAKE = ("cmake",)
_SINGLE = ("shell-single-quoted", "shell-single-quoted-python")
_DOCUMENT = ("shell-document",)
_DOUBLE = ("shell-double-quoted",)
_NONE = ("plain",)

_AFTER_URL = re.compile(rb"file:(?://(?:localhost)?)?\Z")

_SHEBANG = rb"#!(?:.*[/ \t])?%s[0-9.]*t?(?:[ \t]+-[^/\n]*)?\r?\n"
_PYTHON_PROGRAM = re.compile(
    _SHEBANG % rb"(?:python|pypy)" + rb"|#!/bin/sh\n(?:[^\n]*coding[^\n]*\n)?(?:'''exec' |\f#/ [^\n]*trainenv_script)"
)
_SHELL_PROGRAM = re.compile(_SHEBANG % rb"(?:ba|da|z|k|mk|c|tc|fi)?sh")

# What never ends ends with its line or the text: else the same would be read again from each quote in it.
_PYTHON_TOKEN = re.compile(
    rb"#[^\n]*|(?P<prefix>[A-Za-z]{0,2})"
    rb"(?:(?P<triple>'''|\"\"\")(?P<long>(?:\\.|(?!(?P=triple))[^\\])*)(?:(?P=triple)|\\?\Z)"
    rb"|'(?P<single>(?:\\.|[^'\\\n])*)(?:'|\n|\\?\Z)|\"(?P<double>(?:\\.|[^\"\\\n])*)(?:\"|\n|\\?\Z))",
    re.DOTALL,
)
_COMMENT = rb"(?<![^\s;&|(])#[^\n]*|\\."
_IN_COMMAND = rb"\$\((?:[^()\"']|\"[^\"\n]*\"|'[^'\n]*'){0,500}\)"
_SHELL_TOKEN = re.compile(
    _COMMENT + rb"|<<-?[ \t]*(?P<mark>['\"]?)(?P<end>\w+)(?P=mark)[^\n]*\n"
    rb"(?P<document>(?:[^\n]*\n){0,500}?)\t*(?P=end)$"
    rb"|'(?P<single>[^']*)(?:'|\Z)"
    rb"|\"(?P<double>(?:\\.|" + _IN_COMMAND + rb"|(?!" + _IN_COMMAND + rb")[^\"\\])*)(?:\"|\\?\Z)",
    re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(_IN_COMMAND)
_PKG_CONFIG_TOKEN = re.compile(
    _COMMENT + rb"|'(?P<single>[^'\n]*)(?:'|\n|\Z)|\"(?P<double>(?:\\.|[^\"\\\n])*)(?:\"|\n|\\?\Z)"
)
_CMAKE_TOKEN = re.compile(rb"#[^\n]*|\\.|\"(?P<double>(?:\\.|[^\"\\])*)(?:\"|\\?\Z)", re.DOTALL)


class Notation:
    """What the text ``data`` of the file ``path`` is written in, place by place."""

    def __init__(self, data: Data, path: str) -> None:
        self._data = data
        self._path = path
        self._outside: tuple[str, ...] = _NONE
        self._tokens: list[_Token] | None = None

    def at(self, start: int) -> tuple[str, ...]:
        """The spellings that a prefix which begins at byte ``start`` may have there, the best first."""
        around = self._around(start)
        return (*_URL, *around) if self.is_url(start) else around

    def is_url(self, start: int) -> bool:
        """Whether what begins at byte ``start`` is the path of a ``file:`` URL."""
        return _AFTER_URL.search(self._data[max(0, start - 16) : start]) is not None

    def _around(self, start: int) -> tuple[str, ...]:
        if self._path.endswith(_JSON_SUFFIXES):
            return _JSON
        if self._tokens is None:
            self._outside, self._tokens = self._read()
        index = bisect_right(self._tokens, start, key=lambda token: token[0]) - 1
        if index >= 0 and start < self._tokens[index][1]:
            return self._tokens[index][2]
        return self._outside

    def _read(self) -> tuple[tuple[str, ...], list[_Token]]:
        """What holds outside of all tokens, and the tokens."""
        if len(self._data) > _LARGEST or self._path.endswith(".pyc"):
            return _NONE, []
        text = self._data[:]
        if b"\0" in text:
            return _NONE, []
        if self._path.endswith(_XML_SUFFIXES) or text.startswith(b"<?xml"):
            return _XML, []
        if _PYTHON_PROGRAM.match(text) or self._path.endswith(_PYTHON_SUFFIXES):
            return _NONE, list(_python(text))
        if self._path.endswith(".pc"):
            return _SHELL, list(_shell(text, _PKG_CONFIG_TOKEN))
        if self._path.endswith(_CMAKE_SUFFIXES):
            return _CMAKE, list(_shell(text, _CMAKE_TOKEN))
        if _SHELL_PROGRAM.match(text) or self._path.endswith(_SHELL_SUFFIXES):
            return _SHELL, list(_shell(text, _SHELL_TOKEN))
        return _NONE, []


def may_escape_slashes(path: str) -> bool:
    """Whether a prefix may stand in the file ``path`` with a backslash before each slash, as some write JSON."""
    return path.endswith(_JSON_SUFFIXES)


def _python(text: bytes) -> Iterator[_Token]:
    """Strings of Python, and of what quotes alike; a comment ends with its line, whatever quotes it has."""
    for token in _PYTHON_TOKEN.finditer(text):
        kind = token.lastgroup
        if kind is not None and b"r" not in token["prefix"].lower():
            quote = token.start(kind) - 1
            yield (*token.span(kind), ("single-quoted" if text[quote] == ord("'") else "json-utf8",))


def _shell(text: bytes, pattern: re.Pattern[bytes], offset: int = 0) -> Iterator[_Token]:
    """Comments, quotes and here-documents of a shell script; what a quoted ``$(…)`` runs is looked at by itself."""
    for token in pattern.finditer(text):
        kind = token.lastgroup
        if kind is None:
            yield offset + token.start(), offset + token.end(), _NONE
        elif kind == "single":
            yield offset + token.start(kind), offset + token.end(kind), _SINGLE
        elif kind == "document":
            yield offset + token.start(kind), offset + token.end(kind), _NONE if token["mark"] else _DOCUMENT
        else:
            position, end = token.span(kind)
            for command in _COMMAND.finditer(text, position, end):
                yield offset + position, offset + command.start(), _DOUBLE
                yield from _shell(command[0][2:-1], pattern, offset + command.start() + 2)
                position = command.end()
            yield offset + position, offset + end, _DOUBLE
