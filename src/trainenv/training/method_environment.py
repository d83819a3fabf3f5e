"""The environment that a stage of a method runs in: one that is there, or one that a file beside the method describes.

Of a file (``conda_env: environment.yml``) an environment is made when a task needs it for the first
time. Its name ends in a hash of what the file says, so the same content is never built twice, and
another content never runs in what the former one made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.errors import EnvironmentBusyError, EnvironmentExistsError, EnvironmentNotFoundError, MethodError
from trainenv.progress import Reporter
from trainenv.settings import Settings
from trainenv.training.method import Method

if TYPE_CHECKING:
    from trainenv.environments.specification import Specification

_SUFFIXES = (".yml", ".yaml", ".txt", ".toml", ".lock")
_USUAL_FILES = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml", "pixi.lock", "requirements.txt")
_NAMED = re.compile(rb"^name:[ \t]*['\"]?([A-Za-z0-9_][A-Za-z0-9_.+-]{0,100})", re.MULTILINE)
_INCLUDED = re.compile(rb"^[\s-]*?(?:-r|-c|--requirement|--constraint)[ =]*([^\s#]+)", re.MULTILINE)
_PYTHON_ENVIRONMENT = re.compile(rb"^(?:python|build_dependencies):", re.MULTILINE)
_HASH_DIGITS = 12


def file_of(method: Method, conda_env: str) -> Path | None:
    """The file that ``conda_env`` means; None if it is the name of an environment."""
    file = method.folder / conda_env
    return file if "/" in conda_env or conda_env.endswith(_SUFFIXES) or file.is_file() else None


def find(
    settings: Settings, method: Method, stage: str, reporter: Reporter, conda_env: str | None = None
) -> tuple[str, Path]:
    """Name and prefix of the environment for ``stage``, which is ``conda_env`` where that is given.

    Makes it if it is described by a file and not there yet; who comes meanwhile waits. Raises
    ``MethodError`` if the method names none, ``EnvironmentNotFoundError`` with the command that makes it, and
    what ``build.create`` raises.
    """
    from trainenv.environments import environment

    name = conda_env or method.environment_of(stage)
    if name is None:
        raise MethodError(
            f"stage {stage!r} of method {method.name!r} names no environment",
            hint=f"Add 'conda_env: NAME' to {method.file} or give --conda-env NAME",
        )
    if conda_env is None and (file := file_of(method, name)) is not None:
        name = name_for(file)
        _make(settings, name, file, reporter)
    try:
        return name, environment.get(settings, name).prefix
    except EnvironmentNotFoundError:
        raise EnvironmentNotFoundError(missing(method, name)) from None


def names_in(method: Method) -> set[str]:
    """The environments that the method names, those of its files by the names that they have or would get."""
    found = set()
    for name in {method.conda_env, *(stage.conda_env for stage in method.stages.values())} - {None}:
        assert name is not None
        file = file_of(method, name)
        if file is None:
            found.add(name)
        elif file.is_file():
            found.add(name_for(file))
    return found


def missing(method: Method, name: str) -> str:
    """What is said of an environment that is not there: with the command that makes it."""
    usual = next((method.folder / file for file in _USUAL_FILES if (method.folder / file).is_file()), None)
    of_what = f"-f {usual}" if usual else "python"
    return f"environment {name!r} does not exist. Make it: trainenv create -n {name} {of_what}"


def name_for(file: Path) -> str:
    """The name of the environment that ``file`` describes: its own name for it, and a hash of its content.

    The content of requirement files that it includes counts as well. Raises ``MethodError``.
    """
    content = _content(file)
    total = hashlib.sha256(content)
    for included in _included(file, content, {file.resolve()}):
        total.update(included)
    named = _NAMED.search(content)
    stem = re.sub(r"[^A-Za-z0-9_.+-]", "_", file.stem).lstrip(".+-")
    return f"{named[1].decode() if named else stem or 'env'}-{total.hexdigest()[:_HASH_DIGITS]}"


def specified(file: Path) -> Specification:
    """What ``file`` describes; paths in it begin where it lies. Raises ``MethodError`` or ``SpecificationError``."""
    from trainenv.environments import specification

    if _PYTHON_ENVIRONMENT.search(_content(file)):
        from trainenv.training import mlproject

        if (found := mlproject.python_environment(file)) is not None:
            return found
    return specification.read_file(file, folder=file.parent)


def _make(settings: Settings, name: str, file: Path, reporter: Reporter) -> None:
    """Make the environment, unless it is there; who is making it already is waited for, what runs in it then is not."""
    from trainenv import locks

    def is_ready() -> bool:
        return (settings.prefix_of(name) / "conda-meta").is_dir() and not locks.is_changed_now(settings, name)

    if is_ready():
        return
    from trainenv.environments import build

    reporter.notice(f"making environment {name} of {file}, once")
    manner = build.Manner(if_busy=locks.IfBusy(wait=True, tell=reporter.notice, until=is_ready))
    try:
        build.create(settings, name, specified(file), reporter, manner)
    except (EnvironmentBusyError, EnvironmentExistsError):
        if not is_ready():
            raise


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MethodError(
            f"{file} can't be read", cause=error.strerror or str(error), hint="conda_env names it as a file"
        ) from None


def _included(file: Path, content: bytes, seen: set[Path]) -> Iterator[bytes]:
    for match in _INCLUDED.finditer(content):
        other = (file.parent / match[1].decode(errors="replace")).resolve()
        if other in seen or not other.is_file():
            continue
        seen.add(other)
        more = _content(other)
        yield more
        yield from _included(other, more, seen)
