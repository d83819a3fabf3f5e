"""``trainenv env repair``, ``clone`` and ``rename``."""

from __future__ import annotations

import sys

import click

from trainenv.cli.changes import busy_options
from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.output import chosen, json_option, print_json, workspace


@click.command()
@click.option("-n", "--name", metavar="NAME", help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@click.option("--relocate", is_flag=True, help="Give the files the prefix of their folder: somebody moved it by hand.")
@busy_options
@json_option
@click.pass_context
def repair(
    ctx: click.Context,
    name: str | None,
    environment_name: str | None,
    relocate: bool,
    wait: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Put back what `verify` finds damaged, from cache or channel, in one transaction.

    Exits with 1 when something could not be mended, and says why.

    \b
    Example:
      trainenv env repair my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name or environment_name, None)
    done = place.repair(environment.name, relocate=relocate, wait=wait, force=force)
    if as_json:
        print_json(done.to_json())
        return 0 if done.ok else 1
    for line in done.mended:
        print(f"mended: {line}")
    for line in done.unmended:
        print(f"trainenv: not mended: {line}", file=sys.stderr)
    if done.ok and not done.mended:
        print(f"{environment.name} is whole: there is nothing to mend")
    return 0 if done.ok else 1


@click.command()
@click.argument("source", required=False, type=ENVIRONMENT)
@click.option("-p", "--prefix", metavar="PREFIX", help="Folder of the environment to copy, instead of a name.")
@click.option("-n", "--name", "new", metavar="NEW", required=True, help="Name of the copy.")
@json_option
@click.pass_context
def clone(ctx: click.Context, source: str | None, prefix: str | None, new: str, as_json: bool) -> None:
    """Copy an environment, also one that conda made, by hard links.

    \b
    Example:
      trainenv env clone my_training_env -n experiment
    """
    place = workspace(ctx, as_json=as_json)
    made = place.clone(chosen(place, source, prefix), new)
    if as_json:
        print_json(made.to_json())
    else:
        print(f"Created {made.name} in {made.prefix}")


@click.command()
@click.argument("old", type=ENVIRONMENT)
@click.argument("new")
@busy_options
@json_option
@click.pass_context
def rename(ctx: click.Context, old: str, new: str, wait: bool, force: bool, as_json: bool) -> None:
    """Give an environment another name; its files are relocated, and its Jupyter kernel follows.

    \b
    Example:
      trainenv env rename experiment my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    made = place.rename(old, new, wait=wait, force=force)
    if as_json:
        print_json(made.to_json())
    else:
        print(f"Renamed {old} to {made.name}, in {made.prefix}")
    for method in place.methods_naming(old):
        print(f"trainenv: method {method} still names {old} as its conda_env: change it to {new}", file=sys.stderr)
