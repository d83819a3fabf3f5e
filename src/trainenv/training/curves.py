"""What tasks measured, as curves: for each metric the values of each task over the step or epoch that they state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainenv.training import metrics
from trainenv.training.task import Task

_LINEAR_DECADES = 1.5


@dataclass(frozen=True)
class Curve:
    """What ``task`` (its number among those asked for) measured of one metric.

    ``points`` are (place, value), where the place is the record's number if records state no ``position``.
    """

    task: int
    label: str
    position: str | None
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Panel:
    """One metric of all tasks that have it."""

    name: str
    curves: tuple[Curve, ...]

    @property
    def positions(self) -> str:
        """What the places are, in words."""
        return " or ".join(sorted({curve.position or "record" for curve in self.curves}))

    @property
    def values(self) -> list[float]:
        return [value for curve in self.curves for _, value in curve.points if value is not None]

    @property
    def logarithmic(self) -> bool:
        """Whether the values span decades, so that a logarithmic scale shows more."""
        values = self.values
        return bool(values) and min(values) > 0 and max(values) / min(values) > 10**_LINEAR_DECADES


def panels(tasks: Sequence[Task]) -> list[Panel]:
    """A panel for each metric, in the order in which they come."""
    records = [metrics.read(str(task.metrics_file)) for task in tasks]
    names = dict.fromkeys(name for each in records for record in each for name in record)
    labels = _labels(tasks)
    found = []
    for name in names:
        if name in metrics.POSITIONS:
            continue
        curves = [
            Curve(number, labels[number], _position(own[0][1]), tuple((_place(r, i), r[name]) for i, r in own))
            for number, each in enumerate(records)
            if (own := [(index, record) for index, record in enumerate(each) if name in record])
        ]
        found.append(Panel(name, tuple(curves)))
    return found


def _labels(tasks: Sequence[Task]) -> list[str]:
    """What each task is called: its name, else its method and environment, with its id where several are the same."""
    plain = [task.name or f"{task.method} ({task.conda_env})" for task in tasks]
    return [
        label if plain.count(label) == 1 else f"{label}, {task.id}" for label, task in zip(plain, tasks, strict=True)
    ]


def _position(record: metrics.Metrics) -> str | None:
    return next((name for name in metrics.POSITIONS if record.get(name) is not None), None)


def _place(record: metrics.Metrics, index: int) -> float:
    position = _position(record)
    value = record[position] if position else None
    return index if value is None else value
