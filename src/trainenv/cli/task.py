"""``trainenv task …``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trainenv.cli import live
from trainenv.cli.completion import TASK
from trainenv.cli.group import Group
from trainenv.cli.output import duration, json_option, print_json, print_table, workspace
from trainenv.cli.results import compare, export, in_line, metrics, selecting
from trainenv.cli.train import exit_code_of, parameters_in, show_log, started
from trainenv.errors import UsageError, listed
from trainenv.training.index import Summary
from trainenv.training.selection import selected
from trainenv.training.task import Task

if TYPE_CHECKING:
    from trainenv.training.rerun import Differences

_METRICS_IN_LIST = 6

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group)
def task() -> None:
    """Find tasks, read their logs and metrics, compare, repeat, cancel, export and remove them.

    \b
    Example:
      trainenv task list
    """


@task.command("list")
@selecting
@click.option("-w", "--watch", is_flag=True, help="Stay, and show what changes.")
@json_option
@click.pass_context
def list_tasks(ctx: click.Context, /, watch: bool, as_json: bool, **options: Any) -> None:
    """List the tasks of the workspace, newest first.

    \b
    Example:
      trainenv task list --method breast_cancer_sgd --status done --where 'accuracy>0.9'
    """
    place = workspace(ctx, as_json=as_json)
    if watch:
        if as_json or not sys.stdout.isatty():
            raise UsageError("--watch needs a terminal", hint="Without one, list again, or use `trainenv task logs -f`")
        live.show(lambda: _listed(place.task_summaries(selected(**options))))
        return
    found = place.task_summaries(selected(**options), whole=as_json)
    if as_json:
        print(f"[{','.join(f'{chr(10)}{summary.record}' for summary in found)}\n]")
    elif found:
        columns, rows = _listed(found)
        print_table(columns, rows)
    else:
        print("No such task" if any(options.values()) else "No tasks yet. Start one: trainenv train METHOD")


def _listed(found: Sequence[Summary]) -> tuple[list[str], list[list[object]]]:
    """Header and rows; what says nothing new is left out, as when a task was made: its id tells that."""
    columns: dict[str, Callable[[Summary], object]] = {
        "Id": lambda task: task.id,
        "Name": lambda task: task.name,
        "Method": lambda task: task.method,
        "Stage": lambda task: task.stage,
        "Environment": lambda task: task.conda_env,
        "Status": lambda task: task.outcome,
        "Time": lambda task: duration(task.started, task.finished),
        "Host": lambda task: task.host,
        "Metrics": lambda task: in_line(task.metrics, most=_METRICS_IN_LIST),
    }
    if not any(task.name for task in found):
        del columns["Name"]
    if len({task.host for task in found}) < 2:
        del columns["Host"]
    return list(columns), [[cell(task) for cell in columns.values()] for task in found]


@task.command()
@click.argument("identifier", type=TASK, metavar="ID")
@json_option
@click.pass_context
def show(ctx: click.Context, identifier: str, as_json: bool) -> None:
    """Show one task: what it ran, with which parameters, and how it ended.

    \b
    Example:
      trainenv task show 20260101-120000-a1b2c3
    """
    from trainenv.training.surroundings import in_words

    found = workspace(ctx, as_json=as_json).task(identifier)
    shown = found.to_json()
    if as_json:
        print_json(shown)
        return
    shown["parameters"] = " ".join(f"{key}={value}" for key, value in found.parameters.items())
    shown["metrics"] = in_line(found.metrics)
    shown["status"] = found.outcome
    shown["folder"] = found.folder
    shown["command"] = shlex.join(found.command)
    if found.git_dirty:
        shown["git_commit"] = f"{found.git_commit}, with changes"
    shown["machine"] = in_words(found.machine)
    shown["gpus"] = ", ".join(found.gpus)
    shown["cpus"] = ", ".join(map(str, found.cpus))
    rows = ["name", "rerun_of", "method", "stage", "status", "conda_env", "prefix", "parameters", "metrics", "created"]
    rows += [
        "started",
        "finished",
        "command",
        "host",
        "machine",
        "gpus",
        "cpus",
        "user",
        "git_commit",
        "code_sha256",
        "manifest_sha256",
    ]
    rows += ["folder"]
    print_table(["Task", found.id], [(key, shown[key]) for key in rows if shown[key] not in (None, "")])


@task.command()
@click.argument("identifier", type=TASK, metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends.")
@click.option("--raw", is_flag=True, help="The bytes as they were written, with each redrawing of a progress bar.")
@click.pass_context
def logs(ctx: click.Context, identifier: str, follow: bool, raw: bool) -> int:
    """Print what a task wrote, as a terminal would show it.

    \b
    Example:
      trainenv task logs -f 20260101-120000-a1b2c3
    """
    place = workspace(ctx)
    found = place.task(identifier)
    found.require_folder()
    show_log(place, found, follow=follow, raw=raw)
    return exit_code_of(place.task(found.id)) if follow else 0


@task.command()
@click.argument("identifiers", type=TASK, metavar="ID...", nargs=-1, required=True)
@json_option
@click.pass_context
def cancel(ctx: click.Context, identifiers: tuple[str, ...], as_json: bool) -> None:
    """End running tasks, all at once, and all that they started.

    The code may save what it wants within its grace period; what is left then is killed.

    \b
    Example:
      trainenv task cancel 20260101-120000-a1b2c3
    """
    place = workspace(ctx, as_json=as_json)
    ended = place.cancel_tasks([place.task(identifier) for identifier in identifiers])
    if as_json:
        print_json([found.to_json() for found in ended])
        return
    for found in ended:
        print(f"{found.id}: {found.outcome}")


@task.command()
@click.argument("identifier", type=TASK, metavar="ID")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Another value for a parameter.")
@click.option("--as-is", is_flag=True, help="Run in the environment as it is now, also if it was changed since.")
@click.option("--name", metavar="NAME", help="What to call the task, instead of the same again.")
@click.option("--detach", is_flag=True, help="Return at once; the task runs on.")
@click.option("--dry-run", is_flag=True, help="Only say what differs now.")
@json_option
@click.pass_context
def rerun(
    ctx: click.Context,
    identifier: str,
    changes: tuple[str, ...],
    as_is: bool,
    name: str | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a task again: the same code, parameters and lock.

    What differs now is said first. Where the method's folder was changed since, the task's own copy of its code runs;
    where the environment was changed or is gone, one is made from the task's lock.

    \b
    Example:
      trainenv task rerun 20260101-120000-a1b2c3
    """
    place = workspace(ctx, as_json=as_json)
    found = place.task(identifier)
    differs = place.differences(found)
    if dry_run and as_json:
        print_json(differs.to_json())
    elif not as_json:
        for line in _in_lines(found, differs) or ["nothing differs from what it ran"]:
            print(line if dry_run else f"trainenv: {line}", file=sys.stdout if dry_run else sys.stderr)
    if dry_run:
        return 0
    again = place.rerun(found, parameters_in(changes), as_is=as_is, name=name)
    return started(place, again, detach=detach, as_json=as_json, more={"differences": differs.to_json()})


def _in_lines(found: Task, differs: Differences) -> list[str]:
    """What differs now, for people."""
    lines = []
    if differs.method_missing:
        lines.append(f"method {found.method} is not there any more: its copy runs")
    elif differs.code:
        lines.append(f"the code of {found.method} differs now: {listed(differs.code)}")
    if differs.missing:
        lines.append(f"environment {found.conda_env} is not there any more")
    for change in differs.packages:
        versions = [each.version if each else "none" for each in (change.before, change.after)]
        lines.append(f"{change.name} differs now in {found.conda_env}: {versions[0]} then, {versions[1]} now")
    for name, (then, now) in differs.host.items():
        was, is_now = (", ".join(each) if isinstance(each, list) else each for each in (then, now))
        lines.append(f"{name.replace('_', ' ')} differs now: {was or 'none'} then, {is_now or 'none'} now")
    return lines


@task.command()
@click.argument("identifiers", type=TASK, metavar="ID...", nargs=-1, required=True)
@json_option
@click.pass_context
def remove(ctx: click.Context, identifiers: tuple[str, ...], as_json: bool) -> None:
    """Remove tasks that have ended: their logs, metrics and outputs.

    \b
    Example:
      trainenv task remove 20260101-120000-a1b2c3
    """
    place = workspace(ctx, as_json=as_json)
    found = [place.task(identifier, sole=True) for identifier in identifiers]
    place.remove_tasks(found)
    if as_json:
        print_json([removed.id for removed in found])
        return
    for removed in found:
        print(f"Removed {removed.id}")


for command in (metrics, compare, export):
    task.add_command(command)
