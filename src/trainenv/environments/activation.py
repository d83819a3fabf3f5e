"""What ``conda activate`` does to the variables of a process, without conda and without a shell.

Standard library only. Sources of the rules: conda's documented activation (PATH, ``CONDA_PREFIX``,
``CONDA_DEFAULT_ENV``, ``CONDA_SHLVL``; ``etc/conda/env_vars.d/*.json``; ``conda-meta/state``;
``etc/conda/activate.d/*.sh``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainenv.environments import stacking


def environ(prefix: Path, name: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables for a process that starts in the environment, whatever is active in ``base``.

    What is active there is left first: its PATH entries and its variables are put away.
    """
    return stacking.launched(prefix, name, base)


def command(prefix: Path, argv: Sequence[str]) -> list[str]:
    """``argv``, or a bash that sources the environment's ``activate.d`` scripts and becomes ``argv``.

    The bash replaces itself with the command, so signals, exit code and standard input stay the
    command's own. The command is kept in an array: a script that says ``set --`` would lose it.
    """
    wanted = scripts(prefix, "activate.d", ".sh")
    if not wanted:
        return list(argv)
    import shlex

    sourcing = "".join(f". {shlex.quote(str(script))}\n" for script in wanted)
    become = f'__trainenv_command=("$@")\n{sourcing}exec "${{__trainenv_command[@]}}"'
    return ["bash", "--noprofile", "--norc", "-c", become, "trainenv-run", *argv]


def scripts(prefix: Path | None, folder: str, extension: str) -> list[Path]:
    """An environment's ``activate.d`` or ``deactivate.d`` scripts, in the order in which conda sources them."""
    if prefix is None:
        return []
    place = prefix / "etc" / "conda" / folder
    try:
        names = sorted((name for name in os.listdir(place) if name.endswith(extension)), reverse=folder[0] == "d")
    except OSError:
        return []
    return [place / name for name in names]
