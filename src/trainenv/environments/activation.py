"""What ``conda activate`` does to the variables of a process, without conda and without a shell.

Standard library only. Sources of the rules: conda's documented activation (PATH, ``CONDA_PREFIX``,
``CONDA_DEFAULT_ENV``, ``CONDA_SHLVL``; ``etc/conda/env_vars.d/*.json``; ``conda-meta/state``;
``etc/conda/activate.d/*.sh``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def environ(prefix: Path, name: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``base`` as they are with the environment at ``prefix`` activated.

    Activating again, or another environment from within one, replaces the former's PATH entries.
    """
    variables = dict(base)
    own = str(prefix / "bin")
    former = os.path.join(base.get("CONDA_PREFIX") or prefix, "bin")
    path = base.get("PATH", os.defpath).split(os.pathsep)
    variables["PATH"] = os.pathsep.join([own, *(part for part in path if part and part not in (own, former))])
    variables["CONDA_PREFIX"] = str(prefix)
    variables["CONDA_DEFAULT_ENV"] = name
    variables["CONDA_SHLVL"] = "1"
    variables["CONDA_PROMPT_MODIFIER"] = f"({name}) "
    for foreign in ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"):
        variables.pop(foreign, None)
    variables.update(_own_variables(prefix))
    return variables


def command(prefix: Path, argv: Sequence[str]) -> list[str]:
    """``argv``, or a bash that sources the environment's ``activate.d`` scripts and becomes ``argv``.

    The bash replaces itself with the command, so signals, exit code and standard input stay the
    command's own. The command is kept in an array: a script that says ``set --`` would lose it.
    """
    scripts = activation_scripts(prefix)
    if not scripts:
        return list(argv)
    import shlex

    sourcing = "".join(f". {shlex.quote(str(script))}\n" for script in scripts)
    become = f'__trainenv_command=("$@")\n{sourcing}exec "${{__trainenv_command[@]}}"'
    return ["bash", "--noprofile", "--norc", "-c", become, "trainenv-run", *argv]


def activation_scripts(prefix: Path) -> list[Path]:
    """The environment's ``activate.d`` shell scripts in the order in which conda sources them."""
    folder = prefix / "etc" / "conda" / "activate.d"
    try:
        return [folder / entry for entry in sorted(os.listdir(folder)) if entry.endswith(".sh")]
    except OSError:
        return []


def _own_variables(prefix: Path) -> dict[str, str]:
    variables: dict[str, str] = {}
    folder = prefix / "etc" / "conda" / "env_vars.d"
    files = [folder / entry for entry in sorted(os.listdir(folder))] if folder.is_dir() else []
    for file in files:
        if file.suffix == ".json":
            variables.update(_string_values(file))
    state = prefix / "conda-meta" / "state"
    if state.is_file():
        variables.update(_string_values(state, key="env_vars"))
    return {key: value for key, value in variables.items() if value != "***unset***"}


def _string_values(file: Path, key: str | None = None) -> dict[str, str]:
    import json

    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if key is not None and isinstance(values, dict):
        values = values.get(key)
    if not isinstance(values, dict):
        return {}
    return {str(name): str(value) for name, value in values.items()}
