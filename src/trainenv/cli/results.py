"""``trainenv task metrics | compare | export``: what came of tasks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from trainenv.api import Workspace
from trainenv.cli.completion import ENVIRONMENT, METHOD, TASK
from trainenv.cli.output import json_option, print_json, print_table, workspace
from trainenv.errors import UsageError
from trainenv.training.selection import selected
from trainenv.training.task import STATUSES, Task

F = TypeVar("F", bound=Callable[..., Any])

_SHORT_HASH = 12
_IN_TERMINAL = ""

plot_option = click.option(
    "--plot",
    is_flag=False,
    flag_value=_IN_TERMINAL,
    metavar="[FILE]",
    help="Draw them in the terminal, or into a .png or .svg file.",
)


def selecting(command: F) -> F:
    """The options that say which tasks are meant."""
    for option in reversed(
        (
            click.option("--method", type=METHOD, metavar="METHOD", help="Only tasks of this method."),
            click.option("--status", type=click.Choice(STATUSES), help="Only tasks that stand so."),
            click.option("--conda-env", type=ENVIRONMENT, metavar="ENV", help="Only tasks in this environment."),
            click.option("--name", metavar="NAME", help="Only tasks of this name."),
            click.option("--since", metavar="TIME", help="Only tasks made since: 2h (ago), 7d, 2026-11-22."),
            click.option(
                "--where",
                multiple=True,
                metavar="CONDITION",
                help="Only tasks with such a parameter or last metric: 'loss<0.1', optimizer=adam.",
            ),
            click.option("--limit", type=click.IntRange(1), help="Only the newest so many."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("identifiers", type=TASK, metavar="ID", nargs=-1)
@plot_option
@json_option
@click.pass_context
def metrics(ctx: click.Context, identifiers: tuple[str, ...], plot: str | None, as_json: bool) -> None:
    """Print what a task measured, a row for each line of metrics in its log.

    \b
    Example:
      trainenv task metrics 2026 --plot
      trainenv task metrics 2026 --plot metrics.svg
    """
    place = workspace(ctx, as_json=as_json)
    plot, identifiers = _sorted_out(plot, identifiers)
    if len(identifiers) != 1:
        raise UsageError("name one task", hint="`trainenv task compare` draws several")
    found = place.task(identifiers[0])
    records = place.metrics(found)
    if plot is not None:
        _plot(place, [found], plot, quiet=as_json)
    if as_json:
        print_json(records)
    elif plot is None and not records:
        print(f"{found.id} has no metrics" + (" yet" if found.active else ""))
    elif plot is None:
        _print_metrics(found, records)


def _print_metrics(found: Task, records: Sequence[Mapping[str, Any]]) -> None:
    """One table, or on a narrow terminal several below each other, each with the positions."""
    from trainenv.training.metric_lines import POSITIONS

    names = without_copies({name: found.metrics.get(name) for record in records for name in record})
    positions = [name for name in names if name in POSITIONS]
    measured = [name for name in names if name not in POSITIONS]
    told = [record for record in records if any(name in record for name in measured)]
    cells = {name: [in_words(record[name]) if name in record else "" for record in told] for name in names}
    for number, columns in enumerate(_blocks(positions, measured, cells)):
        rows = [row for row in zip(*(cells[name] for name in columns), strict=True) if any(row[len(positions) :])]
        if number:
            print()
        print_table(columns, rows, right=columns)


def _blocks(
    positions: Sequence[str], measured: Sequence[str], cells: Mapping[str, Sequence[str]]
) -> Iterator[Sequence[str]]:
    """The columns of each table: the positions and as many others as the terminal has room for."""
    sizes = {name: max(map(len, (name, *column))) + 2 for name, column in cells.items()}
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sum(sizes.values())
    block = list(positions)
    for name in measured:
        if len(block) > len(positions) and sum(sizes[each] for each in (*block, name)) > room:
            yield block
            block = list(positions)
        block.append(name)
    yield block


@click.command()
@click.argument("identifiers", type=TASK, metavar="ID ID...", nargs=-1)
@plot_option
@json_option
@click.pass_context
def compare(ctx: click.Context, identifiers: tuple[str, ...], plot: str | None, as_json: bool) -> None:
    """Show tasks side by side: parameters, packages that differ, last metrics. What differs is marked.

    \b
    Example:
      trainenv task compare 20260101-120000-a1b2c3 20260101-130000-d4e5f6 --plot curves.svg
    """
    place = workspace(ctx, as_json=as_json)
    plot, identifiers = _sorted_out(plot, identifiers)
    if len(identifiers) < 2:
        raise UsageError("name two tasks or more", hint="`trainenv task list` shows them")
    found = [place.task(identifier) for identifier in identifiers]
    compared = place.compare(found)
    if as_json:
        print_json(compared.to_json())
    else:
        rows = _rows("Task", compared.facts) + _rows("Parameters", compared.parameters)
        rows += _rows("Packages that differ", compared.packages) + _rows("Last metrics", compared.metrics)
        print_table(["", "", *(task.id for task in found)], rows)
    if plot is not None:
        if not as_json:
            print()
        _plot(place, found, plot, quiet=as_json)


@click.command()
@click.argument("identifiers", type=TASK, metavar="[ID...]", nargs=-1)
@selecting
@click.option("-o", "--output", metavar="FILE", help="A .csv, .json, .tar.gz, .tar.zst or .tar file.")
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", help="What to print without -o.")
@click.option("--no-outputs", is_flag=True, help="Leave what is in the outputs folders out of an archive.")
@click.pass_context
def export(
    ctx: click.Context,
    /,
    identifiers: tuple[str, ...],
    output: str | None,
    form: str,
    no_outputs: bool,
    **options: Any,
) -> None:
    """Write tasks, those named or all that are meant, into a table or, with all that they are, into an archive.

    A .csv file has a line for each task, a .json file all that they measured as well. An archive holds the tasks'
    folders; unpacked into another workspace's folder of tasks, they are tasks there.

    \b
    Example:
      trainenv task export --method digits_mlp --since 7d -o digits.csv
      trainenv task export 20260101-120000-a1b2c3 -o task.tar.gz
    """
    place = workspace(ctx)
    if identifiers and any(options.values()):
        raise UsageError("name tasks or say which are meant, not both")
    wanted = selected(**options)
    found = [place.task(each) for each in identifiers] or [
        each.task() for each in place.task_summaries(wanted, whole=True)
    ]
    if output is None:
        from trainenv.training import export as exporting

        sys.stdout.write(exporting.text(found, form))
        return
    place.export_tasks(found, output, outputs=not no_outputs)
    print(f"Wrote {len(found)} task{'' if len(found) == 1 else 's'} into {output}", file=sys.stderr)


def _sorted_out(plot: str | None, identifiers: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """``--plot ID`` means the terminal and that task: no file to draw into is called so."""
    if plot and not Path(plot).suffix:
        return _IN_TERMINAL, (plot, *identifiers)
    return plot, identifiers


def _plot(place: Workspace, tasks: Sequence[Task], plot: str, *, quiet: bool) -> None:
    if plot:
        place.draw(tasks, plot)
        if not quiet:
            print(f"Drew {', '.join(task.id for task in tasks)} into {plot}")
    elif not quiet:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(place.drawn(tasks, shutil.get_terminal_size().columns, colours=colours))


def _rows(title: str, values: Mapping[str, list[Any]]) -> list[list[str]]:
    """A section of the comparison; what nobody has is left out."""
    rows = [
        ["≠" if len(set(map(repr, each))) > 1 else "", name, *(_cell(name, value) for value in each)]
        for name, each in values.items()
        if any(value is not None for value in each)
    ]
    width = max((len(row) for row in rows), default=0)
    return [[""] * width, ["", f"{title}:", *[""] * (width - 2)], *rows] if rows else []


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return value[:_SHORT_HASH] if name.endswith(("_sha256", "_commit")) else in_words(value)


def in_words(value: Any) -> str:
    """A value as tables show it: numbers short, and a dash where a number is not finite."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_line(metrics: Mapping[str, Any], *, most: int | None = None) -> str:
    """Last values in one line, ``most`` of them and how many more there are."""
    told = without_copies(metrics)
    words = [f"{name}={in_words(value)}" for name, value in told.items()]
    if most is not None and len(words) > most:
        words[most:] = [f"+{len(words) - most}"]
    return " ".join(words)


def without_copies(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Last values without what a trainer wrote for TensorBoard as well: ``train/loss`` where ``loss`` is the same."""

    def is_copy(name: str) -> bool:
        others = {name.replace("/", "_"), name.removeprefix("train/")} - {name}
        return any(other in metrics and in_words(metrics[other]) == in_words(metrics[name]) for other in others)

    return {name: value for name, value in metrics.items() if not is_copy(name)}
