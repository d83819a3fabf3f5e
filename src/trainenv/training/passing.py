"""How a method's code gets its parameters: as options, a file or environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainenv.errors import UsageError
from trainenv.training import record
from trainenv.training.parameters import Parameter, as_text

STYLES = ("--key=value", "--key value", "json", "environment", "deepextension")

TASK_ID = "{task_id}"
OUTPUTS = "{outputs}"
PARAMETERS = "{parameters}"
"""What stands for the task's id, its folder of outputs and its ``parameters.json`` until there is a task."""

_NOT_PARAMETERS = (
    r"(?:PATH|HOME|USER|SHELL|PWD|LANG|TERM|TMPDIR|(?:LOCAL_)?RANK|WORLD_SIZE|MASTER_(?:ADDR|PORT)"
    r"|PYTHON.*|(?:LD|LC|CONDA|CUDA|TRAINENV)_.*)\Z"
)


def arguments(style: str, declared: Mapping[str, Parameter], values: Mapping[str, object]) -> list[str]:
    """The words that follow the command."""
    if style == "json":
        return [PARAMETERS]
    if style == "environment":
        return []
    found = []
    if style == "deepextension":
        values = {"train_id": TASK_ID, "seq": 1, **values}
    for name, value in values.items():
        if name in declared and declared[name].switch:
            found += [f"--{name}"] if value else []
        elif style == "deepextension" and isinstance(value, bool):
            found.append(f"--{name}={value}")  # Python's own word, as the service writes it.
        elif style == "--key value":
            found += [f"--{name}", as_text(value)]
        else:
            found.append(f"--{name}={as_text(value)}")
    return found


def in_command(value: object) -> str:
    """``value`` as a command takes it in the place of its name: a whole number without a point."""
    return as_text(int(value)) if isinstance(value, float) and value.is_integer() else as_text(value)


def variables(values: Mapping[str, object]) -> dict[str, str]:
    """``values`` as environment variables: ``learning-rate`` is ``LEARNING_RATE``.

    Raises ``UsageError`` for a parameter whose variable means something else, and for two with the same.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        variable = name.upper().replace("-", "_")
        if re.match(_NOT_PARAMETERS, variable):
            raise UsageError(f"parameter {name!r} can't be variable {variable}, which has a meaning of its own")
        if variable in found:
            raise UsageError(f"two parameters would be variable {variable}", hint="Give one another name")
        found[variable] = as_text(value)
    return found


def meanings(task_id: str, folder: Path) -> dict[str, str]:
    """What the words mean that stand for what only a task has."""
    outputs, parameters = folder / record.OUTPUTS, folder / record.PARAMETERS
    return {TASK_ID: task_id, OUTPUTS: str(outputs), PARAMETERS: str(parameters)}


def expanded(value: Any, words: Mapping[str, str]) -> Any:
    """``value``, of whatever JSON has, with each of ``words`` in its texts replaced."""
    if isinstance(value, str):
        for word, meant in words.items():
            value = value.replace(word, meant)
        return value
    if isinstance(value, list):
        return [expanded(each, words) for each in value]
    if isinstance(value, dict):
        return {name: expanded(each, words) for name, each in value.items()}
    return value
