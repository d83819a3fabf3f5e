"""``trainenv task …``."""

from __future__ import annotations

import sys

import click

from trainenv.cli.output import json_option, print_json, print_table, workspace
from trainenv.cli.train import exit_code_of


@click.group()
def task() -> None:
    """List, show and read the logs of tasks.

    \b
    Example:
      trainenv task list
    """


@task.command("list")
@json_option
@click.pass_context
def list_tasks(ctx: click.Context, as_json: bool) -> None:
    """List the tasks of the workspace, newest first.

    \b
    Example:
      trainenv task list --json
    """
    place = workspace(ctx, as_json=as_json)
    tasks = place.tasks()
    if as_json:
        print_json([found.to_json() for found in tasks])
        return
    if not tasks:
        print("No tasks yet. Start one: trainenv train METHOD")
        return
    print_table(
        ["Id", "Method", "Stage", "Environment", "Status", "Started", "Metrics"],
        [
            (
                found.id,
                found.method,
                found.stage,
                found.conda_env,
                found.outcome,
                found.started,
                _metrics(found.metrics),
            )
            for found in tasks
        ],
    )


@task.command()
@click.argument("identifier", metavar="ID")
@json_option
@click.pass_context
def show(ctx: click.Context, identifier: str, as_json: bool) -> None:
    """Show one task: what it ran, with which parameters, and how it ended.

    \b
    Example:
      trainenv task show 20260101-120000-a1b2c3
    """
    found = workspace(ctx, as_json=as_json).task(identifier)
    shown = found.to_json()
    if as_json:
        print_json(shown)
        return
    shown["parameters"] = " ".join(f"{key}={value}" for key, value in found.parameters.items())
    shown["metrics"] = _metrics(found.metrics)
    shown["status"] = found.outcome
    shown["folder"] = found.folder
    rows = ["method", "stage", "status", "conda_env", "prefix", "parameters", "metrics", "created", "started"]
    rows += ["finished", "host", "user", "git_commit", "folder"]
    print_table(["Task", found.id], [(key, shown[key]) for key in rows if shown[key] not in (None, "")])


@task.command()
@click.argument("identifier", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends.")
@click.pass_context
def logs(ctx: click.Context, identifier: str, follow: bool) -> int:
    """Print what a task wrote.

    \b
    Example:
      trainenv task logs -f 20260101-120000-a1b2c3
    """
    place = workspace(ctx)
    found = place.task(identifier)
    if not follow:
        with found.log_file.open("rb") as log:
            while block := log.read(1 << 16):
                sys.stdout.buffer.write(block)
        return 0
    for event in place.follow(found):
        sys.stdout.write(event.text)
        sys.stdout.flush()
    return exit_code_of(place.task(found.id))


def _metrics(values: dict[str, int | float | None]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
