"""``trainenv activate``."""

from __future__ import annotations

import os
import shlex
import sys

import click

from trainenv.cli.output import chosen, workspace
from trainenv.environments.activation import activation_scripts, environ

_KEPT = "_TRAINENV_OLD_"


@click.command()
@click.argument("name", metavar="NAME", required=False)
@click.option("-n", "--name", "option_name", metavar="NAME", help="Name of the environment.")
@click.option("-p", "--prefix", metavar="PREFIX", help="Folder of the environment, instead of a name.")
@click.pass_context
def activate(ctx: click.Context, name: str | None, option_name: str | None, prefix: str | None) -> None:
    """Print the shell code that activates an environment in bash, zsh or sh.

    It also defines `deactivate`, which brings the shell's variables back.

    \b
    Example:
      eval "$(trainenv activate my_training_env)"
    """
    environment = chosen(workspace(ctx), option_name, prefix, name)
    former = dict(os.environ)
    wanted = environ(environment.prefix, environment.name, former)
    changed = {key: value for key, value in wanted.items() if former.get(key) != value}
    removed = [key for key in former if key not in wanted]
    lines = []
    restoring = []
    for key in [*changed, *removed]:
        if key in former:
            lines.append(f"{_KEPT}{key}={shlex.quote(former[key])}")
            restoring.append(f'export {key}="${{{_KEPT}{key}}}"; unset {_KEPT}{key}')
        else:
            restoring.append(f"unset {key}")
    lines += [f"export {key}={shlex.quote(value)}" for key, value in changed.items()]
    lines += [f"unset {key}" for key in removed]
    lines += [
        f'if [ -n "${{PS1-}}" ]; then {_KEPT}PS1="$PS1"; PS1={shlex.quote(f"({environment.name}) ")}"$PS1"; fi',
        "deactivate() {",
        *(f"  {line}" for line in restoring),
        f'  if [ -n "${{{_KEPT}PS1-}}" ]; then PS1="${{{_KEPT}PS1}}"; unset {_KEPT}PS1; fi',
        "  hash -r 2>/dev/null; unset -f deactivate",
        "}",
        *(f". {shlex.quote(str(script))}" for script in activation_scripts(environment.prefix)),
        "hash -r 2>/dev/null || true",
    ]
    print("\n".join(lines))
    if sys.stdout.isatty():
        print(f'# To activate it in this shell: eval "$(trainenv activate {environment.name})"', file=sys.stderr)
