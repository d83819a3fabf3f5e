"""Which of the user's shells conda and trainenv are put into: what ``doctor`` tells of them.

The guide knows two cases, "conda is not initialised" and "conda is already initialised". trainenv
needs neither: ``trainenv run`` and ``eval "$(trainenv activate NAME)"`` work in both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from trainenv.environments.rcfile import SHELLS, block_of, startup_file
from trainenv.environments.shells import FOLDER

_CONDAS = (b"# >>> conda initialize >>>", b"# >>> mamba initialize >>>")


def findings() -> Iterator[tuple[str, Literal["ok", "warning"], str]]:
    """Name, state and text of what was found, shell by shell; shells that nobody uses are left out."""
    for shell in SHELLS:
        file = startup_file(shell)
        if file.exists() or (os.path.basename(os.environ.get("SHELL", "")) == shell and shutil.which(shell)):
            yield _of_shell(shell, file)
    active = os.environ.get("CONDA_PREFIX")
    if active:
        yield "active environment", "ok", f"{active}, put there by conda or trainenv; trainenv activates on top of it"


def _of_shell(shell: str, file: Path) -> tuple[str, Literal["ok", "warning"], str]:
    conda = "conda is already initialised" if _names_conda(file) else "conda is not initialised"
    text = f"{conda} in {file}: both are fine, trainenv needs no `conda init`"
    block = block_of(shell)
    if block is None:
        more = f"`trainenv init {shell}` would add `trainenv activate` and completion; `trainenv run` works without"
    elif str(FOLDER) not in block:
        return shell, "warning", f"{text}; its trainenv block is of another trainenv: run `trainenv init {shell}`"
    else:
        more = "`trainenv activate` and completion are there"
    return shell, "ok", f"{text}; {more}"


def _names_conda(file: Path) -> bool:
    with suppress(OSError):
        content = file.read_bytes()
        return any(line.strip() in _CONDAS for line in content.splitlines())
    return False
