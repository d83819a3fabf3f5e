"""``trainenv env generations`` and ``trainenv env rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trainenv.cli.changes import busy_options
from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.output import chosen, json_option, print_json, print_table, workspace, yes_option
from trainenv.errors import listed

if TYPE_CHECKING:
    from trainenv.environments.rollback import Generation

_MOST_NAMED = 6


@click.command("generations")
@click.option("-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@json_option
@click.pass_context
def show_generations(ctx: click.Context, name: str | None, environment_name: str | None, as_json: bool) -> None:
    """List the states of an environment that a rollback can go to.

    \b
    Example:
      trainenv env generations my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    found = place.generations(chosen(place, name, None, environment_name).name)
    if as_json:
        print_json([item.to_json() for item in found])
        return
    print_table(
        ["State", "Since", "Compared with the present"],
        [(item.number, item.changed, _compared(item)) for item in found],
        right=["State"],
    )


@click.command()
@click.option("-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@click.option("--to", metavar="STATE", type=int, help="The state to go to; else the one before the last change.")
@busy_options
@yes_option
@json_option
@click.pass_context
def rollback(
    ctx: click.Context,
    name: str | None,
    environment_name: str | None,
    to: int | None,
    wait: bool,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Take the last change of an environment back, at once; a second rollback goes forward again.

    \b
    Example:
      trainenv env rollback my_training_env
      trainenv env rollback my_training_env --to 3
    """
    place = workspace(ctx, as_json=as_json)
    environment = place.rollback(chosen(place, name, None, environment_name).name, to=to, wait=wait, force=force)
    if as_json:
        print_json(environment.to_json())
        return
    present = next(item for item in place.generations(environment.name) if item.is_present)
    print(f"{environment.name} is in state {present.number} of {present.changed}: {len(environment.packages)} packages")


def _compared(item: Generation) -> str:
    if item.is_present:
        return "the present state"
    marks = {"added": "+", "removed": "-", "changed": "~"}
    named = [
        f"{marks[change.kind]}{change.name} {package.version}"
        for change in item.changes
        if (package := change.after or change.before)
    ]
    return listed(named, _MOST_NAMED) or "the same packages"
