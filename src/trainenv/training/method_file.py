"""Reads ``method.yaml``: every mistake is one line with the file and the line it is on."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainenv.errors import MethodError, UsageError
from trainenv.settings import checked_name
from trainenv.sizes import parse_size
from trainenv.training.method import FILE_NAME, STAGES, Method, Stage
from trainenv.training.metric_lines import POSITIONS
from trainenv.training.parameters import TYPES, Parameter, closest
from trainenv.training.resources import Resources

_MORE_WORDS = ("resources", "metrics")
_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_DURATION = re.compile(rf"{_DURATION_PART.pattern}(\s*{_DURATION_PART.pattern})*")
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def read_method(folder: Path) -> Method:
    """The method in ``folder``. Raises ``MethodError`` if its ``method.yaml`` is wrong."""
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MethodError(f"{path} can't be read", cause=error.strerror or str(error)) from None
    top = _Section(path, "", _parse(path, content))
    top.allow(
        "name",
        "description",
        "type",
        "conda_env",
        "file",
        "stages",
        "parameters",
        "environment",
        "resources",
        "metrics",
    )
    if top.text("name", folder.name) != folder.name:
        raise top.refusal("name", f"the folder is called {folder.name!r}, and a method has its folder's name")
    return Method(
        name=folder.name,
        folder=folder,
        sha256=hashlib.sha256(content).hexdigest(),
        description=top.text("description", ""),
        type=top.text("type", ""),
        conda_env=top.environment("conda_env"),
        stages=_stages(top),
        parameters=_parameters(top),
        environment=_environment(top),
        resources=_resources(top),
        metrics=_metrics(top),
    )


def _parse(path: Path, content: bytes) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = content.decode()
        found = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or (mark.index >= len(text) and error.context_mark is not None):
            mark = error.context_mark  # What the file's end left open began there.
        line = mark.line + 1 if mark else 1
        raise MethodError(f"{path}:{line}: not valid YAML", cause=str(error.problem)) from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise MethodError(f"{path}: not valid YAML", cause=str(error)) from None
    if not isinstance(found, dict):
        raise MethodError(f"{path}:1: a method is a mapping of words to values", cause="this is not")
    return found


class _Section:
    """A mapping in the file; ``where`` is the way to it, such as ``parameters.epochs.``."""

    def __init__(self, path: Path, where: str, data: Any) -> None:
        self._path = path
        self._where = where
        self._data = data
        for word in data:
            if not isinstance(word, str):
                raise self.refusal(word, "it must be text", "Put it in quotes")

    def __contains__(self, word: str) -> bool:
        return self._data.get(word) is not None

    def refusal(self, word: object, why: str, hint: str = "") -> MethodError:
        """The error for what stands at ``word``."""
        positions = self._data.lc.data or {}  # A word merged in with "<<" has no position here.
        line = positions[word][0] if word in positions else self._data.lc.line
        return MethodError(f"{self._path}:{line + 1}: {self._where}{word}", cause=why, hint=hint)

    def allow(self, *words: str) -> None:
        """Refuse every word but these."""
        for word in self._data:
            if word not in words:
                raise self.refusal(word, "this word is unknown", closest(str(word), list(words)))

    def text(self, word: str, default: str) -> str:
        value = self._data.get(word)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refusal(word, "it must be text")
        return str(value)

    def environment(self, word: str) -> str | None:
        """The name of an environment, or None."""
        name = self.text(word, "")
        try:
            return checked_name(name, "environment") if name else None
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

    def value(self, word: str) -> Any:
        """Any value that JSON has, in Python's own types."""
        try:
            return _plain(self._data.get(word))
        except TypeError as error:
            raise self.refusal(word, str(error), "Put it in quotes") from None

    def sections(self, word: str) -> Iterator[tuple[str, _Section]]:
        """The mappings in the mapping at ``word``."""
        if word not in self:
            return
        outer = self.section(word)
        for name in outer._data:
            yield name, outer.section(name)

    def section(self, word: str) -> _Section:
        """The mapping at ``word``."""
        value = self._data.get(word)
        if not isinstance(value, dict):
            raise self.refusal(word, "it must be a mapping of words to values")
        return _Section(self._path, f"{self._where}{word}.", value)

    def items(self) -> Iterator[tuple[str, Any]]:
        """The words and their values."""
        for word in self._data:
            yield word, self.value(word)


def _stages(top: _Section) -> dict[str, Stage]:
    stages = {}
    for name, section in top.sections("stages"):
        if name not in STAGES:
            raise top.section("stages").refusal(name, "this stage is unknown", closest(name, list(STAGES)))
        section.allow("file", "command", "conda_env")
        if ("file" in section) == ("command" in section):
            raise top.section("stages").refusal(name, "it must have either a file or a command")
        stages[name] = Stage(
            name=name,
            file=_file(section) if "file" in section else None,
            command=_command(section) if "command" in section else (),
            conda_env=section.environment("conda_env"),
        )
    if "file" in top:
        if "train" in stages:
            raise top.refusal("file", "stage train is given in stages already")
        stages = {"train": Stage("train", file=_file(top)), **stages}
    return stages


def _file(section: _Section) -> str:
    name = section.text("file", "")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise section.refusal("file", "it must be a file in the method's folder")
    if Path(name).suffix not in (".py", ".sh"):
        raise section.refusal("file", "it must be a .py or .sh file", "For any other, give a command")
    return name


def _command(section: _Section) -> tuple[str, ...]:
    value = section.value("command")
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise section.refusal("command", str(error)) from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise section.refusal("command", "it must be text or a list of texts")
    return tuple(words)


def _parameters(top: _Section) -> dict[str, Parameter]:
    parameters = {}
    for name, section in top.sections("parameters"):
        if not _PARAMETER_NAME.match(name):
            raise top.section("parameters").refusal(
                name, "a parameter's name is letters, digits, '_' and '-', and begins with a letter or '_'"
            )
        parameters[name] = _parameter(name, section)
    return parameters


def _parameter(name: str, section: _Section) -> Parameter:
    section.allow("type", "description", "default", "minimum", "maximum", "enum", "required")
    default = section.value("default")
    kind = section.text("type", _TYPE_OF.get(type(default), "string"))
    if kind not in TYPES:
        raise section.refusal("type", f"{kind!r} is no type", closest(kind, list(TYPES)))
    enum = section.value("enum") if "enum" in section else []
    if not isinstance(enum, list):
        raise section.refusal("enum", "it must be a list")
    return Parameter(
        name=name,
        type=kind,
        description=section.text("description", ""),
        default=default,
        minimum=section.number("minimum"),
        maximum=section.number("maximum"),
        enum=tuple(enum),
        required=section.flag("required"),
    )


def _environment(top: _Section) -> dict[str, str]:
    if "environment" not in top:
        return {}
    section = top.section("environment")
    variables = {}
    for name, value in section.items():
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise section.refusal(name, "a variable's value must be text or a number", "Put it in quotes")
        variables[name] = str(value)
    return variables


def _resources(top: _Section) -> Resources:
    if "resources" not in top:
        return Resources()
    section = top.section("resources")
    section.allow("gpus", "gpu_memory", "cpus", "memory", "time")
    gpu_memory = _size(section, "gpu_memory")
    gpus = _count(section, "gpus", 0)
    if gpu_memory is not None and not gpus:
        raise section.refusal("gpu_memory", "it is what each of the GPUs must have free", "Say how many: gpus: 1")
    return Resources(
        gpus=gpus,
        gpu_memory=gpu_memory,
        cpus=_count(section, "cpus", 1),
        memory=_size(section, "memory"),
        time=_duration(section, "time"),
    )


def _metrics(top: _Section) -> tuple[str, ...]:
    """Patterns, each with a named group that is a metric."""
    value = top.value("metrics")
    patterns = [value] if isinstance(value, str) else value or []
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise top.refusal("metrics", "it must be a pattern or a list of patterns")
    for pattern in patterns:
        try:
            names = re.compile(pattern).groupindex
        except (re.error, RecursionError, OverflowError) as error:
            raise top.refusal("metrics", f"{pattern!r} is no regular expression: {error}") from None
        if not set(names) - set(POSITIONS):
            raise top.refusal(
                "metrics", f"{pattern!r} names no metric", r"Name its number, such as loss is (?P<loss>\S+)"
            )
    return tuple(patterns)


def _count(section: _Section, word: str, least: int) -> int | None:
    value = section.value(word)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise section.refusal(word, f"it must be a whole number, {least} or more")
    return value


def _size(section: _Section, word: str) -> int | None:
    """Bytes: a number of them, or text such as ``8GB`` or ``512 MiB``."""
    value = section.value(word)
    if value is None:
        return None
    try:
        size = parse_size(value)
    except ValueError:
        size = 0
    if size <= 0:
        raise section.refusal(word, "it must be a size above 0", "Write it as 8GB or 512MiB")
    return size


def _duration(section: _Section, word: str) -> float | None:
    """Seconds: a number of them, or text such as ``2h`` or ``1h 30m``."""
    value = section.value(word)
    if value is None:
        return None
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        value = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise section.refusal(word, "it must be a time above 0", "Write it as 90s, 30m, 2h or 1h 30m")
    return float(value)


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
