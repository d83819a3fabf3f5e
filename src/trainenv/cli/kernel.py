"""``trainenv env kernel``."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.cli.completion import ENVIRONMENT, FOLDER
from trainenv.cli.output import workspace
from trainenv.errors import UsageError


@click.command()
@click.option("-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")
@click.argument("environment_name", metavar="[NAME]", required=False, type=ENVIRONMENT)
@click.option("--display-name", metavar="TEXT", help="What Jupyter shows (else its Python and its name).")
@click.option("--prefix", metavar="DIR", type=FOLDER, help="Folder of the Jupyter to add it to, instead of yours.")
@click.option("--remove", is_flag=True, help="Take the kernel out of Jupyter again.")
@click.pass_context
def kernel(
    ctx: click.Context,
    name: str | None,
    environment_name: str | None,
    display_name: str | None,
    prefix: str | None,
    remove: bool,
) -> None:
    """Make an environment a kernel of Jupyter, started as `trainenv run` starts things.

    \b
    Example:
      trainenv env kernel -n my_training_env --display-name "Chat models"
      trainenv env kernel -n my_training_env --remove
    """
    place = workspace(ctx)
    if (name is None) == (environment_name is None):
        raise UsageError("name one environment, with -n NAME", hint="See `trainenv env list`")
    chosen_name = name or environment_name or ""
    folder = Path(prefix) if prefix else None
    if remove:
        print(f"Removed {place.remove_kernel(chosen_name, prefix=folder)}")
        return
    made = place.install_kernel(place.environment(chosen_name), display_name=display_name, prefix=folder)
    print(f"Kernel {made.name} is in {made.parent}. Jupyter shows it when its page is loaded anew.")
