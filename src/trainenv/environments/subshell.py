"""The user's own shell, started with an environment active: what ``trainenv shell`` becomes.

An interactive shell reads the user's start-up files first, which may set PATH anew or activate
something else (conda's ``base``). So the environment is activated after them, by the shell itself:
each shell has its own way to be told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainenv.environments import activation
from trainenv.environments.shells import DIALECTS, FOLDER, program


@dataclass(frozen=True)
class Subshell:
    """A shell to become. ``sure`` is False for a shell whose start-up files could undo the activation."""

    argv: list[str]
    variables: dict[str, str]
    sure: bool = True


def interactive(shell: str, activation_arguments: list[str], base: Mapping[str, str]) -> Subshell | None:
    """The interactive ``shell`` (a program's path) that activates what the arguments name.

    ``activation_arguments`` are those of ``trainenv``, without ``--shell``. None if it is no shell
    that can be told to.
    """
    name = os.path.basename(shell)
    dialect = DIALECTS.get(name)
    if dialect is None:
        return None
    kind = {"fish": "fish", "pwsh": "powershell", "powershell": "powershell"}.get(name, "posix")
    words = " ".join(map(dialect.quoted, [*program(), *activation_arguments, "--shell", kind]))
    variables = dict(base)
    if kind == "fish":
        evaluated = f"set -l code ({words} | string collect); and printf '%s\\n' \"$code\" | source; or exit 1"
        return Subshell([shell, "-i", "-C", evaluated], variables)
    if kind == "powershell":
        return Subshell([shell, "-NoExit", "-Command", f"& {words} | Out-String | Invoke-Expression"], variables)
    variables["_TRAINENV_STARTUP"] = (
        f'unset _TRAINENV_STARTUP; _trainenv_code="$({words})" && eval "$_trainenv_code" && unset _trainenv_code'
    )
    if name == "bash":
        return Subshell([shell, "--rcfile", str(FOLDER / "startup.bash"), "-i"], variables)
    if name == "zsh":
        if "ZDOTDIR" in variables:
            variables["_TRAINENV_ZDOTDIR"] = variables["ZDOTDIR"]
        variables["ZDOTDIR"] = variables["_TRAINENV_STARTUP_FOLDER"] = str(FOLDER / "zsh")
        return Subshell([shell, "-i"], variables)
    if "ENV" in variables:
        variables["_TRAINENV_ENV"] = variables["ENV"]
    variables["ENV"] = str(FOLDER / "startup.sh")
    return Subshell([shell, "-i"], variables)


def scripted(shell: str, prefix: Path, name: str, base: Mapping[str, str]) -> Subshell:
    """``shell`` with the environment active from the start, for one that reads commands, not a user."""
    argv, variables = activation.launched(prefix, name, [shell], base)
    return Subshell(argv, variables, sure=DIALECTS.get(os.path.basename(shell)) is not None)
