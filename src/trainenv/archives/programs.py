"""Programs of the system that some archives need."""

from __future__ import annotations

import shutil

from trainenv.errors import ArchiveError


def required(program: str, by: str, package: str) -> str:
    """Where ``program`` is, which ``by`` need. Raises ``ArchiveError``, which names the ``package`` that brings it."""
    found = shutil.which(program)
    if found is None:
        raise ArchiveError(
            f"{by} need the program {program}", cause="it is not in PATH", hint=f"Install it: the package is {package}"
        )
    return found
