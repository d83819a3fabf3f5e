"""The process that stays with a task's code until it has ended, and writes down how it ended.

Standard library only and quick to start; it runs detached from whoever started it (own session, no
controlling terminal), so a task outlives its server and its terminal. The code gets a session of
its own below it, with standard input from ``/dev/null`` and its output going straight to
``output.log``: nothing stands between the code and its log.

SIGTERM or SIGINT cancels the task: the signal is passed on to the code's process group, and what
is left after the grace period is killed, in whatever group or session it hides. When the code ends
by itself, processes that it left behind are ended as well: a finished task uses nothing any more.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

from trainenv.training import code_process, processes, record
from trainenv.training.announcing import announce
from trainenv.training.signals import CANCELLING, listen, received

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainenv.training import queue


def main(arguments: list[str]) -> int:
    """Run a task to its end. The arguments are the task's folder and, as JSON, how to begin.

    ``ready`` is the write end of a pipe: one byte says that the code has started, could not be (then the
    record says why), or waits for its turn. ``inherited`` are descriptors (the environment's lock) that are
    held and passed on to the code. ``queue`` says where the task waits for what it needs, if it needs something.
    In the ``foreground`` this process is what its executor started, which has given it what it needs already.
    Returns 0 if the task is done, else 1.
    """
    folder = arguments[0]
    options = json.loads(arguments[1])
    # The starter needs no zombie of ours, and we can't get a terminal again.
    if not options["foreground"] and os.fork() != 0:
        os._exit(0)
    signals = listen()
    processes.become_subreaper()
    task = record.read(folder)
    task.update(supervisor=processes.identity(os.getpid()), host=os.uname().nodename)
    ready = _Ready(options["ready"])
    held = _Held(options["inherited"])
    try:
        if options["foreground"]:
            held.locks += _using_environment(task)
        if options["queue"]:
            held.place = _join(folder, options["queue"])
            _wait_for_turn(folder, task, held.place, ready, signals)
        task.update(status="running", started=record.now())
        record.write(folder, task)
        code = code_process.start(folder, task, held.descriptors)
    except _CancelledError:
        return _never_ran(folder, task, held, ready, status="cancelled", reason="cancelled")
    except OSError as error:
        return _never_ran(folder, task, held, ready, status="failed", error=f"the code can't be started: {error}")
    ready.tell()
    announce(task)
    from trainenv.training.supervision import Supervision  # The code need not wait for that.

    supervision = Supervision(folder, task, code, signals)
    supervision.follow()
    held.let_go()
    supervision.conclude()
    announce(task)
    return 0 if task["status"] == "done" else 1


class _CancelledError(Exception):
    """Someone cancelled the task while it waited."""


def _never_ran(folder: str, task: dict[str, Any], held: _Held, ready: _Ready, **ending: str) -> int:
    """Record how a task ended whose code never ran; returns the exit code.

    A starter that still waits need not wait for room on the disk: it hears that there is none. Raises ``OSError`` then.
    """
    held.let_go()
    task.update(finished=record.now(), ticket=None, **ending)
    if ready.is_awaited:
        record.free_room(folder)
        record.write(folder, task)
    else:
        record.write_patiently(folder, task)
    ready.tell()
    announce(task)
    return 1


def _using_environment(task: dict[str, Any]) -> list[int]:
    """The lock that says so, held where the task runs. Raises ``OSError`` while the environment is being changed."""
    from trainenv import locks
    from trainenv.environments import mounts
    from trainenv.errors import EnvironmentBusyError, MountError

    try:
        mounts.ensure(Path(task["prefix"]))
        lock = locks.shared_at(Path(task["prefix"]))
    except (EnvironmentBusyError, MountError) as error:
        raise OSError(str(error)) from None
    return [] if lock is None else [lock]


class _Held:
    """What the task keeps from others while it waits and runs: its environment's lock and its place in the queue."""

    def __init__(self, locks: list[int]) -> None:
        self.locks = locks
        self.place: queue.Place | None = None

    @property
    def descriptors(self) -> list[int]:
        """What the code inherits, so that it keeps it too."""
        return self.locks if self.place is None else [*self.locks, self.place.descriptor]

    def let_go(self) -> None:
        """Free it: who reads that the task has ended may take it at once."""
        if self.place is not None:
            self.place.leave()
        for descriptor in self.locks:
            os.close(descriptor)


class _Ready:
    """The pipe to the starter."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def is_awaited(self) -> bool:
        """Whether the starter has not been told yet."""
        return self._descriptor >= 0

    def tell(self) -> None:
        """Tell the starter that the task is in our hands, if it does not know yet and still wants to."""
        if not self.is_awaited:
            return
        try:
            os.write(self._descriptor, b"1")
        except BrokenPipeError:
            pass
        os.close(self._descriptor)
        self._descriptor = -1


def _join(folder: str, options: dict[str, Any]) -> queue.Place:
    """A place in the queue; with ``nvml``, the folder of that library, GPUs that others use don't count as free."""
    from trainenv.training import queue
    from trainenv.training.admission import Need

    busy_gpus = None
    if options["nvml"] is not None:
        sys.path.append(options["nvml"])
        from trainenv.training import gpus

        busy_gpus = gpus.in_other_use
    return queue.Place(Path(options["folder"]), folder, Need.from_json(options["need"]), busy_gpus)


def _wait_for_turn(folder: str, task: dict[str, Any], place: queue.Place, ready: _Ready, signals: int) -> None:
    """Wait until the task gets what it needs. Raises ``_CancelledError`` if it is cancelled before."""
    if place.grant is None:
        task["ticket"] = {"queue": str(place.folder), "number": place.number}
        record.write(folder, task)
        ready.tell()
        announce(task)
    while place.grant is None:
        select.select([signals, place.bell], [], [], place.patience)
        if any(number in CANCELLING for number in received(signals)):
            raise _CancelledError
        place.look()
    if task["ticket"]:
        code_process.keep_to_code(folder, task)
    task.update(gpus=list(place.grant.gpus), cpus=list(place.grant.cpus), ticket=None)
