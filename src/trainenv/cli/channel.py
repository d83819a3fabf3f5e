"""``trainenv channel …``."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.cli.group import Group
from trainenv.cli.output import json_option, offline_option, print_json, print_table, workspace
from trainenv.sizes import human_size


@click.group(cls=Group)
def channel() -> None:
    """Show, make and mirror the places that packages come from.

    \b
    Example:
      trainenv channel list
    """


@channel.command("list")
@offline_option
@json_option
@click.pass_context
def list_channels(ctx: click.Context, as_json: bool) -> None:
    """List the channels in force: where each was named, its mirrors, whether it answers.

    \b
    Example:
      trainenv channel list --json
    """
    found = [item.to_json() for item in workspace(ctx, as_json=as_json).channels()]
    if as_json:
        print_json(found)
        return
    print_table(
        ["Channel", "Address", "Answer", "Named in", "Who"],
        [
            (item["name"], item["url"], item["problem"] or "ok", item["origin"], item["credentials"] or "anyone")
            for item in found
        ],
    )


@channel.command("add-host")
@click.argument("python", required=False, metavar="[PYTHON]")
@json_option
@click.pass_context
def add_host(ctx: click.Context, python: str | None, as_json: bool) -> None:
    """Put an interpreter of this machine into the host channel: a path, a version, or the best there is.

    \b
    Example:
      trainenv channel add-host 3.11
      trainenv channel add-host /opt/python/bin/python3.12
    """
    place = workspace(ctx, as_json=as_json)
    added = place.add_host(python)
    if as_json:
        print_json(added.to_json())
    else:
        print(f"The host channel of {place.settings.root} has Python {added}")


@channel.command()
@json_option
@click.pass_context
def build(ctx: click.Context, as_json: bool) -> None:
    """Put every usable interpreter of this machine into the host channel.

    \b
    Example:
      trainenv channel build
    """
    built = workspace(ctx, as_json=as_json).build_host()
    if as_json:
        print_json([one.to_json() for one in built])
        return
    print_table(
        ["Python", "Found", "Executable", "State"],
        [(one.version, one.source, one.executable, one.unusable or "packaged") for one in built],
    )


@channel.command("mirror")
@click.argument("source", metavar="LOCK|ENVIRONMENT")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder; added to if there.",
)
@json_option
@click.pass_context
def make_mirror(ctx: click.Context, source: str, output: Path, as_json: bool) -> None:
    """Copy every file that a lock or an environment needs into a folder for machines without a network.

    The folder is a conda channel and a PyPI index at once, from a disk or behind a web server.

    \b
    Example:
      trainenv channel mirror my_training_env -o /mnt/disk/mirror
    """
    made = workspace(ctx, as_json=as_json).mirror(source, output)
    if as_json:
        print_json(made.to_json())
        return
    print(
        f"{made.folder} has {made.conda} conda and {made.pypi} PyPI packages; "
        f"{made.fetched} of them copied now, {human_size(made.bytes)}"
    )
    print(f'Use it there: in trainenv.toml channels = ["{made.folder}"], and PIP_INDEX_URL={made.index_url}')
    print(f"A lock finds its files there as well: trainenv create -n NAME -f LOCK -c {made.folder}")
