"""``trainenv create``, ``install``, ``remove`` and ``update``: what an environment holds."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.cli.changes import busy_options, carry_out, confirmation, dry_run_option, freeze_conda_option
from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.output import F, json_option, offline_option, workspace, yes_option
from trainenv.errors import UsageError

_FILE = click.Path(path_type=Path)


def _what_to_install(command: F) -> F:
    """Files and channels, as ``create`` and ``install`` take them."""
    for option in (
        click.option(
            "-c", "--channel", "channels", metavar="CHANNEL", multiple=True, help="A channel, before all others."
        ),
        click.option("-r", "--requirements", "requirements", type=_FILE, multiple=True, help="A requirements.txt."),
        click.option("-f", "--file", "files", type=_FILE, multiple=True, help="A specification or a lock."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("-n", "--name", metavar="NAME", help="Name of the environment; else the name in the -f file.")
@_what_to_install
@freeze_conda_option
@offline_option
@dry_run_option
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
    freeze_conda: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    specs: tuple[str, ...],
) -> None:
    """Create an environment from conda specs, specifications and locks.

    A file is recognised by its content: environment.yml, requirements.txt, pyproject.toml (extras and
    dependency groups in brackets), or a lock that says exactly what to install: pixi.lock,
    conda-lock.yml, @EXPLICIT, pylock.toml.

    The channel "host" makes a Python from this machine's own interpreters. It stands in by itself
    when no channel can be reached and it has what is asked for.

    \b
    Example:
      trainenv create -n my_training_env python=3.9 -y
      trainenv create -n my_training_env python=3.11 -r requirements.txt
      trainenv create -f environment.yml
      trainenv create -n copy -f pixi.lock
    """
    place = workspace(ctx, as_json=as_json)
    carry_out(
        lambda: place.create(
            name,
            *specs,
            files=[*files, *requirements],
            channels=channels,
            freeze_conda=freeze_conda,
            confirm=confirmation(dry_run=dry_run, yes=yes, as_json=as_json),
        ),
        "Created",
        dry_run=dry_run,
        as_json=as_json,
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the environment.")
@_what_to_install
@freeze_conda_option
@offline_option
@busy_options
@dry_run_option
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
    freeze_conda: bool,
    wait: bool,
    force: bool,
    dry_run: bool,
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
    carry_out(
        lambda: place.install(
            name,
            *specs,
            files=[*files, *requirements],
            channels=channels,
            freeze_conda=freeze_conda,
            confirm=confirmation(dry_run=dry_run, yes=yes, as_json=as_json),
            wait=wait,
            force=force,
        ),
        "Changed",
        dry_run=dry_run,
        as_json=as_json,
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@busy_options
@dry_run_option
@yes_option
@json_option
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE...")
@click.pass_context
def remove(
    ctx: click.Context,
    name: str,
    wait: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    packages: tuple[str, ...],
) -> None:
    """Remove packages, conda's and PyPI's, and what depends on them, in one transaction.

    \b
    Example:
      trainenv remove -n my_training_env scikit-learn
    """
    place = workspace(ctx, as_json=as_json)
    confirm = confirmation(dry_run=dry_run, yes=yes, as_json=as_json)
    carry_out(
        lambda: place.remove_packages(name, *packages, confirm=confirm, wait=wait, force=force),
        "Changed",
        dry_run=dry_run,
        as_json=as_json,
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@click.option("--all", "everything", is_flag=True, help="Update all packages.")
@freeze_conda_option
@offline_option
@busy_options
@dry_run_option
@yes_option
@json_option
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@click.pass_context
def update(
    ctx: click.Context,
    name: str,
    everything: bool,
    freeze_conda: bool,
    wait: bool,
    force: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    packages: tuple[str, ...],
) -> None:
    """Update packages, conda's and PyPI's, as far as what was asked for allows, in one transaction.

    Python keeps its minor version. What is installed goes on working, or nothing changes.

    \b
    Example:
      trainenv update -n my_training_env numpy
      trainenv update -n my_training_env --all --dry-run
    """
    if everything == bool(packages):
        raise UsageError("name packages to update, or --all", hint="See `trainenv update --help`")
    place = workspace(ctx, as_json=as_json)
    confirm = confirmation(dry_run=dry_run, yes=yes, as_json=as_json)
    carry_out(
        lambda: place.update(name, *packages, freeze_conda=freeze_conda, confirm=confirm, wait=wait, force=force),
        "Changed",
        dry_run=dry_run,
        as_json=as_json,
    )
