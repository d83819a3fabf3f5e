"""Every error a user can meet: what happened, why, and what to do next.

Code raises these; a face (command line, REST) turns them into one line. Anything else that
escapes is a defect of trainenv.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainenv.credentials import without_credentials
from trainenv.printable import printable


def listed(names: Sequence[str], most: int = 5) -> str:
    """``names`` in a sentence: ``a, b and 7 more`` where there are more than ``most``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class TrainenvError(Exception):
    """Something that a user can understand and act on.

    ``message`` says what happened, ``cause`` why, ``hint`` which step comes next. ``str(error)``
    joins the three into one line, in which no URL shows a password. ``details`` are more lines for who
    wants to know more.
    """

    exit_code = 1

    def __init__(self, message: str, *, cause: str = "", hint: str = "", details: Sequence[str] = ()) -> None:
        self.message = message
        self.cause = cause
        self.hint = hint
        self.details = tuple(details)
        super().__init__(message)

    def __str__(self) -> str:
        return self._line(self.cause)

    @property
    def headline(self) -> str:
        """The line to stand over ``details``."""
        return str(self)

    def _line(self, cause: str) -> str:
        line = self.message
        if cause:
            line += f": {cause}"
        if self.hint:
            line += f". {self.hint}" if not line.endswith((".", "?", "!")) else f" {self.hint}"
        return printable(without_credentials(" ".join(line.split())))


class Terminated(BaseException):
    """TERM or HUP came, the number of which is the first argument: unwind, so that nothing half made stays behind."""


class UsageError(TrainenvError):
    """The request itself is wrong: a bad name, an unknown option, an unreadable file."""

    exit_code = 2


class EnvironmentNotFoundError(TrainenvError):
    """No environment has this name."""


class EnvironmentExistsError(TrainenvError):
    """An environment of this name is there already."""


class EnvironmentBusyError(TrainenvError):
    """Another process builds, changes or uses this environment."""


class SpecificationError(UsageError):
    """A specification (environment.yml, requirements.txt, command-line spec) can't be understood."""


class ChannelError(TrainenvError):
    """A channel can't be reached or has not what was asked for."""


class SolveError(TrainenvError):
    """No set of packages satisfies the specification. ``details`` say who asks for what, and where that stands."""

    @property
    def headline(self) -> str:
        """The line to stand over ``details``; what these say it leaves out."""
        is_said = all(reason in self.details for reason in self.cause.split("; "))
        return self._line("") if is_said else str(self)


class InstallError(TrainenvError):
    """Packages could not be installed; the environment is as it was before."""


class DiskFullError(InstallError):
    """There is no room for what is to be made; the environment is as it was before."""


class DeclinedError(TrainenvError):
    """Whoever was asked whether to go on said no; nothing was changed."""


class InterpreterError(TrainenvError):
    """An interpreter of this machine can't become a package of the host channel."""


class RelocationError(TrainenvError):
    """A prefix can't be rewritten, for example because a binary has no room for a longer one."""


class ArchiveError(TrainenvError):
    """An archive is damaged, cut short, hostile, or does not fit this machine."""


class TransferError(ArchiveError):
    """An archive could not be brought here, or there: the way broke off. What has come so far is kept."""


class MountError(TrainenvError):
    """An image can't be mounted or unmounted, or what is mounted was to be changed."""


class VerificationError(TrainenvError):
    """An environment is not what its records say."""


class MethodError(UsageError):
    """A training method is missing or its method.yaml is wrong."""


class ParameterError(UsageError):
    """A parameter is unknown, mistyped or out of bounds."""


class TaskError(TrainenvError):
    """A task is missing or could not be started."""


class DatabaseError(TrainenvError):
    """The database over the tasks can't be reached or used; the tasks themselves are in their folders."""
