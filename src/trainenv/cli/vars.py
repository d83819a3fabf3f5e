"""``trainenv env vars …``."""

from __future__ import annotations

import click

from trainenv.cli.group import Group
from trainenv.cli.output import chosen, environment_options, json_option, print_json, workspace
from trainenv.environments import variables
from trainenv.errors import UsageError


@click.group("vars", cls=Group)
def env_vars() -> None:
    """Keep variables with an environment: whatever runs in it has them.

    They are kept where conda keeps them (`conda env config vars`), and take effect in `run`, tasks
    and the next `activate`.

    \b
    Example:
      trainenv env vars set -n my_training_env HF_HOME=/data/hf
    """


@env_vars.command("set")
@environment_options
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
@click.pass_context
def set_variables(ctx: click.Context, name: str | None, prefix: str | None, assignments: tuple[str, ...]) -> None:
    """Set variables of an environment.

    \b
    Example:
      trainenv env vars set -n my_training_env HF_HOME=/data/hf OMP_NUM_THREADS=8
    """
    put = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is no assignment", hint="Write KEY=VALUE")
        put[key] = value
    place = workspace(ctx)
    place.set_variables(chosen(place, name, prefix, or_active=True), put=put)


@env_vars.command("unset")
@environment_options
@click.argument("names", metavar="KEY...", nargs=-1, required=True)
@click.pass_context
def unset_variables(ctx: click.Context, name: str | None, prefix: str | None, names: tuple[str, ...]) -> None:
    """Unset variables of an environment, also such as its packages bring.

    \b
    Example:
      trainenv env vars unset -n my_training_env OMP_NUM_THREADS
    """
    place = workspace(ctx)
    place.set_variables(chosen(place, name, prefix, or_active=True), drop=names)


@env_vars.command("list")
@environment_options
@json_option
@click.pass_context
def list_variables(ctx: click.Context, name: str | None, prefix: str | None, as_json: bool) -> None:
    """List the variables that were set for an environment.

    \b
    Example:
      trainenv env vars list -n my_training_env
    """
    found = variables.own(chosen(workspace(ctx, as_json=as_json), name, prefix, or_active=True).prefix)
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        print(f"{key}={value}")
