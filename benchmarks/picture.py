"""The results as one picture: a row a case, wall time on the left, peak memory on the right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import Comparison, Measured, Sample
from benchmarks.results import Results, Spread, rounds_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN, _PEER = "#1f6feb", "#9aa4b1"
_WIDTH = 12.0
_BAR_HEIGHT = 0.36
_CASE_MARGIN = 1.0
_FOOT = 0.9
_HEAD = 0.5
_ROOM_FOR_TEXT = 1.35
_DOTS_PER_INCH = 110


def draw(results: Results, file: Path) -> None:
    """Write the picture to ``file``, in the form that its suffix names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    bars = [len(measured.case.contenders) for measured in results.cases]
    heights = [count * _BAR_HEIGHT + _CASE_MARGIN for count in bars]
    height = sum(heights) + _FOOT + _HEAD
    figure, axes = pyplot.subplots(
        len(bars),
        2,
        figsize=(_WIDTH, height),
        gridspec_kw={"height_ratios": heights, "width_ratios": (5, 2)},
        squeeze=False,
        layout=ConstrainedLayoutEngine(rect=(0, _FOOT / height, 1, 1 - _FOOT / height)),
    )
    for (left, right), measured in zip(axes, results.cases, strict=True):
        _draw_case(left, right, measured)
    figure.suptitle("trainenv beside its peers (shorter bars are better)", fontweight="bold")
    versions = ", ".join(f"{name} {value}" for name, value in results.machine.versions.items() if value != "missing")
    floor = f"of the largest process; under {results.memory_floor / 1e6:.0f} MB it can't be seen"
    foot = [
        f"Bars: median of the rounds, interleaved; whiskers: least and most. Peak memory: {floor}.",
        f"Environment: {results.environment.sentence()}",
        f"{results.machine.sentence()}; {versions}; {results.date}, load average {results.load:.2f} at the start",
    ]
    text = "\n".join(line for part in foot for line in textwrap.wrap(part, 165))
    figure.text(0.01, 0.01, text, fontsize=8, color="#444444", va="bottom")
    figure.savefig(file, dpi=_DOTS_PER_INCH)
    pyplot.close(figure)


def _draw_case(left: Axes, right: Axes, measured: Measured) -> None:
    case = measured.case
    samples = [measured.samples[contender.name] for contender in case.contenders]
    own = [contender.name.startswith("trainenv ") for contender in case.contenders]
    milliseconds = case.comparison is Comparison.DIFFERENCE
    factor, unit = (1e3, "ms") if milliseconds else (1.0, "s")
    _bars(left, own, [[sample.seconds * factor for sample in row] for row in samples], unit, _archive_sizes(samples))
    _bars(right, own, [[sample.peak_memory / 1e6 for sample in row] for row in samples], "MB", [""] * len(own))
    left.set_yticks(range(len(own), 0, -1), [contender.name for contender in case.contenders])
    right.set_yticks([])
    missing = f"; missing on this machine: {', '.join(case.missing)}" if case.missing else ""
    busy = f"others kept {measured.cores_used_by_others:.1f} cores busy"
    left.set_xlabel(f"wall time, {unit} ({rounds_of(measured)} rounds; {busy}{missing})", fontsize=8)
    right.set_xlabel("peak memory, MB", fontsize=8)
    title = left.set_title(case.title.replace("`", ""), loc="left", fontsize=10, fontweight="bold")
    title.set_in_layout(False)  # It may reach over the neighbour, whose place must not depend on it.


def _bars(axes: Axes, own: Sequence[bool], rows: Sequence[Sequence[float]], unit: str, more: Sequence[str]) -> None:
    """One bar a row of values, the first at the top, with its median and what ``more`` says behind it."""
    spreads = [Spread.of(row) for row in rows]
    places = range(len(rows), 0, -1)
    axes.barh(
        places,
        [spread.median for spread in spreads],
        xerr=[[s.median - s.least for s in spreads], [s.most - s.median for s in spreads]],
        color=[_OWN if is_own else _PEER for is_own in own],
        ecolor="#333333",
        capsize=2.5,
        height=0.66,
    )
    for place, spread, addition in zip(places, spreads, more, strict=True):
        digits = 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2
        text = f"{spread.median:.{digits}f} {unit}{addition}"
        axes.annotate(text, (spread.most, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_ylim(0.45, len(rows) + 0.55)
    axes.set_xlim(0, max(spread.most for spread in spreads) * _ROOM_FOR_TEXT)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _archive_sizes(samples: Sequence[Sequence[Sample]]) -> list[str]:
    """For each row of samples, what to add about the archive that was made, if any."""
    sizes = [row[0].output_size for row in samples]
    return ["" if size is None else f", archive {size / 1e6:.0f} MB" for size in sizes]
