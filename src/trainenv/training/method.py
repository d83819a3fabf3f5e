"""A training method: code, parameters, and the environment that each of its stages runs in.

A method is a folder ``methods/NAME/`` with a ``method.yaml`` (read in ``method_file``) and its code.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from trainenv.errors import MethodError, UsageError
from trainenv.settings import checked_name
from trainenv.training import command_template, passing
from trainenv.training.parameters import Parameter, as_text, closest
from trainenv.training.passing import STYLES
from trainenv.training.resources import Resources

FILE_NAME = "method.yaml"
MLPROJECT = "MLproject"
STAGES = ("train", "save", "infer", "deploy")


@dataclass(frozen=True)
class Stage:
    """A step of a method's life: a ``file`` of the method's folder, a ``command``, or a ``template`` of one.

    ``parameters`` are its own, in place of the method's; None means that it takes these. ``outputs`` are
    patterns of files that it must leave in the task's folder of outputs.
    """

    name: str
    file: str | None = None
    command: tuple[str, ...] = ()
    template: str | None = None
    conda_env: str | None = None
    parameters: Mapping[str, Parameter] | None = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """What ``method.yaml`` or ``MLproject`` says. ``type`` is any word; ``sha256`` is the hash of the file read.

    ``pass_parameters`` is one of ``passing.STYLES``. ``metrics`` are the patterns of lines in which the code
    prints metrics in a way of its own.
    """

    name: str
    folder: Path
    sha256: str
    description: str = ""
    type: str = ""
    conda_env: str | None = None
    stages: Mapping[str, Stage] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    pass_parameters: str = STYLES[0]
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    metrics: tuple[str, ...] = ()
    file_name: str = FILE_NAME
    error: ClassVar[None] = None

    @property
    def file(self) -> Path:
        return self.folder / self.file_name

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises ``MethodError`` if the method has none."""
        try:
            return self.stages[name]
        except KeyError:
            raise MethodError(
                f"method {self.name!r} has no stage {name!r}", hint=closest(name, list(self.stages))
            ) from None

    def environment_of(self, stage: str) -> str | None:
        """The name of the environment that ``stage`` runs in, if the method says one."""
        return self.stage(stage).conda_env or self.conda_env

    @property
    def environments(self) -> list[str]:
        """What its stages name, each once."""
        named = [self.environment_of(stage) for stage in self.stages]
        return list(dict.fromkeys(name for name in named if name is not None))

    def parameters_of(self, stage: str) -> Mapping[str, Parameter]:
        """The parameters that ``stage`` takes."""
        own = self.stage(stage).parameters if self.stages else None
        return self.parameters if own is None else own

    def argv(self, stage: str, prefix: Path, parameters: Mapping[str, object]) -> list[str]:
        """The command of ``stage`` in the environment at ``prefix``, with parameters as it takes them.

        A Python file runs with the environment's own interpreter. Raises ``MethodError`` if a file
        is missing. What only a task has stands there as words of ``passing``.
        """
        chosen = self.stage(stage)
        if chosen.template is not None:
            values = {name: passing.in_command(value) for name, value in parameters.items()}
            return ["bash", "-c", command_template.render(chosen.template, values)]
        arguments = passing.arguments(self.pass_parameters, self.parameters_of(stage), parameters)
        if chosen.file is None:
            return [*chosen.command, *arguments]
        file = self.folder / chosen.file
        if not file.is_file():
            raise MethodError(f"{self.file} names {chosen.file!r} for {stage}", cause=f"{file} is not there")
        if file.suffix == ".sh":
            return ["bash", str(file), *arguments]
        return [str(prefix / "bin" / "python"), str(file), *arguments]

    def variables(self, parameters: Mapping[str, object]) -> dict[str, str]:
        """The environment variables that the code gets."""
        passed = passing.variables(parameters) if self.pass_parameters == "environment" else {}
        return {**self.environment, **passed}

    def command_line(self, stage: str) -> str:
        """What starts ``stage``, ready to run where every parameter has a default."""
        words = ["trainenv", "train", self.name, *([] if stage == STAGES[0] else ["--stage", stage])]
        for name, parameter in self.parameters_of(stage).items():
            if parameter.default is not None:
                words += ["--set", f"{name}={as_text(parameter.default)}"]
            elif parameter.required:
                words += ["--set", f"{name}={name.upper()}"]
        return shlex.join(words)

    def to_json(self) -> dict[str, object]:
        """The method as ``trainenv method show --json`` prints it."""
        return {
            "name": self.name,
            "description": self.description,
            "type": self.type,
            "conda_env": self.conda_env,
            "environments": self.environments,
            "folder": str(self.folder),
            "stages": {
                stage.name: {
                    "conda_env": self.environment_of(stage.name),
                    "command": stage.template or shlex.join(stage.command) or None,
                    "file": stage.file,
                    "parameters": {
                        name: parameter.to_json() for name, parameter in self.parameters_of(stage.name).items()
                    },
                    "outputs": list(stage.outputs),
                    "command_line": self.command_line(stage.name),
                }
                for stage in self.stages.values()
            },
            "parameters": {name: parameter.to_json() for name, parameter in self.parameters.items()},
            "pass_parameters": self.pass_parameters,
            "environment": dict(self.environment),
            "resources": self.resources.to_json(),
            "metrics": list(self.metrics),
            "error": None,
        }


@dataclass(frozen=True)
class BrokenMethod:
    """A method whose ``method.yaml`` can't be used; ``error`` says why, in one line."""

    name: str
    folder: Path
    error: str
    type: ClassVar[str] = ""
    description: ClassVar[str] = ""
    environments: ClassVar[Sequence[str]] = ()

    def to_json(self) -> dict[str, object]:
        """What ``trainenv method list --json`` prints of it."""
        return {"name": self.name, "folder": str(self.folder), "error": self.error}


def load_method(methods_dir: Path, name: str) -> Method:
    """The method of this name. Raises ``MethodError`` if it is missing or its file is wrong."""
    from trainenv.training.method_file import read_method

    return read_method(folder_of(methods_dir, name))


def list_methods(methods_dir: Path) -> list[Method | BrokenMethod]:
    """Every method by name; one with a wrong file or folder's name does not hide the others."""
    from trainenv.training.method_file import read_method

    methods: list[Method | BrokenMethod] = []
    for folder in _folders(methods_dir):
        try:
            checked_name(folder.name, "method")
            methods.append(read_method(folder))
        except (MethodError, UsageError) as error:
            methods.append(BrokenMethod(folder.name, folder, str(error)))
    return methods


def folder_of(methods_dir: Path, name: str) -> Path:
    """The folder of the method of this name. Raises ``MethodError`` if there is none."""
    folder = methods_dir / checked_name(name, "method")
    if not any((folder / file).is_file() for file in (FILE_NAME, MLPROJECT)):
        known = [found.name for found in _folders(methods_dir)]
        raise MethodError(
            f"no method {name!r} in {methods_dir}", hint=closest(name, known) or "There are no methods there yet"
        )
    return folder


def _folders(methods_dir: Path) -> list[Path]:
    files = [file for name in (FILE_NAME, MLPROJECT) for file in methods_dir.glob(f"*/{name}") if file.is_file()]
    return sorted({file.parent for file in files})
