"""``trainenv env export`` and ``trainenv env diff``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trainenv.cli.output import chosen, environment_options, json_option, print_json, print_table, workspace, write_file
from trainenv.environments.records import Package
from trainenv.errors import listed

_FORMATS = ("environment.yml", "requirements.txt", "pixi.lock", "pylock.toml", "explicit")


@click.command()
@environment_options
@click.argument("environment_name", metavar="[NAME]", required=False)
@click.option("-o", "--output", "-f", "--file", "output", metavar="FILE", help="Write here; the name tells the format.")
@click.option("--format", "format", type=click.Choice(_FORMATS), help="The format; environment.yml unless FILE tells.")
@click.option("--no-builds", is_flag=True, help="Leave conda's build strings out of an environment.yml.")
@click.option("--from-history", is_flag=True, help="Only what was asked for, in an environment.yml.")
@click.option("--sbom", is_flag=True, help="Write a software bill of materials (CycloneDX JSON) instead.")
@click.pass_context
def export(
    ctx: click.Context,
    name: str | None,
    prefix: str | None,
    environment_name: str | None,
    output: str | None,
    format: str | None,
    no_builds: bool,
    from_history: bool,
    sbom: bool,
) -> None:
    """Write an environment as a file from which it can be created again.

    pixi.lock holds all of it, to the file and its sha256. explicit (conda's @EXPLICIT) holds the
    conda packages, pylock.toml the PyPI packages, both to the file; requirements.txt pins the
    Python packages. For a machine with another Python, take environment.yml with --no-builds, for
    another platform with --from-history.

    \b
    Example:
      trainenv env export -n my_training_env > environment.yml
      trainenv env export -n my_training_env -o pixi.lock
      trainenv create -n copy -f pixi.lock
    """
    from trainenv.environments.export import format_of, left_out

    place = workspace(ctx)
    environment = chosen(place, name or environment_name, prefix, or_active=True)
    wanted = "sbom" if sbom else format or (format_of(output) if output else "environment.yml")
    text = place.export(environment, wanted, builds=not no_builds, from_history=from_history)
    if missing := left_out(environment, wanted):
        place.reporter.notice(f"{wanted} has no place for {listed(missing)}")
    if not output:
        sys.stdout.write(text)
        return
    write_file(Path(output).resolve(), text)


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@json_option
@click.pass_context
def diff(ctx: click.Context, before: str, after: str, as_json: bool) -> int:
    """Compare the packages of two environments, or of one with a lock, an archive or a specification.

    A and B are names or prefixes of environments, or files: pixi.lock, conda-lock.yml, @EXPLICIT,
    pylock.toml, an archive, requirements.txt, environment.yml, pyproject.toml. Exits with 0 when
    nothing differs and with 1 when something does.

    \b
    Example:
      trainenv env diff my_training_env other_env
      trainenv env diff my_training_env requirements.txt
    """
    changes = workspace(ctx, as_json=as_json).diff(before, after)
    if as_json:
        print_json([change.to_json() for change in changes])
    elif not changes:
        print(f"{before} and {after}: nothing differs")
    else:
        rows = [(change.kind, change.name, _shown(change.before), _shown(change.after)) for change in changes]
        print_table(["Change", "Name", before, after], rows)
    return 1 if changes else 0


def _shown(package: Package | None) -> str:
    if package is None:
        return ""
    return " ".join(filter(None, (package.version, package.build, package.channel)))
