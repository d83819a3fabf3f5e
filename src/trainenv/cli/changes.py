"""What the commands that change an environment share: their options, the table of what would change, the question."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trainenv.cli.output import human_size, print_json, print_table
from trainenv.environments.environment import Environment
from trainenv.errors import DeclinedError

if TYPE_CHECKING:
    from trainenv.api import Confirm
    from trainenv.environments.diff import Change
    from trainenv.environments.preview import Plan

F = TypeVar("F", bound=Callable[..., Any])

dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
freeze_conda_option = click.option(
    "--freeze-conda", is_flag=True, help="Fail where a PyPI package would replace what conda owns."
)


def busy_options(command: F) -> F:
    """``--wait`` and ``--force``, for what an environment in use refuses."""
    command = click.option("--force", is_flag=True, help="Go on while something runs in the environment.")(command)
    return click.option("--wait", is_flag=True, help="Wait while something runs in the environment.")(command)


def confirmation(*, dry_run: bool, yes: bool, as_json: bool) -> Confirm | None:
    """What asks the user: after a table on a terminal, never without one; a dry run shows and says no."""

    def show(plan: Plan) -> bool:
        if as_json:
            print_json(plan.to_json())
        else:
            print_plan(plan)
        return False

    def ask(plan: Plan) -> bool:
        print_plan(plan)
        return not plan.changes or click.confirm("Proceed?", default=True, err=True)

    if dry_run:
        return show
    return None if yes or as_json or not sys.stdin.isatty() else ask


def carry_out(change: Callable[[], Environment], done: str, *, dry_run: bool, as_json: bool) -> None:
    """Make the change and say what came of it; a declined one says so, and a dry run nothing."""
    try:
        environment = change()
    except DeclinedError:
        if not dry_run:
            raise
        return
    if as_json:
        print_json(environment.to_json())
        return
    print(
        f"{done} {environment.name}: Python {environment.python or 'none'}, {len(environment.packages)} packages, "
        f"{human_size(environment.size)}, in {environment.prefix}"
    )


def print_plan(plan: Plan) -> None:
    """The plan as a table: what is added, changed, removed, and how much is to be fetched."""
    if not plan.changes:
        print(f"{plan.name} has all of that: nothing would change")
        return
    print_table(
        ["Package", "Change", "Version", "Build", "Channel", "Download"],
        [
            (
                change.name,
                change.kind,
                *(_from_to(change, field) for field in ("version", "build", "channel")),
                human_size(plan.downloads[change.name]) if change.name in plan.downloads else "",
            )
            for change in plan.changes
        ],
        right=["Download"],
    )
    kinds = [change.kind for change in plan.changes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("added", "changed", "removed") if kind in kinds)
    size = sum(plan.downloads.values())
    print(f"{plan.name}: {counts}{f', {human_size(size)} to download' if size else ''}")


def _from_to(change: Change, field: str) -> str:
    values = [getattr(package, field) for package in (change.before, change.after) if package is not None]
    return " -> ".join(dict.fromkeys(values))
