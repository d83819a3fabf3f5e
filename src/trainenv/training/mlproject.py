"""Reads a folder with MLflow's ``MLproject`` file as a method.

Its entry points are stages, each with its own parameters: ``main`` is stage ``train``, the others keep their
names. ``conda_env`` and ``python_env`` are files beside it, of which an environment is made when it is first
needed. Commands run in a shell, in the project's folder. ``docker_env`` is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.errors import SpecificationError
from trainenv.training import command_template
from trainenv.training.method import MLPROJECT, Method, Stage
from trainenv.training.method_yaml import MethodFileError, Section, read
from trainenv.training.parameters import Parameter, as_text, closest

if TYPE_CHECKING:
    from trainenv.environments.specification import Specification

_TYPES = {"string": "string", "float": "number", "int": "integer", "integer": "integer"}
_TRAIN, _MAIN = "train", "main"
_NO_ENVIRONMENT = ("docker_env", "databricks_spark_job_spec")


def read_all(folder: Path) -> tuple[Method | None, list[MethodFileError], Section | None]:
    """The method in ``folder``, as ``method_file.read_all`` gives it."""
    path = folder / MLPROJECT
    mistakes: list[MethodFileError] = []
    try:
        sha256, top = read(path, mistakes)
    except MethodFileError as mistake:
        return None, [mistake], None
    for word in _NO_ENVIRONMENT:
        if word in top:
            mistakes.append(top.word_refusal(word, "it can't be run here", "Name a conda_env or a python_env"))
    stages: dict[str, Stage] = {}
    stages = top.attempt(lambda: _stages(top), stages)
    method = Method(
        name=folder.name,
        folder=folder,
        sha256=sha256,
        file_name=MLPROJECT,
        description=top.attempt(lambda: top.text("name"), ""),
        type="MLflow project",
        conda_env=top.attempt(lambda: _environment(top), None),
        stages=stages,
        parameters=(stages[_TRAIN].parameters or {}) if _TRAIN in stages else {},
    )
    return (None if mistakes else method), mistakes, top


def entry_point(top: Section, stage: str) -> Section | None:
    """The entry point in the file that is ``stage``."""
    entries = top.section("entry_points")
    if entries is None:
        return None
    name = _MAIN if stage == _TRAIN and _TRAIN not in entries else stage
    return entries.section(name)


def python_environment(file: Path) -> Specification | None:
    """What a ``python_env.yaml`` describes; None if ``file`` is none. Raises ``SpecificationError``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from trainenv.environments import specification

    try:
        found = YAML(typ="safe").load(file)
    except (YAMLError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(found, dict) or not {"python", "build_dependencies"} & found.keys():
        return None
    lines: list[str] = []
    for word in ("build_dependencies", "dependencies"):
        listed = found.get(word) or []
        if not isinstance(listed, list) or not all(isinstance(line, str) for line in listed):
            raise SpecificationError(f"{file}: {word} must be a list of requirements")
        lines += [line for line in listed if word == "dependencies" or not line.startswith("pip")]
    python = found.get("python")
    specs = [f"python={python}"] if python else ["python"]
    return specification.gather(specs).merged(specification.of_requirements(lines, file.parent))


def _environment(top: Section) -> str | None:
    """The file, always as a path: MLflow takes no names of environments."""
    given = [word for word in ("conda_env", "python_env") if word in top]
    if len(given) > 1:
        raise top.refusal(given[1], "it names conda_env as well", "Keep one of them")
    if not given:
        return None
    file = top.text(given[0])
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise top.refusal(given[0], "it must be a file in the project's folder")
    return f"./{file.removeprefix('./')}"


def _stages(top: Section) -> dict[str, Stage]:
    stages = {}
    for name, section in top.sections("entry_points"):
        parameters: dict[str, Parameter] = {}
        parameters = section.attempt(lambda s=section: _parameters(s), parameters)  # type: ignore[misc]
        template = section.attempt(lambda s=section, p=parameters: _command(s, p), "")  # type: ignore[misc]
        stages[name] = Stage(name, template=template, parameters=parameters)
    if _MAIN in stages and _TRAIN not in stages:
        main = stages.pop(_MAIN)
        stages = {_TRAIN: Stage(_TRAIN, template=main.template, parameters=main.parameters), **stages}
    return stages


def _parameters(entry: Section) -> dict[str, Parameter]:
    section = entry.section("parameters")
    found = {}
    for name in section.words() if section else ():
        assert section is not None
        parameter = section.attempt(lambda s=section, n=name: _parameter(s, n), None)  # type: ignore[misc]
        if parameter is not None:
            found[name] = parameter
    return found


def _parameter(section: Section, name: str) -> Parameter:
    """``name: type``, or ``name: {type: …, default: …}``. What has no default must be given."""
    value = section.value(name)
    words = {"type": value} if isinstance(value, str) else value
    if not isinstance(words, dict) or not isinstance(words.get("type", ""), str):
        raise section.refusal(name, "it must be a type, or a mapping with type and default")
    given = words.get("type", "string")
    default = words.get("default")
    kind = _TYPES.get(given, "string")  # MLflow takes a type that it does not know for text.
    if default is not None:
        default = as_text(default) if kind == "string" else default
    return Parameter(
        name,
        type=kind,
        default=default,
        required=default is None,
        format=given if given in ("path", "uri") else "",
    )


def _command(entry: Section, parameters: dict[str, Parameter]) -> str:
    template = entry.text("command")
    if not template.strip():
        raise entry.refusal("command", "an entry point needs one")
    try:
        unknown = [name for name in command_template.fields(template) if name not in parameters]
    except ValueError as error:
        raise entry.refusal("command", str(error)) from None
    if unknown:
        raise entry.refusal("command", f"{{{unknown[0]}}} is no parameter of it", closest(unknown[0], list(parameters)))
    return template
