"""``trainenv method …``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from trainenv.cli.completion import ENVIRONMENT, METHOD
from trainenv.cli.group import Group
from trainenv.cli.output import json_option, print_json, print_table, workspace
from trainenv.training.method import STAGES
from trainenv.training.parameters import Parameter


@click.group(cls=Group)
def method() -> None:
    """Make, list, show and validate training methods.

    \b
    Example:
      trainenv method new my_method --conda-env my_training_env
    """


@method.command()
@click.argument("name")
@click.option("--conda-env", metavar="ENV", type=ENVIRONMENT, help="The environment that it runs in.")
@click.option("--from", "source", metavar="METHOD", type=METHOD, help="Copy this method, not the template.")
@json_option
@click.pass_context
def new(ctx: click.Context, name: str, conda_env: str | None, source: str | None, as_json: bool) -> None:
    """Make a training method that trains at once, to build upon.

    Without --conda-env it runs in the workspace's only environment.

    \b
    Example:
      trainenv method new my_method --conda-env my_training_env
      trainenv train my_method
    """
    made = workspace(ctx, as_json=as_json).new_method(name, conda_env=conda_env, source=source)
    if as_json:
        print_json(made.to_json())
        return
    print(f"Made {made.name} in {made.folder}")
    print(f"Run it: trainenv train {made.name}")


@method.command("set-env")
@click.argument("name", metavar="METHOD", type=METHOD)
@click.argument("conda_env", metavar="ENV", type=ENVIRONMENT)
@click.option("--stage", type=click.Choice(STAGES), help="Only for this stage.")
@json_option
@click.pass_context
def set_env(ctx: click.Context, name: str, conda_env: str, stage: str | None, as_json: bool) -> None:
    """Let a method, or one stage of it, run in another environment; its file's comments stay.

    \b
    Example:
      trainenv method set-env my_method my_training_env --stage infer
    """
    changed = workspace(ctx, as_json=as_json).set_environment(name, conda_env, stage=stage)
    if as_json:
        print_json(changed.to_json())
    else:
        print(f"{name} runs {f'stage {stage}' if stage else 'by default'} in {conda_env}")


@method.command("list")
@json_option
@click.pass_context
def list_methods(ctx: click.Context, as_json: bool) -> None:
    """List the training methods of the workspace.

    \b
    Example:
      trainenv method list --json
    """
    place = workspace(ctx, as_json=as_json)
    methods = place.methods()
    if as_json:
        print_json([found.to_json() for found in methods])
        return
    if not methods:
        print(f"No methods in {place.settings.methods_dir}")
        return
    print_table(
        ["Name", "Type", "conda_env", "Description"],
        [
            (found.name, found.type, ", ".join(found.environments), found.error or found.description)
            for found in methods
        ],
    )


@method.command()
@click.argument("name", type=METHOD)
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show a training method: its stages, environments and parameters.

    \b
    Example:
      trainenv method show breast_cancer_sgd
    """
    found = workspace(ctx, as_json=as_json).method(name)
    if as_json:
        print_json(found.to_json())
        return
    print_table(
        ["Method", found.name],
        [("type", found.type), ("description", found.description), ("folder", found.folder)]
        + [(f"stage {stage}", f"in {found.environment_of(stage) or 'no environment'}") for stage in found.stages],
    )
    common = found.parameters
    _print_parameters("Parameter", common)
    for stage in found.stages:
        if (own := found.parameters_of(stage)) is not common and own != common:
            _print_parameters(f"Parameter of {stage}", own)
    print()
    for stage in found.stages:
        print(
            f"Run it: {found.command_line(stage)}" if stage == "train" else f"Run {stage}: {found.command_line(stage)}"
        )


def _print_parameters(title: str, parameters: Mapping[str, Parameter]) -> None:
    if not parameters:
        return
    print()
    print_table(
        [title, "Type", "Default", "Allowed", "Description"],
        [
            (
                each.name,
                each.type,
                "required" if each.default is None and each.required else each.to_json().get("default"),
                each.allowed,
                each.description,
            )
            for each in parameters.values()
        ],
    )


@method.command()
@click.argument("name", type=METHOD)
@json_option
@click.pass_context
def validate(ctx: click.Context, name: str, as_json: bool) -> int:
    """Check that a training method could run: its file, its code, its environments, its defaults.

    Exits with 1 when it could not.

    \b
    Example:
      trainenv method validate breast_cancer_sgd
    """
    place = workspace(ctx, as_json=as_json)
    problems = place.validate(name)
    if as_json:
        print_json({"name": name, "ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            print(f"trainenv: {problem}", file=sys.stderr)
    else:
        print(f"{name} is ready to run")
    return 1 if problems else 0
