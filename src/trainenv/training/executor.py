"""What runs tasks: an executor. ``local`` runs them on this machine; packages can bring others.

A package names its class in the entry-point group ``trainenv.executors``, and ``train --executor NAME`` uses it.
``docs/executors.md`` tells how to write one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import trainenv
from trainenv.errors import TaskError, UsageError
from trainenv.settings import Settings
from trainenv.training.task import Task, reload

GROUP = "trainenv.executors"
LOCAL = "local"

_BOOT = """\
import sys
sys.path.append(sys.argv[1])
from trainenv.training.supervisor import main
sys.exit(main(sys.argv[2:]))
"""
_READ_BYTES = 1 << 16
_SHORTEST_POLL_SECONDS = 0.005
_POLL_SECONDS = 0.05
_QUEUED_POLL_SECONDS = 0.2


class Executor:
    """Runs tasks somewhere, and answers for them.

    One is made, without arguments, whenever something is to be done with a task; what it has to know of
    a task later, such as the number of a job, it keeps in the task's folder. A task is a folder that
    both sides see; ``supervisor_command`` is what has to run where the task's code shall run.
    """

    def submit(self, task: Task, settings: Settings) -> Task:
        """Start a queued task; returns it once it is accepted.

        Raises ``TrainenvError`` if it is not; then the task is removed.
        """
        raise NotImplementedError

    def cancel(self, task: Task) -> None:
        """Ask for the end of a task that waits or runs; returns at once. Raises ``TaskError`` if nothing of it runs."""
        raise NotImplementedError

    def poll(self, task: Task) -> Task:
        """The task as it stands now: as its folder says it, unless the executor knows better (``lost``)."""
        return reload(task)

    def stream(self, task: Task) -> Iterator[bytes]:
        """What the task's code writes, from its first byte, as it comes, until the task has ended."""
        with open(task.log_file, "rb", buffering=0) as log:
            heard = time.monotonic()
            ended = False
            while True:
                data = log.read(_READ_BYTES)
                if data:
                    yield data
                    heard = time.monotonic()
                    continue
                if ended:
                    return
                current = self.poll(task)
                ended = not current.active
                if not ended:
                    # Soon after the last line the next one is near, and so is the first after the start.
                    longest = _QUEUED_POLL_SECONDS if current.status == "queued" else _POLL_SECONDS
                    time.sleep(min(longest, max(_SHORTEST_POLL_SECONDS, (time.monotonic() - heard) / 20)))


def named(name: str) -> Executor:
    """The executor of this name. Raises ``UsageError`` if there is none, ``TaskError`` if it can't be loaded."""
    if name == LOCAL:
        found: Executor = import_module("trainenv.training.local").LocalExecutor()
        return found
    from importlib.metadata import entry_points

    known = {each.name: each for each in entry_points(group=GROUP)}
    if name not in known:
        raise UsageError(f"there is no executor {name!r}", hint=f"Installed are: {', '.join(sorted({LOCAL, *known}))}")
    try:
        made = known[name].load()()
    except Exception as error:
        raise TaskError(f"executor {name!r} can't be loaded", cause=f"{known[name].value}: {error}") from None
    if not isinstance(made, Executor):
        raise TaskError(f"executor {name!r} can't be used", cause=f"{known[name].value} is no trainenv Executor")
    return made


def supervisor_command(task: Task) -> list[str]:
    """The command that runs a task to its end, in the foreground. It needs this trainenv, the folder, the environment.

    On SIGTERM or SIGINT it cancels the task: its code has ``grace_seconds`` to end itself. Its exit code is 0
    if the task is ``done``.
    """
    return boot(task, {"ready": -1, "inherited": [], "queue": None, "foreground": True})


def boot(task: Task, options: dict[str, object]) -> list[str]:
    """The command line of a task's supervisor, of this very trainenv (see ``supervisor.main``)."""
    assert trainenv.__file__ is not None
    source_folder = Path(trainenv.__file__).resolve().parent.parent
    return [sys.executable, "-I", "-S", "-c", _BOOT, str(source_folder), str(task.folder), json.dumps(options)]
