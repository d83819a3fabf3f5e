"""Makes methods, and changes the environment that one names, without losing a comment of its file."""

from __future__ import annotations

import os
import secrets
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from trainenv.errors import MethodError
from trainenv.settings import checked_name
from trainenv.training.method import FILE_NAME, STAGES, Method, load_method
from trainenv.training.method_file import SCHEMA, environment_named
from trainenv.training.parameters import closest

_SKIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")
_ENVIRONMENT = "@conda_env@"


def new_method(methods_dir: Path, name: str, conda_env: str | None, source: Method | None = None) -> Method:
    """Make method ``name`` from ``source``, or from a template that trains at once with any Python.

    It runs in ``conda_env``; None leaves what ``source`` names, and the template needs one. The
    folder appears whole or not at all. Raises ``MethodError`` if it is there already.
    """
    folder = methods_dir / checked_name(name, "method")
    if os.path.lexists(folder):
        raise MethodError(f"{folder} is there already", hint="Choose another name, or remove that folder")
    if conda_env is not None:
        environment_named(conda_env)
    elif source is None:
        raise MethodError(f"method {name!r} needs an environment to run in", hint="Name one with --conda-env NAME")
    staging = methods_dir / f".new-{name}-{secrets.token_hex(4)}"
    try:
        methods_dir.mkdir(parents=True, exist_ok=True)
        if source is None:
            template = resources.files("trainenv.training") / "template"
            staging.mkdir()
            (staging / "train.py").write_text((template / "train.py").read_text())
            (staging / FILE_NAME).write_text(
                (template / FILE_NAME).read_text().replace(_ENVIRONMENT, _scalar(conda_env or ""))
            )
        else:
            shutil.copytree(source.folder, staging, symlinks=True, ignore=_SKIPPED)
            if source.file_name == FILE_NAME:
                _edit(staging / FILE_NAME, name, conda_env)
            elif conda_env is not None:
                raise _not_ours(source)
        _put_schema(methods_dir)
        staging.rename(folder)
    except OSError as error:
        raise MethodError(f"{folder} can't be made", cause=error.strerror or str(error)) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_method(methods_dir, name)


def _not_ours(method: Method) -> MethodError:
    return MethodError(
        f"{method.file} can name no environment of trainenv",
        cause="its environments are files, as MLflow has them",
        hint="Name one when it is started: trainenv train --conda-env NAME",
    )


def _put_schema(methods_dir: Path) -> None:
    """Put the schema beside the methods, where the first line of a new one's file tells editors to look."""
    content = (resources.files("trainenv.training") / SCHEMA).read_bytes()
    file = methods_dir / SCHEMA
    if file.is_file() and file.read_bytes() == content:
        return
    beside = methods_dir / f".{SCHEMA}.{secrets.token_hex(4)}"
    try:
        beside.write_bytes(content)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def set_environment(method: Method, conda_env: str, stage: str | None = None) -> Method:
    """Let ``method``, or one ``stage`` of it, run in ``conda_env``; the rest of its file stays as it is."""
    environment_named(conda_env)
    if stage is not None and stage not in STAGES:
        raise MethodError(f"there is no stage {stage!r}", hint=closest(stage, list(STAGES)))
    if stage is not None:
        method.stage(stage)
    if method.file_name != FILE_NAME:
        raise _not_ours(method)
    try:
        _edit(method.file, None, conda_env, stage)
    except OSError as error:
        raise MethodError(f"{method.file} can't be written", cause=error.strerror or str(error)) from None
    return load_method(method.folder.parent, method.name)


def _edit(file: Path, name: str | None, conda_env: str | None, stage: str | None = None) -> None:
    """Put these values into ``method.yaml``; every other character of it stays."""
    text = file.read_text()
    top = _mapping(text)
    edits = []
    if name is not None and "name" in top.values:
        edits.append(top.put("name", _scalar(name)))
    if conda_env is not None and stage is None:
        edits.append(top.put("conda_env", _scalar(conda_env)))
    elif conda_env is not None and stage is not None:
        stages = top.inner("stages")
        if stages is None or (section := stages.inner(stage)) is None:
            raise MethodError(
                f"{file} gives stage {stage} by 'file', which has no environment of its own",
                hint="Give the stage under 'stages', or set the method's environment without --stage",
            )
        edits.append(section.put("conda_env", _scalar(conda_env)))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        beside.write_text(text)
        shutil.copymode(file, beside)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


class _Mapping:
    """A mapping as it stands in ``text``; ``values`` are the nodes of its values by word."""

    def __init__(self, text: str, node: Any) -> None:
        self._text = text
        self._node = node
        self.values = {key.value: value for key, value in node.value}

    def inner(self, word: str) -> _Mapping | None:
        """The mapping at ``word``, if there is one."""
        node = self.values.get(word)
        return _Mapping(self._text, node) if node is not None and node.id == "mapping" else None

    def put(self, word: str, value: str) -> tuple[int, int, str]:
        """The edit (start, end, new text) that lets ``word`` be ``value``."""
        if word in self.values:
            start, end = (mark.index for mark in (self.values[word].start_mark, self.values[word].end_mark))
            if start == end:  # No value: where YAML sees one is not behind the colon.
                key = next(key for key, _ in self._node.value if key.value == word)
                start = end = self._text.index(":", key.end_mark.index) + 1
                value = f" {value}"
            return start, end, value
        if not self._node.value:
            return self._node.start_mark.index, self._node.end_mark.index, f"{{{word}: {value}}}"
        first = self._node.value[0][0].start_mark
        behind = ", " if self._node.flow_style else "\n" + " " * first.column
        return first.index, first.index, f"{word}: {value}{behind}"


def _scalar(name: str) -> str:
    """``name`` in YAML: in quotes where it would be a number or a truth otherwise."""
    from ruamel.yaml import YAML

    return name if YAML(typ="safe").load(name) == name else f'"{name}"'


def _mapping(text: str) -> _Mapping:
    from ruamel.yaml import YAML

    return _Mapping(text, YAML(typ="rt").compose(text))
