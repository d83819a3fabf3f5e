"""``trainenv create`` and ``trainenv install``."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.cli.output import human_size, json_option, print_json, workspace, yes_option
from trainenv.environments.environment import Environment

_FILE = click.Path(path_type=Path)


def _report(environment: Environment, as_json: bool, done: str) -> None:
    if as_json:
        print_json(environment.to_json())
        return
    print(
        f"{done} {environment.name}: Python {environment.python or 'none'}, {len(environment.packages)} packages, "
        f"{human_size(environment.size)}, in {environment.prefix}"
    )
    print(f"Use it: trainenv run -n {environment.name} python")


@click.command()
@click.option("-n", "--name", metavar="NAME", help="Name of the environment; else the name in the -f file.")
@click.option("-f", "--file", "files", type=_FILE, multiple=True, help="An environment.yml.")
@click.option("-r", "--requirements", "requirements", type=_FILE, multiple=True, help="A requirements.txt.")
@click.option("-c", "--channel", "channels", metavar="CHANNEL", multiple=True, help="A channel, before all others.")
@yes_option
@json_option
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.pass_context
def create(
    ctx: click.Context,
    name: str | None,
    files: tuple[Path, ...],
    requirements: tuple[Path, ...],
    channels: tuple[str, ...],
    yes: bool,
    as_json: bool,
    specs: tuple[str, ...],
) -> None:
    """Create an environment from conda specs, an environment.yml, a requirements.txt.

    The channel "host" makes a Python from this machine's own interpreters. It stands in by itself
    when no channel can be reached and it has what is asked for.

    \b
    Example:
      trainenv create -n my_training_env python=3.9 -y
      trainenv create -n my_training_env python=3.11 -r requirements.txt
      trainenv create -f environment.yml
    """
    place = workspace(ctx, as_json=as_json)
    made = place.create(name, *specs, files=[*files, *requirements], channels=channels)
    _report(made, as_json, "Created")


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the environment.")
@click.option("-f", "--file", "files", type=_FILE, multiple=True, help="An environment.yml.")
@click.option("-r", "--requirements", "requirements", type=_FILE, multiple=True, help="A requirements.txt.")
@click.option("-c", "--channel", "channels", metavar="CHANNEL", multiple=True, help="A channel, before all others.")
@yes_option
@json_option
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.pass_context
def install(
    ctx: click.Context,
    name: str,
    files: tuple[Path, ...],
    requirements: tuple[Path, ...],
    channels: tuple[str, ...],
    yes: bool,
    as_json: bool,
    specs: tuple[str, ...],
) -> None:
    """Add conda packages and PyPI requirements to an environment, in one transaction.

    When anything fails the environment is as it was before.

    \b
    Example:
      trainenv install -n my_training_env -r requirements.txt
      trainenv install -n my_training_env numpy=1.26
    """
    place = workspace(ctx, as_json=as_json)
    changed = place.install(name, *specs, files=[*files, *requirements], channels=channels)
    _report(changed, as_json, "Changed")
