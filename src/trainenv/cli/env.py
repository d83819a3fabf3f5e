"""``trainenv list`` and ``trainenv env …``."""

from __future__ import annotations

import sys

import click

from trainenv.cli.output import (
    chosen,
    environment_options,
    human_size,
    json_option,
    print_json,
    print_table,
    workspace,
    yes_option,
)


@click.command("list")
@environment_options
@json_option
@click.pass_context
def list_packages(ctx: click.Context, name: str | None, prefix: str | None, as_json: bool) -> None:
    """List the packages of an environment, conda's and PyPI's.

    \b
    Example:
      trainenv list -n my_training_env
    """
    environment = chosen(workspace(ctx, as_json=as_json), name, prefix)
    packages = environment.packages
    if as_json:
        print_json([package.to_json() for package in packages])
        return
    print(f"# packages in {environment.prefix}")
    if environment.host_fallback:
        print(f"# from the host channel, because {environment.host_fallback}")
    print_table(
        ["Name", "Version", "Build", "Channel"],
        [(item.name, item.version, item.build, item.channel) for item in packages],
    )


@click.group()
def env() -> None:
    """List, show, verify and remove environments.

    \b
    Example:
      trainenv env list
    """


@env.command("list")
@json_option
@click.pass_context
def list_environments(ctx: click.Context, as_json: bool) -> None:
    """List the environments of the workspace.

    \b
    Example:
      trainenv env list --json
    """
    place = workspace(ctx, as_json=as_json)
    shown = [environment.to_json() for environment in place.environments()]
    if as_json:
        print_json(shown)
        return
    if not shown:
        print(f"No environments in {place.settings.envs_dir}. Make one: trainenv create -n my_training_env python")
        return
    print_table(
        ["Name", "Python", "Packages", "Size", "Status", "Prefix"],
        [
            (item["name"], item["python"], item["packages"], human_size(item["size"]), item["status"], item["prefix"])
            for item in shown
        ],
        right=["Packages", "Size"],
    )


@env.command()
@environment_options
@click.argument("environment_name", metavar="[NAME]", required=False)
@json_option
@click.pass_context
def show(ctx: click.Context, name: str | None, prefix: str | None, environment_name: str | None, as_json: bool) -> None:
    """Show one environment.

    \b
    Example:
      trainenv env show my_training_env
    """
    environment = chosen(workspace(ctx, as_json=as_json), name, prefix, environment_name)
    shown = environment.to_json()
    if as_json:
        print_json(shown)
        return
    shown["size"] = human_size(shown["size"])
    shown["channels"] = ", ".join(shown["channels"])
    if not shown["host_fallback"]:
        del shown["host_fallback"]
    print_table(["Environment", shown.pop("name")], shown.items())


@env.command()
@environment_options
@click.argument("environment_name", metavar="[NAME]", required=False)
@click.option("--old-prefix", "old_prefixes", multiple=True, metavar="PATH", help="A prefix that no file may hold.")
@click.option("--no-imports", is_flag=True, help="Don't import the packages that the requirements named.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    name: str | None,
    prefix: str | None,
    environment_name: str | None,
    old_prefixes: tuple[str, ...],
    no_imports: bool,
    as_json: bool,
) -> int:
    """Check an environment: every recorded file and its hash, leftover prefixes, the interpreter.

    Exits with 1 when something does not hold.

    \b
    Example:
      trainenv env verify my_training_env --old-prefix /opt/conda/envs/my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix, environment_name)
    found = place.verify(environment, old_prefixes=old_prefixes, imports=not no_imports)
    if as_json:
        print_json(found.to_json())
    elif found.ok:
        imported = f", imports {', '.join(found.imported)}" if found.imported else ""
        print(f"{environment.name} is whole: {found.files} files hold their hashes, no old prefix is left{imported}")
    else:
        for problem in found.problems:
            print(f"trainenv: {environment.name}: {problem}", file=sys.stderr)
    return 0 if found.ok else 1


@env.command()
@click.option("-n", "--name", metavar="NAME", help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False)
@yes_option
@click.pass_context
def remove(ctx: click.Context, name: str | None, environment_name: str | None, yes: bool) -> None:
    """Remove an environment.

    \b
    Example:
      trainenv env remove my_training_env -y
    """
    place = workspace(ctx)
    environment = chosen(place, name, None, environment_name)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {environment.prefix} ({human_size(environment.size)})?", abort=True)
    place.remove(environment.name)
    print(f"Removed {environment.name}")
