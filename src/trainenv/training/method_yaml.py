"""The YAML of ``method.yaml`` with the places in it, so that each mistake is told with file, line and column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trainenv.errors import MethodError, UsageError
from trainenv.training.parameters import closest

T = TypeVar("T")
Place = tuple[int, int]


class MethodFileError(MethodError):
    """Something wrong in a file, at ``place``: line and column, from 1."""

    def __init__(self, path: Path, place: Place, what: str, *, cause: str, hint: str = "") -> None:
        super().__init__(f"{path}:{place[0]}:{place[1]}: {what}", cause=cause, hint=hint)
        self.place = place


class Section:
    """A mapping in the file; ``where`` is the way to it, such as ``parameters.epochs.``.

    ``mistakes`` are collected by ``attempt``, for the whole file.
    """

    def __init__(self, path: Path, where: str, data: Any, mistakes: list[MethodFileError]) -> None:
        self.path = path
        self.mistakes = mistakes
        self._where = where
        self._data = data

    def __contains__(self, word: str) -> bool:
        return self._data.get(word) is not None

    def attempt(self, read: Callable[[], T], instead: T) -> T:
        """What ``read`` gives; where it meets a mistake, that is collected, and ``instead`` given."""
        try:
            return read()
        except MethodFileError as mistake:
            self.mistakes.append(mistake)
            return instead

    def place(self, word: object) -> Place:
        """Where the value at ``word`` is; where the word is, if the value stands below it."""
        positions = self._data.lc.data or {}  # A word merged in with "<<" has no position here.
        if word not in positions:
            return self._data.lc.line + 1, self._data.lc.col + 1
        line, column, value_line, value_column = positions[word]
        return line + 1, (value_column if value_line == line else column) + 1

    def refusal(self, word: object, why: str, hint: str = "") -> MethodFileError:
        """The error for the value at ``word``."""
        return MethodFileError(self.path, self.place(word), f"{self._where}{word}", cause=why, hint=hint)

    def word_refusal(self, word: object, why: str, hint: str = "") -> MethodFileError:
        """The error for ``word`` itself."""
        positions = self._data.lc.data or {}
        line, column = positions[word][:2] if word in positions else (self._data.lc.line, self._data.lc.col)
        return MethodFileError(self.path, (line + 1, column + 1), f"{self._where}{word}", cause=why, hint=hint)

    def allow(self, words: Sequence[str]) -> None:
        """Collect a mistake for every word but these."""
        for word in self._data:
            if not isinstance(word, str):
                self.mistakes.append(self.word_refusal(word, "it must be text", "Put it in quotes"))
            elif word not in words:
                self.mistakes.append(self.word_refusal(word, "this word is unknown", closest(word, list(words))))

    def text(self, word: str, default: str = "") -> str:
        value = self._data.get(word)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refusal(word, "it must be text")
        return str(value)

    def choice(self, word: str, choices: Sequence[str], default: str) -> str:
        """One of ``choices``."""
        value = self.text(word, default)
        if value not in choices:
            raise self.refusal(word, f"{value!r} is none of its values", closest(value, list(choices)))
        return value

    def named(self, word: str, check: Callable[[str], str]) -> str | None:
        """The text at ``word`` if ``check`` takes it, which raises ``UsageError`` if not; None without one."""
        value = self.text(word)
        try:
            return check(value) if value else None
        except UsageError as error:
            raise self.refusal(word, error.message, error.hint) from None

    def flag(self, word: str) -> bool:
        value = self.value(word)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(word, "it must be true or false")
        return bool(value)

    def number(self, word: str) -> float | None:
        value = self.value(word)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refusal(word, "it must be a number")
        return value

    def texts(self, word: str, kind: str) -> list[str]:
        """The texts at ``word``, or the only one; ``kind`` says what they are."""
        value = self.value(word)
        found = [value] if isinstance(value, str) else value or []
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found) or value in (False, 0):
            raise self.refusal(word, f"it must be {kind} or a list of them")
        return found

    def value(self, word: str) -> Any:
        """Any value that JSON has, in Python's own types."""
        try:
            return _plain(self._data.get(word))
        except TypeError as error:
            raise self.refusal(word, str(error), "Put it in quotes") from None

    def sections(self, word: str) -> Iterator[tuple[str, Section]]:
        """The mappings in the mapping at ``word``."""
        outer = self.section(word)
        if outer is None:
            return
        for name in outer._data:
            if not isinstance(name, str):
                self.mistakes.append(outer.word_refusal(name, "it must be text", "Put it in quotes"))
                continue
            inner = outer.attempt(lambda name=name: outer.section(name, optional=False), None)  # type: ignore[misc]
            if inner is not None:
                yield name, inner

    def section(self, word: str, *, optional: bool = True) -> Section | None:
        """The mapping at ``word``; None where it is ``optional`` and there is none."""
        value = self._data.get(word)
        if value is None and optional:
            return None
        if not isinstance(value, dict):
            raise self.refusal(word, "it must be a mapping of words to values")
        return Section(self.path, f"{self._where}{word}.", value, self.mistakes)

    def words(self) -> Iterator[str]:
        """The words that are texts; a mistake is collected for each other."""
        for word in self._data:
            if isinstance(word, str):
                yield word
            else:
                self.mistakes.append(self.word_refusal(word, "it must be text", "Put it in quotes"))


def read(path: Path, mistakes: list[MethodFileError]) -> tuple[str, Section]:
    """The sha256 of the file at ``path`` and the mapping that it holds, which collects ``mistakes``.

    Raises ``MethodFileError`` if it holds none, another ``MethodError`` if it can't be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MethodError(f"{path} can't be read", cause=error.strerror or str(error)) from None
    return hashlib.sha256(content).hexdigest(), _parsed(path, content, mistakes)


def _parsed(path: Path, content: bytes, mistakes: list[MethodFileError]) -> Section:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = content.decode()
        found = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or (mark.index >= len(text) and error.context_mark is not None):
            mark = error.context_mark  # What the file's end left open began there.
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise MethodFileError(path, place, "not valid YAML", cause=str(error.problem)) from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise MethodFileError(path, (1, 1), "not valid YAML", cause=str(error)) from None
    if not isinstance(found, dict):
        raise MethodFileError(path, (1, 1), "a method is a mapping of words to values", cause="this is not")
    return Section(path, "", found, mistakes)


def _plain(value: Any) -> Any:
    """A value without what the YAML reader adds to it (positions, quotes, notations)."""
    from ruamel.yaml.scalarbool import ScalarBoolean

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, ScalarBoolean):
        return bool(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    raise TypeError(f"{value} is neither text nor a number nor a list")
