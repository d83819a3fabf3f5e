"""Reads ``method.yaml``. What it may say is in ``method.schema.json``, which editors read as well.

The words come from there; what a schema can't say is checked here. Each mistake names its file,
line and column, and all mistakes of a file are found at once.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from trainenv.errors import UsageError
from trainenv.settings import checked_name
from trainenv.training.method import FILE_NAME, MLPROJECT, STAGES, Method, Stage
from trainenv.training.method_yaml import MethodFileError, Section, read
from trainenv.training.metric_lines import POSITIONS
from trainenv.training.parameters import FORMATS, TYPES, Parameter, closest
from trainenv.training.passing import STYLES, variables
from trainenv.training.resources import Resources, parsed

SCHEMA = "method.schema.json"

_PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}

T = TypeVar("T")


@cache
def schema() -> dict[str, Any]:
    """What ``method.yaml`` may say, as JSON Schema."""
    text = Path(__file__).with_name(SCHEMA).read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def read_method(folder: Path) -> Method:
    """The method in ``folder``. Raises ``MethodError`` for the first mistake in its file."""
    method, mistakes, _ = read_all(folder)
    if method is None:
        first, *more = sorted(mistakes, key=lambda mistake: mistake.place)
        if more and not first.hint:
            first.hint = f"`trainenv method validate {folder.name}` shows this and {len(more)} more"
        raise first
    return method


def read_all(folder: Path) -> tuple[Method | None, list[MethodFileError], Section | None]:
    """The method in ``folder`` if its file has no mistakes, all of these, and the file as it was read.

    Raises ``MethodError`` if there is no file to read.
    """
    path = folder / FILE_NAME
    if not path.is_file() and (folder / MLPROJECT).is_file():
        from trainenv.training import mlproject

        return mlproject.read_all(folder)
    mistakes: list[MethodFileError] = []
    try:
        sha256, top = read(path, mistakes)
    except MethodFileError as mistake:
        return None, [mistake], None
    method = _method(folder, sha256, top)
    return (None if mistakes else method), mistakes, top


def _method(folder: Path, sha256: str, top: Section) -> Method:
    top.allow(tuple(schema()["properties"]))
    top.attempt(lambda: _name(top, folder.name), None)
    parameters: dict[str, Parameter] = {}
    parameters = top.attempt(lambda: _parameters(top), parameters)
    style = top.attempt(lambda: top.choice("pass_parameters", STYLES, STYLES[0]), STYLES[0])
    top.attempt(lambda: _passable(top, style, parameters), None)
    return Method(
        name=folder.name,
        folder=folder,
        sha256=sha256,
        description=top.attempt(lambda: top.text("description"), ""),
        type=top.attempt(lambda: top.text("type"), ""),
        conda_env=top.attempt(lambda: top.named("conda_env", environment_named), None),
        stages=top.attempt(lambda: _stages(top), {}),
        parameters=parameters,
        pass_parameters=style,
        environment=top.attempt(lambda: _environment(top), {}),
        resources=top.attempt(lambda: _resources(top), Resources()),
        metrics=top.attempt(lambda: _metrics(top), ()),
    )


def environment_named(name: str) -> str:
    """``name``, if it can name an environment or a file beside ``method.yaml``. Raises ``UsageError``."""
    path = Path(name)
    if "/" in name and not path.is_absolute() and ".." not in path.parts:
        return name
    return checked_name(name, "environment")


def _name(top: Section, expected: str) -> None:
    if top.text("name", expected) != expected:
        raise top.refusal("name", f"the folder is called {expected!r}, and a method has its folder's name")


def _stages(top: Section) -> dict[str, Stage]:
    stages = {}
    outputs: tuple[str, ...] = ()
    outputs = top.attempt(lambda: _outputs(top), outputs)
    for name, section in top.sections("stages"):
        if name not in STAGES:
            outer = top.section("stages", optional=False)
            assert outer is not None
            top.mistakes.append(outer.word_refusal(name, "this stage is unknown", closest(name, list(STAGES))))
            continue
        stages[name] = _stage(top, name, section, outputs if name == "train" else ())
    if "file" in top:
        if "train" in stages:
            raise top.refusal("file", "stage train is given in stages already")
        file = top.attempt(lambda: _file(top), None)
        stages = {"train": Stage("train", file=file, outputs=outputs), **stages}
    return stages


def _stage(top: Section, name: str, section: Section, outputs: tuple[str, ...]) -> Stage:
    section.allow(tuple(schema()["definitions"]["stage"]["properties"]))
    if ("file" in section) == ("command" in section):
        outer = top.section("stages", optional=False)
        assert outer is not None
        top.mistakes.append(outer.refusal(name, "it must have either a file or a command"))
    return Stage(
        name=name,
        file=section.attempt(lambda: _file(section), None) if "file" in section else None,
        command=section.attempt(lambda: _command(section), ()) if "command" in section else (),
        conda_env=section.attempt(lambda: section.named("conda_env", environment_named), None),
        parameters=_parameters(section) if "parameters" in section else None,
        outputs=section.attempt(lambda: _outputs(section), ()) or outputs,
    )


def _file(section: Section) -> str:
    name = section.text("file")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise section.refusal("file", "it must be a file in the method's folder")
    if Path(name).suffix not in (".py", ".sh"):
        raise section.refusal("file", "it must be a .py or .sh file", "For any other, give a command")
    return name


def _command(section: Section) -> tuple[str, ...]:
    value = section.value("command")
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise section.refusal("command", str(error)) from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise section.refusal("command", "it must be text or a list of texts")
    return tuple(words)


def _outputs(section: Section) -> tuple[str, ...]:
    patterns = section.texts("outputs", "a path")
    for pattern in patterns:
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            raise section.refusal("outputs", f"{pattern!r} is no path below the task's folder of outputs")
    return tuple(patterns)


def _parameters(top: Section) -> dict[str, Parameter]:
    parameters = {}
    for name, section in top.sections("parameters"):
        if not _PARAMETER_NAME.match(name):
            outer = top.section("parameters", optional=False)
            assert outer is not None
            why = "a parameter's name is letters, digits, '_' and '-', and begins with a letter or '_'"
            top.mistakes.append(outer.word_refusal(name, why))
            continue
        parameters[name] = read_parameter(name, section)
    return parameters


def read_parameter(name: str, section: Section) -> Parameter:
    """The parameter that ``section`` describes."""
    section.allow(tuple(schema()["definitions"]["parameter"]["properties"]))
    default = section.attempt(lambda: section.value("default"), None)
    enum: list[Any] = []
    enum = section.attempt(lambda: _enum(section), enum)
    example = default if default is not None else next(iter(enum), None)
    usual = _TYPE_OF.get(type(example), "string")
    kind = section.attempt(lambda: section.choice("type", TYPES, usual), usual)
    return Parameter(
        name=name,
        type=kind,
        description=section.attempt(lambda: section.text("description"), ""),
        default=default,
        minimum=section.attempt(lambda: section.number("minimum"), None),
        maximum=section.attempt(lambda: section.number("maximum"), None),
        enum=tuple(enum),
        required=section.attempt(lambda: section.flag("required"), False),
        format=section.attempt(lambda: _only_for(section, "format", kind, "string", _format), ""),
        switch=section.attempt(lambda: _only_for(section, "switch", kind, "boolean", Section.flag), False),
    )


def _enum(section: Section) -> list[Any]:
    enum = section.value("enum")
    if enum is not None and not isinstance(enum, list):
        raise section.refusal("enum", "it must be a list")
    return enum or []


def _format(section: Section, word: str) -> str:
    return section.choice(word, FORMATS, "") if word in section else ""


def _only_for(section: Section, word: str, kind: str, wanted: str, read: Callable[[Section, str], T]) -> T:
    """What ``read`` finds at ``word``, which only parameters of type ``wanted`` can have."""
    if word in section and kind != wanted:
        raise section.refusal(word, f"it is for a parameter of type {wanted}, not {kind}")
    return read(section, word)


def _passable(top: Section, style: str, parameters: dict[str, Parameter]) -> None:
    """Refuse parameters that can't be passed as environment variables, where they shall be."""
    if style == "environment":
        try:
            variables(dict.fromkeys(parameters, ""))
        except UsageError as error:
            raise top.refusal("pass_parameters", error.message, error.hint) from None


def _environment(top: Section) -> dict[str, str]:
    section = top.section("environment")
    found = {}
    for name in section.words() if section else ():
        assert section is not None
        value = section.attempt(lambda name=name: _variable(section, name), None)  # type: ignore[misc]
        if value is not None:
            found[name] = value
    return found


def _variable(section: Section, name: str) -> str:
    if not _VARIABLE_NAME.match(name):
        raise section.word_refusal(name, "a variable's name is letters, digits and '_', and begins with no digit")
    value = section.value(name)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise section.refusal(name, "a variable's value must be text or a number", "Put it in quotes")
    return str(value)


def _resources(top: Section) -> Resources:
    section = top.section("resources")
    if section is None:
        return Resources()
    words = tuple(schema()["properties"]["resources"]["properties"])
    section.allow(words)
    found = {word: section.attempt(lambda word=word: _resource(section, word), None) for word in words}  # type: ignore[misc]
    if found["gpu_memory"] is not None and not found["gpus"]:
        raise section.refusal("gpu_memory", "it is what each of the GPUs must have free", "Say how many: gpus: 1")
    return Resources(**found)


def _resource(section: Section, word: str) -> Any:
    try:
        return parsed(word, section.value(word))
    except UsageError as error:
        raise section.refusal(word, error.message, error.hint) from None


def _metrics(top: Section) -> tuple[str, ...]:
    """Patterns, each with a named group that is a metric."""
    patterns = top.texts("metrics", "a pattern")
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
