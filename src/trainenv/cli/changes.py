"""What the commands that change an environment share: their options, the table of what would change, the question."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from trainenv.channels.target import Target
from trainenv.cli.output import json_option, print_json, print_table, quiet_option, yes_option
from trainenv.environments.environment import Environment
from trainenv.errors import DeclinedError
from trainenv.sizes import human_size

if TYPE_CHECKING:
    from trainenv.api import Confirm
    from trainenv.environments.diff import Change
    from trainenv.environments.preview import Plan

F = TypeVar("F", bound=Callable[..., Any])

dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
freeze_conda_option = click.option(
    "--freeze-conda", is_flag=True, help="Fail where a PyPI package would replace what conda owns."
)


def target_options(command: F) -> F:
    """``--cuda``, ``--glibc`` and ``--exclude-newer``, which come to the command as one ``target``."""

    @functools.wraps(command)
    def with_target(
        *arguments: Any, cuda: str | None, glibc: str | None, exclude_newer: str | None, **rest: Any
    ) -> Any:
        target = Target(rest.pop("platform", None), cuda, glibc, exclude_newer)
        return command(*arguments, target=target, **rest)

    for option in (
        click.option(
            "--exclude-newer", metavar="DATE", help="Leave out packages published after this day or time (UTC)."
        ),
        click.option("--glibc", metavar="VERSION", help="For a machine with this C library."),
        click.option("--cuda", metavar="VERSION", help="For a machine whose GPU driver offers this CUDA; or none."),
    ):
        with_target = option(with_target)
    return cast("F", with_target)


def platform_option(command: F) -> F:
    """``--platform``, as conda has it; to stand above ``target_options``."""
    return click.option("--platform", "--subdir", metavar="PLATFORM", help="For this platform, such as linux-aarch64.")(
        command
    )


def change_options(command: F) -> F:
    """``--dry-run``, ``-y`` and ``--json``, which come to the command as one ``asking``, and ``-q``."""

    @functools.wraps(command)
    def with_asking(*arguments: Any, dry_run: bool, yes: bool, as_json: bool, **rest: Any) -> Any:
        return command(*arguments, asking=Asking(dry_run, yes, as_json), **rest)

    return cast("F", dry_run_option(yes_option(quiet_option(json_option(with_asking)))))


def busy_options(command: F) -> F:
    """``--wait`` and ``--force``, for what an environment in use refuses."""
    command = click.option("--force", is_flag=True, help="Go on while something runs in the environment.")(command)
    return click.option("--wait", is_flag=True, help="Wait while something runs in the environment.")(command)


@dataclass(frozen=True)
class Asking:
    """How a change is announced: shown only, made at once, told as JSON."""

    dry_run: bool
    yes: bool
    as_json: bool

    @property
    def confirm(self) -> Confirm | None:
        """What asks the user: after a table on a terminal, never without one; a dry run shows and says no."""
        if self.dry_run:
            return self._show
        return None if self.yes or self.as_json or not sys.stdin.isatty() else self._ask

    def _show(self, plan: Plan) -> bool:
        if self.as_json:
            print_json(plan.to_json())
        else:
            print_plan(plan)
        return False

    def _ask(self, plan: Plan) -> bool:
        print_plan(plan)
        return not plan.changes or click.confirm("Proceed?", default=True, err=True)

    def carry_out(self, change: Callable[[], Environment], done: str) -> None:
        """Make the change and say what came of it; a declined one says so, and a dry run nothing."""
        try:
            environment = change()
        except DeclinedError:
            if not self.dry_run:
                raise
            return
        if self.as_json:
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
