"""A picture of what tasks measured: one panel a metric, one line a task."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.errors import TaskError, UsageError
from trainenv.training.curves import Curve, Panel, panels
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

    Lines run over the step or epoch that the records state, else over their number. Raises ``UsageError``
    for another suffix and ``TaskError`` if there are no metrics or the file can't be written.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output} can't be drawn", hint=f"Name a file with {' or '.join(SUFFIXES)}")
    drawn = panels(tasks)
    if not drawn:
        raise TaskError("there is nothing to draw", cause="no task has metrics yet")

    # It tells at length where its font cache is when the home folder can't be written.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(drawn), _MOST_COLUMNS)
    rows = math.ceil(len(drawn) / columns)
    methods = [task.method for task in tasks]
    styles = [methods[:index].count(method) for index, method in enumerate(methods)]
    width, height = _PANEL_INCHES
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(columns * width, rows * height + len(tasks) * _LEGEND_LINE_INCHES), layout="constrained"
        )
        FigureCanvasAgg(figure)
        places = figure.subplots(rows, columns, squeeze=False).flatten()
        handles: dict[int, tuple[str, Line2D]] = {}
        for panel, axes in zip(drawn, places, strict=False):
            for curve in panel.curves:
                handles.setdefault(curve.task, (curve.label, _line(axes, curve, styles[curve.task])))
            _finish(axes, panel)
        for axes in places[len(drawn) :]:
            axes.remove()
        labels, lines = zip(*(handles[task] for task in sorted(handles)), strict=True)
        figure.legend(lines, labels, loc="outside lower center", frameon=False)
        try:
            figure.savefig(output, dpi=144, metadata={"Date": None} if output.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise TaskError(f"{output} can't be written", cause=error.strerror or str(error)) from None


def _line(axes: Axes, curve: Curve, style_number: int) -> Line2D:
    style, width = _STYLES[style_number % len(_STYLES)]
    (line,) = axes.plot(
        [place for place, _ in curve.points],
        [math.nan if value is None else value for _, value in curve.points],
        color=_COLOURS[curve.task % len(_COLOURS)],
        linestyle=style,
        linewidth=width,
        marker="o" if len(curve.points) == 1 else None,
    )
    return line


def _finish(axes: Axes, panel: Panel) -> None:
    """Title, axes, and a logarithmic scale where the values span decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_title(panel.name, loc="left", fontweight="bold", color="#222222")
    axes.set_xlabel(panel.positions)
    if panel.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
