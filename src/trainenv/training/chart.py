"""A picture of what tasks measured: one panel a metric, one line a task."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.errors import TaskError, UsageError
from trainenv.training import metrics
from trainenv.training.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SUFFIXES = (".png", ".svg")

# Okabe and Ito's palette without its yellow: told apart with every kind of colour vision.
_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
# Runs of one method often measure the same: later ones are thinner and broken, so that the line
# below still shows. (Linestyle and width in points; dashes in multiples of the width.)
_STYLES: tuple[tuple[str | tuple[int, tuple[float, ...]], float], ...] = (
    ("-", 3.6),
    ((0, (3.0, 2.0)), 2.0),
    ((0, (1.0, 1.5)), 2.0),
    ((0, (6.0, 2.0, 1.0, 2.0)), 1.4),
)
_GREY = "#666666"
_MOST_COLUMNS = 3
_PANEL_INCHES = (5.0, 3.6)
_LEGEND_LINE_INCHES = 0.26
_LINEAR_DECADES = 1.5
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "legend.handlelength": 3.6,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "svg.hashsalt": "trainenv",
}


def draw(tasks: Sequence[Task], output: Path) -> None:
    """Draw the metrics of ``tasks`` into ``output``, a PNG or SVG file by its suffix.

    Lines are labelled ``METHOD (environment)`` and run over the step or epoch that the records
    state, else over their number. Raises ``UsageError`` for another suffix and ``TaskError`` if
    there are no metrics or the file can't be written.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output} can't be drawn", hint=f"Name a file with {' or '.join(SUFFIXES)}")
    records = [metrics.read(str(task.metrics_file)) for task in tasks]
    names = list(dict.fromkeys(name for each in records for record in each for name in _measured(record)))
    if not names:
        raise TaskError("there is nothing to draw", cause="no task has metrics yet")

    # It tells at length where its font cache is when the home folder can't be written.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(names), _MOST_COLUMNS)
    rows = math.ceil(len(names) / columns)
    labels = _labels(tasks)
    methods = [task.method for task in tasks]
    styles = [methods[:index].count(method) for index, method in enumerate(methods)]
    width, height = _PANEL_INCHES
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(columns * width, rows * height + len(tasks) * _LEGEND_LINE_INCHES), layout="constrained"
        )
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        handles: dict[str, Line2D] = {}
        for name, panel in zip(names, panels, strict=False):
            for number, (label, each) in enumerate(zip(labels, records, strict=True)):
                line = _line(panel, number, styles[number], name, each)
                if line is not None:
                    handles.setdefault(label, line)
            _finish(panel, name, records)
        for panel in panels[len(names) :]:
            panel.remove()
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", frameon=False)
        try:
            figure.savefig(output, dpi=144, metadata={"Date": None} if output.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise TaskError(f"{output} can't be written", cause=error.strerror or str(error)) from None


def _line(panel: Axes, number: int, style_number: int, name: str, records: list[metrics.Metrics]) -> Line2D | None:
    points = [(_place(record, index), record[name]) for index, record in enumerate(records) if name in record]
    if not points:
        return None
    style, width = _STYLES[style_number % len(_STYLES)]
    (line,) = panel.plot(
        [place for place, _ in points],
        [math.nan if value is None else value for _, value in points],
        color=_COLOURS[number % len(_COLOURS)],
        linestyle=style,
        linewidth=width,
        marker="o" if len(points) == 1 else None,
    )
    return line


def _finish(panel: Axes, name: str, records: Sequence[list[metrics.Metrics]]) -> None:
    """Title, axes, and a logarithmic scale where the values span decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_title(name, loc="left", fontweight="bold", color="#222222")
    positions = {_position(record) for each in records for record in each if name in record}
    panel.set_xlabel(" or ".join(sorted(position or "record" for position in positions)))
    values = [value for each in records for record in each if (value := record.get(name)) is not None]
    if values and min(values) > 0 and max(values) / min(values) > 10**_LINEAR_DECADES:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_locator(NullLocator())


def _labels(tasks: Sequence[Task]) -> list[str]:
    """``METHOD (environment)`` for each task, numbered where several would be called the same."""
    plain = [f"{task.method} ({task.conda_env})" for task in tasks]
    return [
        label if plain.count(label) == 1 else f"{label}, run {plain[: index + 1].count(label)}"
        for index, label in enumerate(plain)
    ]


def _position(record: metrics.Metrics) -> str | None:
    return next((name for name in metrics.POSITIONS if record.get(name) is not None), None)


def _place(record: metrics.Metrics, index: int) -> float:
    position = _position(record)
    value = record[position] if position else None
    return index if value is None else value


def _measured(record: metrics.Metrics) -> list[str]:
    return [name for name in record if name not in metrics.POSITIONS]
