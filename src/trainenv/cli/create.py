"""``trainenv create``, ``install``, ``remove`` and ``update``: what an environment holds."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.channels.target import Target
from trainenv.cli.changes import (
    Asking,
    busy_options,
    change_options,
    freeze_conda_option,
    platform_option,
    target_options,
)
from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.output import F, offline_option, workspace
from trainenv.errors import UsageError

_FILE = click.Path(path_type=Path)


def what_to_install(command: F) -> F:
    """Files and channels, as ``create``, ``install`` and ``lock`` take them."""
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
@what_to_install
@platform_option
@target_options
@freeze_conda_option
@offline_option
@change_options
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.pass_context
def create(
    ctx: click.Context,
    name: str | None,
    files: tuple[Path, ...],
    requirements: tuple[Path, ...],
    channels: tuple[str, ...],
    target: Target,
    freeze_conda: bool,
    asking: Asking,
    specs: tuple[str, ...],
) -> None:
    """Create an environment from conda specs, specifications and locks.

    A file is recognised by its content: environment.yml, requirements.txt, pyproject.toml (extras and
    dependency groups in brackets), or a lock that says exactly what to install: pixi.lock,
    conda-lock.yml, @EXPLICIT, pylock.toml.

    The channel "host" makes a Python from this machine's own interpreters. It stands in by itself
    when no channel can be reached and it has what is asked for.

    --cuda, --glibc and --exclude-newer choose packages for a machine that has what this one has not,
    and as of a day; later changes keep to them. For another platform see `trainenv lock`.

    \b
    Example:
      trainenv create -n my_training_env python=3.9 -y
      trainenv create -n my_training_env python=3.11 -r requirements.txt
      trainenv create -f environment.yml
      trainenv create -n copy -f pixi.lock
      trainenv create -n gpu_env pytorch --cuda 12.4
    """
    if not asking.dry_run:
        target.require_runnable()
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.create(
            name,
            *specs,
            files=[*files, *requirements],
            channels=channels,
            target=target,
            freeze_conda=freeze_conda,
            confirm=asking.confirm,
        ),
        "Created",
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the environment.")
@what_to_install
@target_options
@freeze_conda_option
@offline_option
@busy_options
@change_options
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.pass_context
def install(
    ctx: click.Context,
    name: str,
    files: tuple[Path, ...],
    requirements: tuple[Path, ...],
    channels: tuple[str, ...],
    target: Target,
    freeze_conda: bool,
    wait: bool,
    force: bool,
    asking: Asking,
    specs: tuple[str, ...],
) -> None:
    """Add conda packages and PyPI requirements to an environment, in one transaction.

    When anything fails the environment is as it was before.

    \b
    Example:
      trainenv install -n my_training_env -r requirements.txt
      trainenv install -n my_training_env numpy=1.26
    """
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.install(
            name,
            *specs,
            files=[*files, *requirements],
            channels=channels,
            target=target,
            freeze_conda=freeze_conda,
            confirm=asking.confirm,
            wait=wait,
            force=force,
        ),
        "Changed",
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@busy_options
@change_options
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE...")
@click.pass_context
def remove(
    ctx: click.Context,
    name: str,
    wait: bool,
    force: bool,
    asking: Asking,
    packages: tuple[str, ...],
) -> None:
    """Remove packages, conda's and PyPI's, and what depends on them, in one transaction.

    \b
    Example:
      trainenv remove -n my_training_env scikit-learn
    """
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.remove_packages(name, *packages, confirm=asking.confirm, wait=wait, force=force), "Changed"
    )


@click.command()
@click.option("-n", "--name", required=True, metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@click.option("--all", "everything", is_flag=True, help="Update all packages.")
@target_options
@freeze_conda_option
@offline_option
@busy_options
@change_options
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@click.pass_context
def update(
    ctx: click.Context,
    name: str,
    everything: bool,
    target: Target,
    freeze_conda: bool,
    wait: bool,
    force: bool,
    asking: Asking,
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
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.update(
            name,
            *packages,
            target=target,
            freeze_conda=freeze_conda,
            confirm=asking.confirm,
            wait=wait,
            force=force,
        ),
        "Changed",
    )
