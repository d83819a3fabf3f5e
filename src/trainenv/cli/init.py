"""``trainenv init``."""

from __future__ import annotations

import click

from trainenv.environments import rcfile, shells
from trainenv.errors import UsageError


@click.command()
@click.argument("names", metavar="[SHELL]...", nargs=-1, type=click.Choice(rcfile.SHELLS))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--reverse", is_flag=True, help="Take out what an earlier init put in.")
def init(names: tuple[str, ...], dry_run: bool, reverse: bool) -> None:
    """Teach a shell `trainenv activate`, `deactivate` and the completion of names.

    It puts a marked block into the shell's start-up file (.bashrc, .zshrc, config.fish), beside
    conda's own if there is one. SHELL is bash, zsh or fish; by default the one in use.

    \b
    Example:
      trainenv init bash
      trainenv init bash --dry-run
      trainenv init bash --reverse
    """
    for name in names or (_in_use(),):
        change = rcfile.removed(name) if reverse else rcfile.added(name)
        if dry_run:
            print(change.diff, end="")
        else:
            change.write()
        if change.before == change.after:
            print(f"{change.file}: nothing to change")
        elif not dry_run:
            print(f"{change.file}: {'taken out' if reverse else 'done'}. It holds from the next {name} on.")


def _in_use() -> str:
    name = shells.detect()
    if name not in rcfile.SHELLS:
        raise UsageError(
            f"{name or 'the shell in use'} is none that init knows",
            hint=f"Name one: {', '.join(f'`trainenv init {shell}`' for shell in rcfile.SHELLS)}",
        )
    return name
