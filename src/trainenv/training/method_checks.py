"""Everything that would keep a method from running, found at once, each with file, line and column."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainenv.errors import ParameterError, TrainenvError
from trainenv.training import method_environment
from trainenv.training.method import Method, Stage, folder_of
from trainenv.training.method_file import read_all
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
    stages = top.section("stages")
    for stage in method.stages.values():
        section = stages.section(stage.name) if stages is not None and stage.name in stages else None
        section = section or top
        yield from _of_stage(method, stage, section, top, environments)
    parameters = top.section("parameters")
    for parameter in method.parameters.values():
        assert parameters is not None
        section = parameters.section(parameter.name, optional=False)
        assert section is not None
        for word, what in _of_parameter(parameter):
            yield section.place(word), f"parameter {parameter.name}: {what}"


def _of_stage(
    method: Method, stage: Stage, section: Section, top: Section, environments: Mapping[str, Path]
) -> Iterator[tuple[tuple[int, int], str]]:
    if stage.file is not None and not (method.folder / stage.file).is_file():
        yield section.place("file"), f"stage {stage.name}: file {stage.file!r} is not in {method.folder}"
    name = method.environment_of(stage.name)
    where = (section if stage.conda_env else top).place("conda_env")
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
