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
from trainenv.cli.output import OWN_NAME, F, offline_option, own_name, workspace
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
@click.option("--clone", "original", metavar="NAME", type=ENVIRONMENT, help="Copy this environment, and solve nothing.")
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
    original: str | None,
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
    if original is not None:
        if specs or files or requirements or channels or asking.dry_run or name is None:
            raise UsageError("--clone goes with -n NAME alone", hint="Clone first, then `trainenv install` the rest")
        from trainenv.cli.upkeep import clone

        ctx.invoke(clone, source=original, prefix=None, new=name, as_json=asking.as_json)
        return
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
@OWN_NAME
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
    name: str | None,
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
            own_name(place, name),
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
@OWN_NAME
@click.option("--all", "everything", is_flag=True, help="Remove the environment itself, as `trainenv env remove` does.")
@busy_options
@change_options
@click.argument("packages", nargs=-1, metavar="PACKAGE...")
@click.pass_context
def remove(
    ctx: click.Context,
    name: str | None,
    everything: bool,
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
    if everything == bool(packages):
        raise UsageError("name packages to remove, or --all", hint="See `trainenv remove --help`")
    if everything:
        if name is None or asking.dry_run or asking.as_json:
            raise UsageError(
                "--all goes with -n NAME, and with neither --dry-run nor --json",
                hint="See `trainenv env remove --help`",
            )
        from trainenv.cli.env import remove as remove_environment

        ctx.invoke(remove_environment, name=name, environment_name=None, wait=wait, force=force, yes=asking.yes)
        return
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.remove_packages(own_name(place, name), *packages, confirm=asking.confirm, wait=wait, force=force),
        "Changed",
    )


@click.command()
@OWN_NAME
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
    name: str | None,
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
            own_name(place, name),
            *packages,
            target=target,
            freeze_conda=freeze_conda,
            confirm=asking.confirm,
            wait=wait,
            force=force,
        ),
        "Changed",
    )
