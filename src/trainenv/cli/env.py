"""``trainenv list`` and ``trainenv env …``."""

from __future__ import annotations

import os
import re
import sys

import click

from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.export import diff, export
from trainenv.cli.group import Group
from trainenv.cli.kernel import kernel
from trainenv.cli.manifest import manifest
from trainenv.cli.output import (
    chosen,
    environment_options,
    json_option,
    print_json,
    print_table,
    workspace,
    yes_option,
)
from trainenv.cli.rollback import rollback, show_generations
from trainenv.cli.upkeep import clone, rename, repair
from trainenv.cli.vars import env_vars
from trainenv.environments.environment import Environment
from trainenv.environments.records import Package
from trainenv.errors import EnvironmentBusyError, UsageError
from trainenv.sizes import human_size

_MOST_NOTES = 3

_ELSEWHERE = {
    "activate": "`trainenv activate NAME`",
    "config": "`trainenv env vars`",
    "create": "`trainenv create -n NAME -f FILE`",
    "update": "`trainenv install -n NAME -f FILE`, which adds what FILE asks for, or `trainenv update -n NAME --all`",
}


@click.command("list")
@environment_options
@json_option
@click.argument("pattern", required=False, metavar="[REGEX]")
@click.pass_context
def list_packages(ctx: click.Context, name: str | None, prefix: str | None, as_json: bool, pattern: str | None) -> None:
    """List the packages of an environment, conda's and PyPI's.

    Without -n and -p those of the active one; with REGEX those whose name it is found in.

    \b
    Example:
      trainenv list -n my_training_env
      trainenv list -n my_training_env '^nvidia-'
    """
    environment = chosen(workspace(ctx, as_json=as_json), name, prefix, or_active=True)
    try:
        wanted = re.compile(pattern or "", re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression", cause=str(error)) from None
    packages = [package for package in environment.packages if wanted.search(package.name)]
    if as_json:
        print_json([package.to_json() for package in packages])
        return
    print(f"# packages in {environment.prefix}")
    if environment.host_fallback:
        print(f"# from the host channel, because {environment.host_fallback}")
    remarks = [_remark(item) for item in packages]
    print_table(
        ["Name", "Version", "Build", "Channel", *(["Remarks"] if any(remarks) else [])],
        [
            (item.name, item.version, item.build, item.channel, *([remark] if any(remarks) else []))
            for item, remark in zip(packages, remarks, strict=True)
        ],
    )


def _remark(package: Package) -> str:
    """What is worth knowing of where a PyPI package came from."""
    return ", ".join(
        [
            *([f"editable: {package.editable}"] if package.editable else []),
            *([package.url] if package.url else []),
            *([f"replaces {package.replaces}"] if package.replaces else []),
        ]
    )


@click.group(cls=Group, elsewhere=_ELSEWHERE)
def env() -> None:
    """List, show, verify, export, compare and remove environments.

    \b
    Example:
      trainenv env list
    """


env.add_command(export)
env.add_command(diff)
env.add_command(repair)
env.add_command(clone)
env.add_command(rename)
env.add_command(rollback)
env.add_command(show_generations)
env.add_command(manifest)


@env.command("list")
@click.option("--sizes", is_flag=True, help="Measure the files, and what of them no cache or other environment shares.")
@json_option
@click.pass_context
def list_environments(ctx: click.Context, sizes: bool, as_json: bool) -> None:
    """List the environments of the workspace, and after them conda's own, which can be used by name as well.

    \b
    Example:
      trainenv env list --json
    """
    place = workspace(ctx, as_json=as_json)
    environments = place.environments(foreign=True)
    shown = [environment.to_json() for environment in environments]
    if sizes:
        for item, environment in zip(shown, environments, strict=True):
            measured = environment.sizes
            item |= {"size": measured.apparent, "own_size": measured.own}
    if as_json:
        print_json(shown)
        return
    if not shown:
        print(f"No environments in {place.settings.envs_dir}. Make one: trainenv create -n my_training_env python")
        return
    own = ["Own size"] if sizes else []
    print_table(
        ["Name", "Python", "Packages", "Size", *own, "Status", "Prefix"],
        [
            (
                item["name"],
                item["python"],
                item["packages"],
                human_size(item["size"]),
                *([human_size(item["own_size"])] if sizes else []),
                f"{item['status']}, not of this workspace" if item["foreign"] else item["status"],
                item["prefix"],
            )
            for item in shown
        ],
        right=["Packages", "Size", *own],
    )


@env.command()
@environment_options
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@json_option
@click.pass_context
def show(ctx: click.Context, name: str | None, prefix: str | None, environment_name: str | None, as_json: bool) -> None:
    """Show one environment.

    \b
    Example:
      trainenv env show my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix, environment_name, or_active=True)
    shown = environment.to_json()
    if environment.prefix.parent == place.settings.envs_dir:
        shown["generations"] = [item.number for item in place.generations(environment.name)]
    if as_json:
        print_json(shown)
        return
    shown["size"] = human_size(shown["size"])
    shown["channels"] = ", ".join(shown["channels"])
    if "generations" in shown:
        shown["generations"] = ", ".join(map(str, shown["generations"]))
    if not shown["host_fallback"]:
        del shown["host_fallback"]
    print_table(["Environment", shown.pop("name")], shown.items())


@env.command()
@environment_options
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@click.option("--old-prefix", "old_prefixes", multiple=True, metavar="PATH", help="A prefix that no file may hold.")
@click.option("--imports/--no-imports", default=False, help="Also import the packages that the requirements named.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    name: str | None,
    prefix: str | None,
    environment_name: str | None,
    old_prefixes: tuple[str, ...],
    imports: bool,
    as_json: bool,
) -> int:
    """Check an environment: every recorded file and its hash, leftover prefixes, libraries, the interpreter.

    Exits with 1 when something does not hold.

    \b
    Example:
      trainenv env verify my_training_env --old-prefix /opt/conda/envs/my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix, environment_name, or_active=True)
    found = place.verify(environment, old_prefixes=old_prefixes, imports=imports)
    if as_json:
        print_json(found.to_json())
    elif found.ok:
        imported = f", imports {', '.join(found.imported)}" if found.imported else ""
        print(f"{environment.name} is whole: {found.files} files hold their hashes, no old prefix is left{imported}")
    else:
        for problem in found.problems:
            print(f"trainenv: {environment.name}: {problem}", file=sys.stderr)
        print(_way_out(environment), file=sys.stderr)
    if not as_json:
        for note in found.notes[:_MOST_NOTES]:
            print(f"note: {note}")
        if len(found.notes) > _MOST_NOTES:
            print(f"note: --json shows {len(found.notes) - _MOST_NOTES} more")
        if found.unknown:
            print(f"note: {len(found.unknown)} files belong to no package, such as {found.unknown[0]}")
    return 0 if found.ok else 1


def _way_out(environment: Environment) -> str:
    if environment.status == "mounted":
        return f"Its image has to be another: `trainenv env remove {environment.name}`, and unpack or mount a sound one"
    return f"`trainenv env repair {environment.name}` mends what it can"


@env.command()
@click.option("-n", "--name", metavar="NAME", help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@click.option("--wait", is_flag=True, help="Wait while something runs in it.")
@click.option(
    "--force", is_flag=True, help="Also while a training method names it, something runs in it, or it is active."
)
@yes_option
@click.pass_context
def remove(
    ctx: click.Context, name: str | None, environment_name: str | None, wait: bool, force: bool, yes: bool
) -> None:
    """Remove an environment, unless a training method names it, something runs in it, or it is active here.

    \b
    Example:
      trainenv env remove my_training_env -y
    """
    place = workspace(ctx)
    environment = chosen(place, name, None, environment_name, to_use=False)
    active = [value for key, value in os.environ.items() if re.fullmatch(r"CONDA_PREFIX(_\d+)?", key)]
    if not force and str(environment.prefix) in active:
        raise EnvironmentBusyError(
            f"environment {environment.name!r} is active in this shell",
            hint="`trainenv deactivate` it first, or --force",
        )
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {environment.prefix} ({human_size(environment.size)})?", abort=True)
    place.remove(environment.name, wait=wait, force=force)
    print(f"Removed {environment.name}")


env.add_command(env_vars)
env.add_command(kernel)
