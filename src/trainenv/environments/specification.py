"""What was asked for: conda specs, channels and PyPI requirements, read from files and arguments.

A file is recognised by its content, never by its name: an ``environment.yml`` handed over as
requirements is taken as what it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.channels.credentials import addresses_in
from trainenv.credentials import without_credentials
from trainenv.environments import conda_list, lockfiles, pyproject, requirement_lines
from trainenv.environments.locked import LockedEnvironment
from trainenv.environments.records import canonical_name
from trainenv.environments.requirement_lines import Place, RequirementLine
from trainenv.errors import SpecificationError
from trainenv.settings import current_folder

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_MAX_BYTES = 10_000_000

_TOML = {
    "lock-version": "pylock.toml",
    "build-system": "pyproject.toml",
    "project": "pyproject.toml",
    "dependency-groups": "pyproject.toml",
    "tool": "pyproject.toml",
}


@dataclass(frozen=True)
class Specification:
    """What an environment shall hold.

    ``conda`` are MatchSpecs, ``channels`` in order of priority, ``requirements`` what pip's format
    says. ``projects`` are ``pyproject.toml`` files with their ``extras`` and ``groups`` that are wanted.
    ``locked`` says exactly what to install. ``requires_python`` is the version that files say they are for.
    ``folder`` is where uv runs, and looks for its own settings. ``name`` and ``variables`` are what an
    ``environment.yml`` gives, ``files`` where these lie.
    """

    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    requirements: tuple[RequirementLine, ...] = ()
    projects: tuple[Path, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[tuple[Path, str], ...] = ()
    requires_python: str | None = None
    locked: LockedEnvironment | None = None
    folder: Path = field(default_factory=lambda: Path(current_folder()))
    name: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def wants_pypi(self) -> bool:
        return bool(self.requirements or self.projects)

    @property
    def locks_conda(self) -> bool:
        """Whether its conda packages are locked, not to be solved for."""
        return self.locked is not None and "conda" in self.locked.halves

    @property
    def locks_pypi(self) -> bool:
        """Whether its PyPI packages are locked, not to be resolved."""
        return self.locked is not None and "pypi" in self.locked.halves

    def merged(self, other: Specification) -> Specification:
        """Both together; ``self`` comes first."""
        return Specification(
            conda=self.conda + other.conda,
            channels=self.channels + tuple(name for name in other.channels if name not in self.channels),
            requirements=self.requirements + other.requirements,
            projects=self.projects + other.projects,
            extras=self.extras + other.extras,
            groups=self.groups + other.groups,
            requires_python=",".join(filter(None, (self.requires_python, other.requires_python))) or None,
            locked=self.locked.merged(other.locked) if self.locked and other.locked else self.locked or other.locked,
            folder=self.folder if self.requirements else other.folder,
            name=self.name or other.name,
            variables={**self.variables, **other.variables},
            files=self.files + other.files,
        )


def gather(
    specs: Sequence[str] = (),
    files: Iterable[Path] = (),
    channels: Sequence[str] = (),
    platform: str | None = None,
) -> Specification:
    """One specification from command-line specs, files of any kind, and channels that come first.

    A lock is read for ``platform``, by default this machine's.
    """
    found = Specification(conda=tuple(checked_spec(spec, "on the command line") for spec in specs))
    for file in files:
        found = found.merged(read_file(file, platform))
    return Specification(channels=tuple(channels)).merged(found)


def of_requirements(lines: Iterable[str], folder: Path | None = None) -> Specification:
    """What ``lines`` in pip's format ask for that stand in no file; paths in them begin at ``folder``.

    By default that is the current one.
    """
    folder = folder or Path(current_folder())
    placed = ((line, None) for line in lines)
    requirements = requirement_lines.of_lines(placed, folder, _load_requirements, "the command line")
    return Specification(requirements=requirements, folder=folder)


def checked_spec(spec: str, where: str) -> str:
    """``spec``, if it is a conda MatchSpec; else ``SpecificationError`` that says ``where`` it stands."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        MatchSpec(spec, strict=False)
    except (InvalidMatchSpecError, ValueError) as error:
        raise SpecificationError(
            f"{spec!r} {where} is not a package specification",
            cause=str(error),
            hint="Write it as NAME, NAME=VERSION or 'NAME>=VERSION'",
        ) from None
    return spec


def read_file(file: Path, platform: str | None = None, *, folder: Path | None = None) -> Specification:
    """The specification in ``file``, whatever the file is called; a lock for ``platform``, by default this machine.

    Paths that requirements name begin at ``folder``, by default the current one, as with pip.
    """
    file, chosen = pyproject.split_extras(file)
    text = _read_text(file)
    if not text.strip():
        raise SpecificationError(f"{file} is empty", hint="Name the file that lists the packages")
    kind = _recognise(text)
    if kind == "environment.yml":
        return _read_environment_yml(file, text)
    if kind == "requirements.txt":
        folder = folder or Path(current_folder())
        requirements = requirement_lines.read(text, _absolute(file), folder, _load_requirements)
        return Specification(requirements=requirements, folder=folder)
    if kind == "conda list":
        return _read_conda_list(_absolute(file), text)
    if kind == "pyproject.toml":
        project = pyproject.read(file, text, chosen)
        return Specification(
            projects=(_absolute(file),),
            extras=project.extras,
            groups=tuple((_absolute(file), group) for group in project.groups),
            requires_python=project.requires_python,
        )
    if kind in lockfiles.READERS:
        locked = lockfiles.read(file, text, kind, platform)
        return Specification(locked=locked, requires_python=locked.choices.requires_python if locked.choices else None)
    raise SpecificationError(
        f"{file} is a {kind}, and no specification that trainenv knows",
        hint="Give an environment.yml, a requirements.txt, a pyproject.toml or a lock",
    )


def lock_platforms(file: Path) -> list[str]:
    """The platforms that ``file`` is a lock for; empty where it names none, or is no lock."""
    text = _read_text(file)
    kind = _recognise(text)
    return lockfiles.platforms(file, text, kind) if kind in lockfiles.READERS else []


def requested_names(specification: Specification) -> list[str]:
    """The PyPI packages that the requirements name themselves, as written; URLs and paths are left out."""
    return list(dict.fromkeys(requirement.name for requirement in named_requirements(specification)))


def named_requirements(specification: Specification) -> list[Requirement]:
    """The requirements that have a name, in order; paths, editables and options are left out."""
    return [
        *(requirement for line in specification.requirements if (requirement := line.requirement)),
        *project_requirements(specification),
    ]


def project_requirements(specification: Specification) -> Iterator[Requirement]:
    """What the projects of ``specification`` depend on, with the extras and groups that are wanted."""
    for project in _projects(specification):
        from packaging.requirements import InvalidRequirement, Requirement

        for text in project.dependencies:
            with suppress(InvalidRequirement):
                yield Requirement(text)


def project_names(specification: Specification) -> set[str]:
    """The names of its projects, canonical."""
    return {canonical_name(project.name) for project in _projects(specification)}


def _projects(specification: Specification) -> Iterator[pyproject.Project]:
    for file in specification.projects:
        groups = (group for owner, group in specification.groups if owner == file)
        yield pyproject.read(file, _read_text(file), (*specification.extras, *groups))


def required_hashes(specification: Specification) -> tuple[dict[str, set[str]], bool]:
    """The sha256 that requirements allow, by canonical name, and whether any hash is asked for at all."""
    allowed: dict[str, set[str]] = {}
    required = False
    for line in specification.requirements:
        required |= bool(line.hashes or line.other_hashes) or line.option == "--require-hashes"
        if line.hashes and (requirement := line.requirement):
            allowed.setdefault(canonical_name(requirement.name), set()).update(line.hashes)
    return allowed, required


def named_sources(specification: Specification) -> list[str]:
    """Lines of the requirements that name indexes and folders of wheels, as a later install may need them."""
    option_of = {
        "--index-url": "--extra-index-url",
        "--extra-index-url": "--extra-index-url",
        "--find-links": "--find-links",
    }
    return [
        f"{option_of[line.option]} {without_credentials(line.value)}"
        for line in specification.requirements
        if line.option in option_of
    ]


def addresses(specification: Specification) -> list[str]:
    """The web addresses in the requirements and their constraints, with the secrets that they may hold."""
    found = [address for name in specification.conda for address in addresses_in(name)]
    for line in specification.requirements:
        found += addresses_in(line.value)
        if line.option == "--constraint" and (file := Path(line.value)).is_file():
            found += addresses_in(_read_text(file))
    return found


def remarks(specification: Specification) -> list[str]:
    """What is worth a notice in how the requirements are taken."""
    return [line.remark for line in specification.requirements if line.remark]


def _load_requirements(file: Path) -> str:
    """The text of a file that requirements include."""
    text = _read_text(file)
    if text.strip() and (kind := _recognise(text)) != "requirements.txt":
        raise SpecificationError(
            f"{file} is no requirements file", cause=f"it is of another kind, {kind}", hint="Name it by itself, with -f"
        )
    return text


def _absolute(file: Path) -> Path:
    return Path(os.path.abspath(file))


def _read_text(file: Path) -> str:
    try:
        if file.is_dir():
            raise SpecificationError(f"{file} is a folder", hint="Name the file in it")
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SpecificationError(f"{file} can't be read", cause=error.strerror or str(error)) from None
    is_utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    if len(raw) > _MAX_BYTES or (b"\0" in raw and not is_utf16):
        raise SpecificationError(
            f"{file} is not a specification",
            cause="it holds binary data",
            hint="Give an environment.yml or a requirements.txt",
        )
    try:
        text = raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise SpecificationError(f"{file} is not text in UTF-8", hint="Save it as UTF-8") from None
    if conflict := re.search(r"^<<<<<<< .*$", text, re.MULTILINE):
        line = text.count("\n", 0, conflict.start()) + 1
        raise SpecificationError(
            f"{file} line {line} is git's mark of a conflict",
            cause="a merge was not finished",
            hint="Finish it; a lock is best taken from one side, or made again",
        )
    return text


def _recognise(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if any(line.strip() == "@EXPLICIT" for line in lines):
        return "@EXPLICIT list"
    for line in lines:
        if match := re.match(r"\[+\s*([\w.-]+)", line):
            return _TOML.get(match[1].split(".")[0], "TOML file")
        if match := re.match(r"(lock-version|[\w-]+)\s*=\s*[\"'\[{]", line):
            return _TOML.get(match[1], "TOML file")
        break
    keys = {match[1] for line in lines if (match := re.match(r"[\"']?([A-Za-z_]+)[\"']?\s*:(\s|$)", line))}
    if "dependencies" in keys or {"name", "channels"} <= keys:
        return "environment.yml"
    if "environments" in keys and keys & {"packages", "version"}:
        return "pixi.lock"
    if "metadata" in keys and "package" in keys:
        return "conda-lock.yml"
    if text.lstrip().startswith("{"):
        return "JSON file"
    if conda_list.is_one(text, lines):
        return "conda list"
    return "YAML file" if keys else "requirements.txt"


def _read_conda_list(file: Path, text: str) -> Specification:
    specs, pinned = conda_list.read(text)
    placed = ((requirement, Place(file, number)) for requirement, number in pinned)
    return Specification(
        conda=tuple(checked_spec(spec, f"in {file}") for spec in specs),
        requirements=requirement_lines.of_lines(placed, file.parent, _load_requirements, str(file)),
        folder=file.parent,
        files=(file,),
    )


def _read_environment_yml(file: Path, text: str) -> Specification:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise SpecificationError(f"{file}{where} is not valid YAML", cause=str(error.problem)) from None
    except YAMLError as error:
        raise SpecificationError(f"{file} is not valid YAML", cause=str(error)) from None
    if not isinstance(content, dict):
        raise SpecificationError(f"{file} is not an environment.yml", cause="it is not a mapping")
    conda: list[str] = []
    requirements: list[str] = []
    for entry in _list(file, content, "dependencies"):
        if isinstance(entry, str):
            conda.append(checked_spec(entry, f"in {file}"))
        elif isinstance(entry, dict) and set(entry) == {"pip"}:
            requirements += _texts(file, entry, "pip")
        else:
            raise SpecificationError(f"{file} has a dependency that is not understood", cause=_shown(entry))
    channels = _texts(file, content, "channels")
    variables = content.get("variables") or {}
    if not isinstance(variables, dict):
        raise SpecificationError(f"variables in {file} must be a mapping")
    for key, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", str(key), re.ASCII) or not isinstance(value, (str, int, float)):
            raise SpecificationError(
                f"variables in {file} must map names to texts", cause=f"{_shown(key)} is {_shown(value)}"
            )
    name = content.get("name")
    folder = _absolute(file).parent
    return Specification(
        conda=tuple(conda),
        channels=tuple(channel for channel in channels if channel != "nodefaults"),
        requirements=requirement_lines.of_lines(
            _placed(requirements, file, text), folder, _load_requirements, str(file)
        ),
        folder=folder,
        name=None if name is None else str(name),
        variables={str(key): str(value) for key, value in variables.items()},
        files=(_absolute(file),),
    )


def _placed(requirements: Iterable[str], file: Path, text: str) -> Iterator[tuple[str, Place | None]]:
    """``requirements`` with the line of ``file`` that each stands in, where it stands in one."""
    written = {line.strip().removeprefix("- ").strip(): number for number, line in enumerate(text.splitlines(), 1)}
    for requirement in requirements:
        shown = (requirement, f'"{requirement}"', f"'{requirement}'")
        number = next((written[form] for form in shown if form in written), None)
        yield requirement, Place(_absolute(file), number) if number else None


def _list(file: Path, content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise SpecificationError(f"{key} in {file} must be a list", cause=f"it is {_shown(value)}")
    return value


def _texts(file: Path, content: dict[str, Any], key: str) -> list[str]:
    values = _list(file, content, key)
    for value in values:
        if not isinstance(value, str):
            raise SpecificationError(f"{key} in {file} must be a list of texts", cause=f"one is {_shown(value)}")
    return values


def _shown(value: object) -> str:
    """``value`` as an error names it: a file can hold anything, of any size."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
