"""The variables that an environment sets while it is active, where conda keeps them.

Packages bring theirs in ``etc/conda/env_vars.d/*.json``. The user's own are ``env_vars`` in
``conda-meta/state`` (``conda env config vars`` writes there too) and win. A variable that the user
unset has the value ``UNSET`` there, which also hides one of the same name that a package brings.

Standard library only, little of it: ``trainenv run`` reads the variables on the way to its command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.errors import InstallError, UsageError, VerificationError

if TYPE_CHECKING:
    from trainenv.settings import Settings

UNSET = "***unset***"

_POSSIBLE = re.compile(r"[^\s=/\0]+\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = re.compile(
    r"PATH\Z|CONDA_(PREFIX|SHLVL|DEFAULT_ENV|PROMPT_MODIFIER|(PREFIX|STACKED)_\d+)\Z|_*(CONDA|TRAINENV)_SHLVL_"
)


def declared(prefix: Path) -> dict[str, str]:
    """What the environment at ``prefix`` sets when it is activated, packages' and user's together.

    ``PATH`` and the variables of activation itself are left out: they are not an environment's to set.
    """
    folder = prefix / "etc" / "conda" / "env_vars.d"
    try:
        files = sorted(entry for entry in os.listdir(folder) if entry.endswith(".json"))
    except OSError:
        files = []
    found: dict[str, str] = {}
    for file in files:
        found.update(_strings(_read(folder / file)))
    found.update(_strings(_read(_state_file(prefix)).get("env_vars")))
    return {name: value for name, value in found.items() if value != UNSET}


def own(prefix: Path) -> dict[str, str]:
    """What the user set for the environment, by name."""
    values = _strings(_read(_state_file(prefix)).get("env_vars"))
    return {name: values[name] for name in sorted(values) if values[name] != UNSET}


def change(settings: Settings, prefix: Path, *, put: Mapping[str, str] | None = None, drop: Iterable[str] = ()) -> None:
    """Set the variables ``put`` and unset those named in ``drop``, all or none.

    What runs in the environment keeps its variables; what is started next has the new ones. Raises
    ``UsageError`` for a name that can't be set or that nothing ever set, ``EnvironmentNotFoundError``,
    ``EnvironmentBusyError`` while the environment is used or changed, and ``InstallError`` when it can't be written.
    """
    import json
    from dataclasses import replace

    from trainenv import locks
    from trainenv.environments.environment import at
    from trainenv.environments.records import replace_file

    put = dict(put or {})
    _check_names(put)
    managed = prefix.parent == settings.envs_dir or (prefix.parent / locks.STATE_DIR).is_dir()
    with locks.exclusive(replace(settings, envs_dir=prefix.parent), prefix.name) if managed else nullcontext():
        at(prefix)
        state = _readable_state(prefix)
        values = dict(_strings(state.get("env_vars")))
        known = declared(prefix).keys() | values.keys()
        for name in drop:
            if name not in known:
                raise UsageError(
                    f"variable {name!r} is not set in environment {prefix.name!r}",
                    hint=f"`trainenv env vars list -n {prefix.name}` shows those that are",
                )
            values[name] = UNSET
        values.update(put)
        try:
            replace_file(_state_file(prefix), json.dumps({"version": 1, **state, "env_vars": values}).encode())
        except OSError as error:
            raise InstallError(
                f"the variables of {prefix} can't be written", cause=error.strerror or str(error)
            ) from None


def _check_names(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if not _NAME.match(name):
            raise UsageError(
                f"{name!r} can't name a variable", hint="Use letters, digits and '_', and begin with no digit"
            )
        if _RESERVED.match(name):
            raise UsageError(f"{name} is set by activation itself", hint="Choose another name")
        if value == UNSET:
            raise UsageError(f"{value!r} is how conda marks a variable that was unset", hint=f"Use `unset {name}`")


def _state_file(prefix: Path) -> Path:
    return prefix / "conda-meta" / "state"


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    import json

    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _readable_state(prefix: Path) -> dict[str, Any]:
    """The content of ``conda-meta/state``. What is there and can't be understood is not overwritten."""
    import json

    file = _state_file(prefix)
    try:
        content = json.loads(file.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise VerificationError(f"{file} can't be read", cause=str(error)) from None
    if not isinstance(content, dict):
        raise VerificationError(f"{file} can't be read", cause="it holds no JSON object")
    return content


def _strings(values: Any) -> dict[str, str]:
    """``values`` as variables that a process can have, without those that are not theirs to set."""
    if not isinstance(values, dict):
        return {}
    named = {str(name): str(value) for name, value in values.items()}
    return {
        name: value
        for name, value in named.items()
        if _POSSIBLE.match(name) and not _RESERVED.match(name) and "\0" not in value
    }
