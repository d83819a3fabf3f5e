"""``trainenv lock``: what an environment would hold, for this machine or others, as a file."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from trainenv.channels.target import Target
from trainenv.cli.changes import dry_run_option, print_plan, target_options
from trainenv.cli.create import what_to_install
from trainenv.cli.output import json_option, offline_option, print_json, workspace, write_file
from trainenv.errors import UsageError, listed

_FORMATS = ("pixi.lock", "pylock.toml", "explicit")


@click.command()
@what_to_install
@click.option(
    "--platform",
    "--subdir",
    "platforms",
    metavar="PLATFORM",
    multiple=True,
    help="For this platform, such as linux-aarch64; several go into one pixi.lock.",
)
@target_options
@click.option("-o", "--output", metavar="FILE", help="Write here, or - for standard output.")
@click.option("--format", "format", type=click.Choice(_FORMATS), help="The format; pixi.lock unless FILE tells.")
@offline_option
@dry_run_option
@json_option
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.pass_context
def lock(
    ctx: click.Context,
    files: tuple[Path, ...],
    requirements: tuple[Path, ...],
    channels: tuple[str, ...],
    platforms: tuple[str, ...],
    target: Target,
    output: str | None,
    format: str | None,
    dry_run: bool,
    as_json: bool,
    specs: tuple[str, ...],
) -> None:
    """Lock a specification for a machine, without making an environment: every file with its sha256.

    The machine need not be this one: another platform, one with a GPU, one with an older C library. There
    `trainenv create -f` makes exactly that of it, and `trainenv channel mirror` fetches the files. pixi.lock
    holds everything, explicit (conda's @EXPLICIT) the conda packages, pylock.toml the PyPI packages.

    \b
    Example:
      trainenv lock -f environment.yml --platform linux-aarch64 -o pixi.lock
      trainenv lock python=3.11 pytorch --cuda 12.4 --glibc 2.28 -o pixi.lock
      trainenv lock -f environment.yml --platform linux-64 --platform linux-aarch64 --dry-run
    """
    wanted = format or _format_of(output)
    if output is None and not dry_run:
        raise UsageError("where shall the lock go", hint="Give -o pixi.lock, -o - for standard output, or --dry-run")
    place = workspace(ctx, as_json=as_json)
    targets = [replace(target, platform=platform) for platform in platforms] or [target]
    locked = place.lock(*specs, files=[*files, *requirements], channels=channels, targets=targets)
    if dry_run:
        if as_json:
            print_json(locked.to_json())
        else:
            for plan in locked.plans():
                print_plan(plan)
        return
    assert output is not None
    text = locked.dump(wanted)
    if missing := locked.left_out(wanted):
        place.reporter.notice(f"{wanted} has no place for {listed(missing)}")
    if output == "-":
        sys.stdout.write(text)
        return
    write_file(Path(output).resolve(), text)
    if as_json:
        print_json(locked.to_json())
        return
    for plan in locked.plans():
        print(f"Locked {len(plan.changes)} packages for {plan.name} in {output}")


def _format_of(output: str | None) -> str:
    name = Path(output or "").name.lower()
    return "pylock.toml" if name.endswith(".toml") else "explicit" if name.endswith(".txt") else "pixi.lock"
