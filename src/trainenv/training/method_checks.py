"""Everything that would keep a method from running, found at once, each with file, line and column."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainenv.errors import ParameterError, TrainenvError
from trainenv.training import method_environment, mlproject
from trainenv.training.method import MLPROJECT, Method, Stage, folder_of
from trainenv.training.method_file import read_all, read_parameter
from trainenv.training.method_yaml import Section
from trainenv.training.parameters import Parameter, as_text


def problems(methods_dir: Path, name: str, environments: Mapping[str, Path]) -> list[str]:
    """What is wrong with method ``name``, in words; empty if nothing is.

    ``environments`` are the prefixes of those that there are, by name. Raises ``MethodError`` if there is
    no such method.
    """
    method, mistakes, top = read_all(folder_of(methods_dir, name))
    found = [(mistake.place, str(mistake)) for mistake in mistakes]
    if method is not None:
        assert top is not None
        found += [
            (place, f"{method.file}:{place[0]}:{place[1]}: {what}") for place, what in _of(method, top, environments)
        ]
    return [what for _, what in sorted(found)]


def _of(method: Method, top: Section, environments: Mapping[str, Path]) -> Iterator[tuple[tuple[int, int], str]]:
    if not method.stages:
        yield (1, 1), "it has no stage: name its code with 'file: train.py'"
    for stage in method.stages.values():
        yield from _of_stage(method, stage, _section_of(method, stage, top), top, environments)
    if method.file_name == MLPROJECT:
        return
    yield from _of_parameters(top)
    for stage in method.stages.values():
        if stage.parameters is not None:
            yield from _of_parameters(_section_of(method, stage, top))


def _section_of(method: Method, stage: Stage, top: Section) -> Section:
    """Where the file says what ``stage`` is."""
    if method.file_name == MLPROJECT:
        return mlproject.entry_point(top, stage.name) or top
    stages = top.section("stages")
    return (stages.section(stage.name) if stages is not None else None) or top


def _of_parameters(owner: Section) -> Iterator[tuple[tuple[int, int], str]]:
    for name, section in owner.sections("parameters"):
        for word, what in _of_parameter(read_parameter(name, section)):
            yield section.place(word), f"parameter {name}: {what}"


def _of_stage(
    method: Method, stage: Stage, section: Section, top: Section, environments: Mapping[str, Path]
) -> Iterator[tuple[tuple[int, int], str]]:
    if stage.file is not None and not (method.folder / stage.file).is_file():
        yield section.place("file"), f"stage {stage.name}: file {stage.file!r} is not in {method.folder}"
    name = method.environment_of(stage.name)
    word = "python_env" if "python_env" in top else "conda_env"
    where = (section if stage.conda_env else top).place(word)
    if name is None:
        yield section.place("file" if stage.file else "command"), f"stage {stage.name}: no conda_env is named"
        return
    if (file := method_environment.file_of(method, name)) is not None:
        try:
            method_environment.specified(file)
        except TrainenvError as error:
            yield where, f"stage {stage.name}: {error}"
        return
    if name not in environments:
        yield where, f"stage {stage.name}: {method_environment.missing(method, name)}"
    elif stage.command and not _found(stage.command[0], method.folder, environments[name]):
        what = f"stage {stage.name}: command {stage.command[0]!r} is neither in environment {name!r} nor on the PATH"
        yield section.place("command"), what


def _found(program: str, folder: Path, prefix: Path) -> bool:
    if "/" in program:
        return (folder / program).is_file()
    return (prefix / "bin" / program).is_file() or shutil.which(program) is not None


def _of_parameter(parameter: Parameter) -> Iterator[tuple[str, str]]:
    """The word in which something is wrong, and what."""
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        yield "minimum", f"minimum {as_text(low)} is over maximum {as_text(high)}"
    for value in parameter.enum:
        try:
            parameter.checked(value)
        except ParameterError as error:
            yield "enum", f"its value {as_text(value)} is refused: {error.cause}"
    if parameter.default is not None:
        try:
            parameter.checked(parameter.default)
        except ParameterError as error:
            yield "default", f"its default is refused: {error.cause}"
