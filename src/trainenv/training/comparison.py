"""Tasks side by side: what they were given, what they ran in, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainenv.environments.records import canonical_name
from trainenv.training import surroundings
from trainenv.training.task import Task

_FACTS: dict[str, Callable[[Task], Any]] = {
    "name": lambda task: task.name,
    "method": lambda task: task.method,
    "stage": lambda task: task.stage,
    "status": lambda task: task.outcome,
    "conda_env": lambda task: task.conda_env,
    "started": lambda task: task.started,
    "finished": lambda task: task.finished,
    "host": lambda task: task.host,
    "cpu": lambda task: task.machine.get("cpu"),
    "gpus": lambda task: ", ".join(task.machine.get("gpus", ())) or None,
    "user": lambda task: task.user,
    "code_sha256": lambda task: task.code_sha256,
    "git_commit": lambda task: task.git_commit,
    "manifest_sha256": lambda task: task.manifest_sha256,
}

Values = Mapping[str, list[Any]]


@dataclass(frozen=True)
class Comparison:
    """Each is a value for each task by name, None where it has none.

    ``packages`` are versions, and builds where these alone differ, of those packages only that are not the same in
    all tasks whose packages are known; ``metrics`` are last values.
    """

    tasks: tuple[Task, ...]
    facts: Values
    parameters: Values
    packages: Values
    metrics: Values

    def to_json(self) -> dict[str, Any]:
        return {
            "tasks": [task.id for task in self.tasks],
            "facts": self.facts,
            "parameters": self.parameters,
            "packages": self.packages,
            "metrics": self.metrics,
        }


def compared(tasks: Sequence[Task]) -> Comparison:
    """``tasks`` side by side. Raises ``TaskError`` if one is another machine's."""
    for task in tasks:
        task.require_folder()
    return Comparison(
        tuple(tasks),
        {name: [fact(task) for task in tasks] for name, fact in _FACTS.items()},
        _beside([task.parameters for task in tasks]),
        _packages(tasks),
        _beside([task.metrics for task in tasks]),
    )


def _beside(each: Sequence[Mapping[str, Any]]) -> Values:
    names = dict.fromkeys(name for values in each for name in values)
    return {name: [values.get(name) for values in each] for name in names}


def _packages(tasks: Sequence[Task]) -> Values:
    found: list[dict[str, tuple[str, str]] | None] = []
    for task in tasks:
        held = surroundings.packages_in(task.folder)
        found.append(None if held is None else {canonical_name(it.name): (it.version, it.build) for it in held})
    names = sorted({name for held in found if held is not None for name in held})
    differing: dict[str, list[Any]] = {}
    for name in names:
        known = [None if held is None else held.get(name) for held in found]
        if len({each for each, held in zip(known, found, strict=True) if held is not None}) < 2:
            continue
        versions = {each[0] for each in known if each}
        several = len(versions) == 1 and None not in known
        differing[name] = [" ".join(each) if each and several else each[0] if each else None for each in known]
    return differing
