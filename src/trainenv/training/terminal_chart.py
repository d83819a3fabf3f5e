"""Curves drawn with letters: in Braille dots, two across and four down in each cell, coloured where a terminal can.

Standard library only. Where there are no colours and several tasks, each is drawn with a letter of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from trainenv.training.curves import Curve, Panel

_ROWS = 10
_NARROWEST = 20
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_COLOURS = (36, 33, 35, 32, 34, 31, 37)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw(panels: Sequence[Panel], width: int, *, colours: bool) -> list[str]:
    """Lines of at most ``width`` characters: each panel with its scale, and below which curve is which task."""
    several = len({curve.task for panel in panels for curve in panel.curves}) > 1
    lines: list[str] = []
    for panel in panels:
        lines += [*_panel(panel, width, letters=several and not colours, colours=several and colours), ""]
    if several:
        named = {curve.task: curve.label for panel in panels for curve in panel.curves}
        for task, label in sorted(named.items()):
            mark = _coloured("━━", task) if colours else _letter(task)
            lines.append(f"{mark} {label}")
    return lines if several else lines[:-1]


def _panel(panel: Panel, width: int, *, letters: bool, colours: bool) -> Iterator[str]:
    values = panel.values
    places = [place for curve in panel.curves for place, _ in curve.points]
    yield f"{panel.name}{' (logarithmic)' if panel.logarithmic else ''}"
    if not values:
        yield "  no finite values"
        return
    scale: Callable[[float], float] = math.log10 if panel.logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    first, last = min(places), max(places)
    labels = [f"{value:.4g}" for value in (max(values), min(values))]
    margin = max(map(len, labels)) + 2
    columns = max(_NARROWEST, width - margin)
    cells: dict[tuple[int, int], tuple[int, int]] = {}  # (row, column): dots, task
    for curve in panel.curves:
        for across, down in _dots(curve, scale, (first, last), (low, high), columns):
            cell = (down // 4, across // 2)
            dots, _ = cells.get(cell, (0, 0))
            cells[cell] = (dots | _DOTS[down % 4][across % 2], curve.task)
    for row in range(_ROWS):
        label = labels[0] if row == 0 else labels[1] if row == _ROWS - 1 else ""
        drawn = ""
        for column in range(columns):
            dots, task = cells.get((row, column), (0, 0))
            letter = _letter(task) if letters else chr(0x2800 + dots)
            drawn += (_coloured(letter, task) if colours else letter) if dots else " "
        yield f"{label:>{margin - 2}} ┤{drawn.rstrip()}"
    ends = f"{first:g}", f"{last:g} {panel.positions}"
    yield " " * margin + ends[0] + ends[1].rjust(columns - len(ends[0]))


def _dots(
    curve: Curve,
    scale: Callable[[float], float],
    across: tuple[float, float],
    along: tuple[float, float],
    columns: int,
) -> Iterator[tuple[int, int]]:
    """The dots (from the left, from the top) of a curve's points and of the lines between them."""
    dots_across, dots_down = columns * 2 - 1, _ROWS * 4 - 1
    before: tuple[int, int] | None = None
    for place, value in curve.points:
        if value is None:
            before = None
            continue
        x = _part(place, *across, dots_across)
        y = dots_down - _part(scale(value), *along, dots_down)
        if before is None:
            yield x, y
        else:
            steps = max(abs(x - before[0]), abs(y - before[1]), 1)
            for step in range(1, steps + 1):
                yield before[0] + (x - before[0]) * step // steps, before[1] + (y - before[1]) * step // steps
        before = (x, y)


def _part(value: float, low: float, high: float, count: int) -> int:
    return round((value - low) / (high - low) * count) if high > low else count // 2


def _letter(task: int) -> str:
    return _LETTERS[task % len(_LETTERS)]


def _coloured(text: str, task: int) -> str:
    return f"\x1b[{_COLOURS[task % len(_COLOURS)]}m{text}\x1b[0m"
