"""``trainenv train``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import Any

import click

from trainenv.api import Workspace
from trainenv.cli.completion import ENVIRONMENT, METHOD
from trainenv.cli.output import json_option, print_json, workspace
from trainenv.errors import UsageError
from trainenv.training import Task


@click.command()
@click.argument("method", type=METHOD)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the method.")
@click.option("--stage", default="train", show_default=True, help="The stage to run.")
@click.option(
    "--conda-env", metavar="NAME", type=ENVIRONMENT, help="Run in this environment instead of the method's conda_env."
)
@click.option("--name", metavar="NAME", help="What to call the task.")
@click.option("--gpus", type=int, metavar="N", help="How many GPUs it gets.")
@click.option("--cpus", type=int, metavar="N", help="How many CPUs it gets.")
@click.option("--memory", metavar="SIZE", help="How much memory it gets, such as 8GB.")
@click.option("--time", metavar="TIME", help="How long it may run, such as 2h.")
@click.option("--executor", default="local", show_default=True, metavar="NAME", help="What runs it.")
@click.option("--detach", is_flag=True, help="Return at once; the task runs on.")
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    method: str,
    settings: tuple[str, ...],
    stage: str,
    conda_env: str | None,
    name: str | None,
    gpus: int | None,
    cpus: int | None,
    memory: str | None,
    time: str | None,
    executor: str,
    detach: bool,
    as_json: bool,
) -> int:
    """Run a training method in the environment that its conda_env names.

    The log appears as it is written. Ctrl-C cancels the task; a closed terminal does not. A task that asks for
    GPUs, CPUs or memory waits until they are free, first come, first served. --gpus, --cpus, --memory and --time
    say otherwise than the method's resources.

    \b
    Example:
      trainenv train breast_cancer_sgd --set epochs=20 --set learning_rate=0.01
    """
    place = workspace(ctx, as_json=as_json)
    asked = {"gpus": gpus, "cpus": cpus, "memory": memory, "time": time}
    task = place.start(
        method,
        parameters_in(settings),
        stage=stage,
        conda_env=conda_env,
        name=name,
        executor=executor,
        resources={word: value for word, value in asked.items() if value is not None},
    )
    return started(place, task, detach=detach, as_json=as_json)


def started(place: Workspace, task: Task, *, detach: bool, as_json: bool, more: Mapping[str, Any] = {}) -> int:
    """Tell of a new task, then show its log until it ends, unless ``detach``; returns the exit code.

    ``more`` is put beside its fields in JSON.
    """
    if detach:
        if as_json:
            print_json({**task.to_json(), **more})
        else:
            begun = "Queued task" if task.status == "queued" else "Started task"
            print(f"{begun} {task.id}. Follow it: trainenv task logs -f {task.id}")
        return 0
    if not as_json:
        foreign = task.prefix != str(place.settings.prefix_of(task.conda_env))
        where = f"{task.conda_env}, not of this workspace: {task.prefix}" if foreign else task.conda_env
        print(f"trainenv: task {task.id}: {task.method} in {where}", file=sys.stderr)
    ended = show_until_end(place, task, quiet=as_json)
    if as_json:
        print_json({**ended.to_json(), **more})
    else:
        print(f"trainenv: task {ended.id} {ended.outcome}, results in {ended.folder}", file=sys.stderr)
    return exit_code_of(ended)


def show_until_end(place: Workspace, task: Task, *, quiet: bool = False) -> Task:
    """Print the log as it comes; Ctrl-C and TERM cancel the task. Returns the ended task."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        if quiet:
            task.wait()
        else:
            for queued in place.waiting(task):
                print(f"trainenv: task {task.id} {queued.outcome}", file=sys.stderr)
            show_log(place, task)
    except KeyboardInterrupt:
        print(f"\ntrainenv: cancelling task {task.id}", file=sys.stderr)
        place.cancel(task)
    return place.task(task.id)


def show_log(place: Workspace, task: Task, *, follow: bool = True, raw: bool = False) -> None:
    """Print the log, with ``follow`` as it comes until the task ends; a terminal draws the progress bars itself."""
    if raw or (follow and sys.stdout.isatty()):
        for piece in place.output(task, follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    for text in place.log(task, follow=follow):
        sys.stdout.write(text)
        sys.stdout.flush()


def exit_code_of(task: Task) -> int:
    """The code's own exit code, as a shell would have it for a signal, 130 when cancelled."""
    if task.status == "cancelled":
        return 130
    if task.signal:
        return 128 + signal.Signals[task.signal].value
    if task.status == "done":
        return 0
    return task.exit_code or 1


def parameters_in(settings: tuple[str, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE", hint="Example: --set epochs=3")
        found[key] = value
    return found
