"""What ``conda activate`` does to the variables of a process, without conda and without a shell.

Standard library only. Sources of the rules: conda's documented activation (PATH, ``CONDA_PREFIX``,
``CONDA_DEFAULT_ENV``, ``CONDA_SHLVL``; ``etc/conda/env_vars.d/*.json``; ``conda-meta/state``;
``etc/conda/activate.d/*.sh``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainenv.environments import stacking


def environ(prefix: Path, name: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables for a process that starts in the environment, whatever is active in ``base``.

    What is active there is left first: its PATH entries and its variables are put away.
    """
    return stacking.launched(prefix, name, base)


def launched(
    prefix: Path, name: str, argv: Sequence[str], base: Mapping[str, str], more: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Command line and variables that start ``argv`` in the environment at ``prefix``, whatever is active in ``base``.

    ``more`` are further variables for it. The command line is ``argv`` where there are no scripts to
    source: the ``deactivate.d`` ones of what is active, which still see its variables, as with conda, and
    the ``activate.d`` ones of ``prefix``. Else it is a bash that sources these and becomes ``argv``: it replaces
    itself with the command, so signals, exit code and standard input stay the command's own.
    """
    after = {**environ(prefix, name, base), **(more or {})}
    active = base.get("CONDA_PREFIX")
    leaving = scripts(Path(active) if active else None, "deactivate.d", ".sh")
    entering = scripts(prefix, "activate.d", ".sh")
    if not leaving and not entering:
        return list(argv), after
    # In an array, as a script that says "set --" would lose the arguments.
    lines = ['__trainenv_command=("$@")', *_sourcing(leaving)]
    start = dict(after)
    if leaving:
        start = dict(base)
        for key in sorted(base.keys() | after.keys()):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                start[key] = after.get(key, base.get(key, ""))  # bash passes on what it has no name for.
            elif key not in after:
                lines.append(f"unset {key}")
            elif after[key] != base.get(key):
                # Not on the command line: every user of the machine can read that.
                start[f"{_NEXT}{key}"] = after[key]
                lines += [f'export {key}="${_NEXT}{key}"', f"unset {_NEXT}{key}"]
    lines += [*_sourcing(entering), 'exec "${__trainenv_command[@]}"']
    return ["bash", "--noprofile", "--norc", "-c", "\n".join(lines), "trainenv-run", *argv], start


_NEXT = "_TRAINENV_NEXT_"


def _sourcing(files: Sequence[Path]) -> list[str]:
    if not files:
        return []
    import shlex

    return [f". {shlex.quote(str(file))}" for file in files]


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
