"""``trainenv activate``, ``deactivate`` and ``shell``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from trainenv.cli.completion import ENVIRONMENT, FOLDER
from trainenv.cli.output import chosen, workspace
from trainenv.environments import shells, stacking, subshell
from trainenv.environments.environment import Environment
from trainenv.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def _environment_options(command: F) -> F:
    """``NAME``, ``-n NAME`` or ``-p PREFIX``; as with conda, a NAME with a slash in it is a folder."""
    for option in (
        click.option("-p", "--prefix", metavar="PREFIX", type=FOLDER, help="Folder of the environment instead."),
        click.option("-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment."),
        click.argument("argument", metavar="[NAME]", required=False, type=ENVIRONMENT),
    ):
        command = option(command)
    return command


def _chosen(ctx: click.Context, argument: str | None, name: str | None, prefix: str | None) -> Environment:
    if argument and "/" in argument and prefix is None:
        argument, prefix = None, argument
    return chosen(workspace(ctx), name, prefix, argument)


_shell_option = click.option(
    "--shell", type=click.Choice(list(shells.DIALECTS)), help="The shell to write for (else found out)."
)


@click.command()
@_environment_options
@_shell_option
@click.pass_context
def activate(ctx: click.Context, argument: str | None, name: str | None, prefix: str | None, shell: str | None) -> None:
    """Activate an environment in this shell, on top of what is active there.

    After `trainenv init` it does so by itself. Without, it prints the code that the shell must
    evaluate; `trainenv deactivate` is known to the shell from then on.

    \b
    Example:
      trainenv activate my_training_env
      eval "$(trainenv activate my_training_env)"                        without `trainenv init`
      trainenv activate my_training_env | source                         in fish
      trainenv activate my_training_env | Out-String | Invoke-Expression   in PowerShell
    """
    environment = _chosen(ctx, argument, name, prefix)
    _print(stacking.activate(environment.prefix, environment.name, os.environ), shell)
    if sys.stdout.isatty():
        example = f'eval "$(trainenv activate {environment.name})"'
        print(f"# This only printed it. To activate: `trainenv init` once, or {example}", file=sys.stderr)


@click.command()
@_shell_option
@click.pass_context
def deactivate(ctx: click.Context, shell: str | None) -> None:
    """Leave the active environment for the one that was active before it.

    \b
    Example:
      trainenv deactivate
      eval "$(trainenv deactivate)"      where nothing of trainenv was evaluated yet
    """
    if not os.environ.get("CONDA_PREFIX"):
        raise UsageError("no environment is active", hint="`trainenv activate NAME` activates one")
    _print(stacking.deactivate(os.environ), shell)


def _print(step: stacking.Step, shell: str | None) -> None:
    sys.stdout.buffer.write(shells.activation_code(step, shell))
    sys.stdout.flush()


@click.command()
@_environment_options
@click.pass_context
def shell(ctx: click.Context, argument: str | None, name: str | None, prefix: str | None) -> None:
    """Start your own shell with an environment active; `exit` leaves both.

    \b
    Example:
      trainenv shell -n my_training_env
    """
    _become(_chosen(ctx, argument, name, prefix))


def _become(environment: Environment) -> NoReturn:
    own = shells.users_shell()
    arguments = ["activate", "--prefix", str(environment.prefix)]
    wanted = subshell.interactive(own, arguments, os.environ) if sys.stdin.isatty() else None
    wanted = wanted or subshell.scripted(own, environment.prefix, environment.name, os.environ)
    if not wanted.sure:
        print(f"trainenv: {own} is not known: its start-up files may undo the activation", file=sys.stderr)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execvpe(wanted.argv[0], wanted.argv, wanted.variables)
