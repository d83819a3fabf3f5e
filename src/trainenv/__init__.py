"""The Python environments of model-training code: built, moved and run.

``Workspace`` is the way in; names are imported when first used, so ``import trainenv`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainenv.errors import (
    ArchiveError,
    ChannelError,
    DatabaseError,
    DeclinedError,
    DiskFullError,
    EnvironmentBusyError,
    EnvironmentExistsError,
    EnvironmentNotFoundError,
    InstallError,
    InterpreterError,
    MethodError,
    MountError,
    ParameterError,
    RelocationError,
    SolveError,
    SpecificationError,
    TaskError,
    TrainenvError,
    UsageError,
    VerificationError,
)

if TYPE_CHECKING:
    from trainenv.api import Workspace
    from trainenv.archives import Archive
    from trainenv.channels.target import Target
    from trainenv.environments.environment import Environment
    from trainenv.training import Method, Task

_HOMES = {
    "Workspace": "trainenv.api",
    "Archive": "trainenv.archives",
    "Environment": "trainenv.environments.environment",
    "Method": "trainenv.training",
    "Target": "trainenv.channels.target",
    "Task": "trainenv.training",
}

__all__ = [
    "Archive",
    "ArchiveError",
    "ChannelError",
    "DatabaseError",
    "DeclinedError",
    "DiskFullError",
    "Environment",
    "EnvironmentBusyError",
    "EnvironmentExistsError",
    "EnvironmentNotFoundError",
    "InstallError",
    "InterpreterError",
    "Method",
    "MethodError",
    "MountError",
    "ParameterError",
    "RelocationError",
    "SolveError",
    "SpecificationError",
    "Target",
    "Task",
    "TaskError",
    "TrainenvError",
    "UsageError",
    "VerificationError",
    "Workspace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainenv' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
