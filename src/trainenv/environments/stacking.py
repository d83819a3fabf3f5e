"""Activation of an environment in a shell, on top of what is active there, and the way back.

It keeps conda's own books, so that ``conda deactivate`` undoes what trainenv activated and the other
way round: ``CONDA_SHLVL`` counts how many environments are active, ``CONDA_PREFIX`` is the last,
``CONDA_PREFIX_1`` … are those below it, and ``__CONDA_SHLVL_0_NAME`` is the value that ``NAME`` had
before the first was activated. (conda leaves some of them empty where it means to unset them.) conda
saves only values that it overwrites. trainenv saves everything that it touches and names it in
``_TRAINENV_SHLVL_0``, so that each variable comes back exactly as it was: also ``PATH``, also one that
was empty or not there, also when the environment's own variables were changed in the meantime.

While one environment is on top of another, the variables of the other are put away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from trainenv.environments.variables import declared

# What would lead Python or its installers away from the environment.
_ASTRAY = ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


class Step(NamedTuple):
    """What a shell has to do. ``changes`` are the new values of variables, None for those to be unset.

    Before it the ``deactivate.d`` scripts of ``left`` are sourced, after it the ``activate.d``
    scripts of ``entered``. ``prompt`` is what the prompt begins with, before and after.
    """

    changes: Mapping[str, str | None]
    prompt: tuple[str, str]
    left: Path | None = None
    entered: Path | None = None


def activate(prefix: Path, name: str, base: Mapping[str, str]) -> Step:
    """Activate the environment at ``prefix`` where the variables are ``base``.

    Where it is the active one already, it is activated afresh.
    """
    former = _active(base)
    below = _deactivated(base) if former == prefix else base
    return _step(base, _activated(prefix, name, below), former, prefix)


def deactivate(base: Mapping[str, str]) -> Step:
    """Leave the active environment for the one below it, or for none."""
    after = _deactivated(base)
    return _step(base, after, _active(base), _active(after))


def launched(prefix: Path, name: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables for a process that starts in the environment, whatever is active in ``base``.

    Nothing is saved in them: such a process ends, it does not deactivate.
    """
    below = dict(base)
    while _active(below) is not None:
        below = _deactivated(below)
    found = _activated(prefix, name, below)
    for key in [key for key in found if key.startswith(("__CONDA_SHLVL_0_", "_TRAINENV_SHLVL_"))]:
        del found[key]
    return found


def _step(base: Mapping[str, str], after: Mapping[str, str], left: Path | None, entered: Path | None) -> Step:
    changes: dict[str, str | None] = {key: None for key in base if key not in after}
    changes.update({key: value for key, value in after.items() if base.get(key) != value})
    prompt = base.get("CONDA_PROMPT_MODIFIER", ""), after.get("CONDA_PROMPT_MODIFIER", "")
    return Step(changes, prompt, left, entered)


def _active(base: Mapping[str, str]) -> Path | None:
    prefix = base.get("CONDA_PREFIX")
    return Path(prefix) if prefix else None


def _level(base: Mapping[str, str]) -> int:
    """How many environments are active. A ``CONDA_PREFIX`` without a count counts as one."""
    if not base.get("CONDA_PREFIX"):
        return 0
    count = base.get("CONDA_SHLVL", "").strip()
    return max(int(count), 1) if count.isdecimal() else 1


def _activated(prefix: Path, name: str, base: Mapping[str, str]) -> dict[str, str]:
    level = _level(base)
    former = _active(base)
    wanted: dict[str, str | None] = {}
    if former is not None:
        wanted.update(_saved(base, level - 1, former))
    wanted.update(dict.fromkeys(_ASTRAY))
    wanted.update(declared(prefix))
    wanted["PATH"] = _path_with(prefix, base.get("PATH", os.defpath), former)
    wanted["CONDA_PREFIX"] = str(prefix)
    wanted["CONDA_SHLVL"] = str(level + 1)
    wanted["CONDA_DEFAULT_ENV"] = name
    wanted["CONDA_PROMPT_MODIFIER"] = f"({_harmless(name)}) "

    after = dict(base)
    touched = [key for key, value in wanted.items() if value is not None or key in base]
    for key in touched:
        _put(after, _saved_name(level, key), base.get(key))
        _put(after, key, wanted[key])
    after[f"_TRAINENV_SHLVL_{level}"] = " ".join([*touched, str(prefix)])
    if former is not None:
        after[f"CONDA_PREFIX_{level}"] = str(former)
    after.pop(f"CONDA_STACKED_{level + 1}", None)
    return after


def _deactivated(base: Mapping[str, str]) -> dict[str, str]:
    prefix = _active(base)
    if prefix is None:
        return dict(base)
    level = _level(base) - 1
    below = _below(base, level)
    outer = Path(below) if below else None
    after = dict(base)
    saved = _saved(base, level, prefix)
    if outer is None:
        after.pop("CONDA_PREFIX")
        after.pop("CONDA_DEFAULT_ENV", None)
        after.pop("CONDA_PROMPT_MODIFIER", None)
        after["CONDA_SHLVL"] = "0"
    else:
        name = "base" if (outer / "condabin").is_dir() else outer.name
        after["CONDA_PREFIX"] = str(outer)
        after["CONDA_DEFAULT_ENV"] = name
        after["CONDA_PROMPT_MODIFIER"] = f"({_harmless(name)}) "
        after["CONDA_SHLVL"] = str(level)
        if not _is_own(base, level, prefix):
            ours = _saved(base, level - 1, outer)
            after.update({key: value for key, value in declared(outer).items() if key in ours})
    for key, value in saved.items():
        if key != "PATH":
            _put(after, key, value)
    stacked = base.get(f"CONDA_STACKED_{level + 1}")
    _put(after, "PATH", _path_without(prefix, base.get("PATH", ""), None if stacked else outer, saved))
    for key in [*(_saved_name(level, key) for key in saved), f"_TRAINENV_SHLVL_{level}"]:
        after.pop(key, None)
    after.pop(f"CONDA_PREFIX_{level}", None)
    after.pop(f"CONDA_STACKED_{level + 1}", None)
    return after


def _below(base: Mapping[str, str], level: int) -> str | None:
    """The prefix of the environment at ``level``, which another one is on top of; None at level 0."""
    return base.get(f"CONDA_PREFIX_{level}") or None if level else None


def _saved_name(level: int, key: str) -> str:
    return f"__CONDA_SHLVL_{level}_{key}"


def _saved(base: Mapping[str, str], level: int, prefix: Path) -> dict[str, str | None]:
    """What stood before ``prefix`` was activated at ``level``, None for what was not there.

    Without trainenv's list (or with one that conda left behind, of another stack) conda activated it:
    then it touched what the environment declares.
    """
    own = _is_own(base, level, prefix)
    touched = base[f"_TRAINENV_SHLVL_{level}"].partition("/")[0].split() if own else declared(prefix)
    return {key: base.get(_saved_name(level, key)) for key in touched}


def _is_own(base: Mapping[str, str], level: int, prefix: Path) -> bool:
    """Whether trainenv activated ``prefix`` on top of what was at ``level``, and nobody else since."""
    _, slash, rest = base.get(f"_TRAINENV_SHLVL_{level}", "").partition("/")
    same_stack = (base.get(_saved_name(level, "CONDA_PREFIX")) or None) == _below(base, level)
    return slash + rest == str(prefix) and same_stack


def _path_with(prefix: Path, path: str, former: Path | None) -> str:
    """``path`` with the environment's programs first, and those of the ``former`` one gone."""
    gone = {_programs(prefix)} | ({_programs(former)} if former else set())
    kept = [part for part in path.split(os.pathsep) if part and part not in gone]
    return os.pathsep.join([_programs(prefix), *kept])


def _path_without(prefix: Path, path: str, outer: Path | None, saved: Mapping[str, str | None]) -> str | None:
    """The PATH below: the saved one if nobody changed PATH since, else the changed one less ``prefix``.

    A start-up file may have lost the ``outer`` environment's programs; they come back then.
    """
    own, instead = _programs(prefix), [_programs(outer)] if outer else []
    before = saved.get("PATH") or os.defpath
    whole = set(instead) <= set(before.split(os.pathsep))
    if "PATH" in saved and whole and path == _path_with(prefix, before, outer):
        return saved["PATH"]
    parts = path.split(os.pathsep)
    if own not in parts:
        return os.pathsep.join([*instead, *parts])
    place = parts.index(own)
    return os.pathsep.join([*parts[:place], *instead, *(part for part in parts[place:] if part != own)])


def _programs(prefix: Path) -> str:
    return str(prefix / "bin")


def _harmless(name: str) -> str:
    """``name`` as a prompt may show it: shells expand what looks like code in a prompt."""
    return re.sub(r"[^\w.+/ -]", "_", name)


def _put(variables: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        variables.pop(key, None)
    else:
        variables[key] = value
