"""What runs a task. ``LocalExecutor`` runs it on this machine, below a supervisor process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import trainenv
from trainenv import locks
from trainenv.errors import TaskError
from trainenv.settings import Limits, Settings
from trainenv.training import processes, record
from trainenv.training.resources import Resources
from trainenv.training.task import Task, reload

_BOOT = "import sys; sys.path.append(sys.argv[1]); from trainenv.training.supervisor import main; main(sys.argv[2:])"

_STARTING_SECONDS = 5.0


class Executor(Protocol):
    """Runs tasks somewhere, and answers for them."""

    def submit(self, task: Task) -> Task:
        """Start a queued task; returns once it is accepted. Raises ``TrainenvError`` if it is not."""

    def poll(self, task: Task) -> Task:
        """The task as it stands now."""

    def cancel(self, task: Task) -> None:
        """Ask for the task's end; returns at once. Raises ``TaskError`` if nothing of it runs."""


class LocalExecutor:
    """Runs tasks on this machine. The environment's lock is held shared while a task runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def submit(self, task: Task) -> Task:
        """Start the task's supervisor and return once it has started the code, or waits for its turn.

        Raises ``EnvironmentBusyError`` while the environment is being changed, and ``TaskError`` if
        no supervisor could be started or the machine has not what the task asks for.
        """
        queue = self._queue(task)
        lock = locks.shared(self._settings, task.conda_env)
        inherited = [] if lock is None else [lock]
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb") as ready:
            try:
                starter = _start_supervisor(task, write_end, inherited, queue)
            except OSError as error:
                raise TaskError("the task's supervisor can't be started", cause=error.strerror or str(error)) from None
            finally:
                for descriptor in (write_end, *inherited):
                    os.close(descriptor)
            accepted = ready.read()
        starter.wait()
        if not accepted:
            *_, last = task.log_file.read_text(errors="replace").splitlines() or ["it said nothing"]
            raise TaskError("the task's supervisor can't be started", cause=last)
        return reload(task)

    def _queue(self, task: Task) -> dict[str, object] | None:
        """Where the task waits for what it needs, as its supervisor is told; None if it needs not wait."""
        resources = Resources(**task.resources)
        limits = self._settings.limits
        if resources == Resources(time=resources.time) and limits == Limits():
            return None
        from dataclasses import asdict

        from trainenv.training import needs, queue

        variables = os.environ | task.environment
        need = needs.need_of(
            self._settings, resources, method=Path(task.working_folder), prefix=Path(task.prefix), variables=variables
        )
        if need is None:
            return None
        nvml = None
        if need.gpus and not isinstance(self._settings.gpus, int):
            import pynvml

            nvml = os.path.dirname(pynvml.__file__)
        return {"folder": str(queue.folder_of(self._settings.queue_dir)), "need": asdict(need), "nvml": nvml}

    def poll(self, task: Task) -> Task:
        """The task as it stands now."""
        return reload(task)

    def cancel(self, task: Task) -> None:
        """Ask the supervisor to end the code (see ``cancel_local``)."""
        cancel_local(task)


def cancel_local(task: Task) -> None:
    """Ask the task's supervisor to end the code, or to wait no more. Of a lost task, end what still runs.

    Raises ``TaskError`` if the task has ended or runs on another machine.
    """
    current = _in_hands(task)
    if current.host != os.uname().nodename:
        raise TaskError(f"task {task.id} runs on {current.host}", hint="Cancel it there")
    if current.status == "running" or current.ticket:
        pid = current.supervisor["pid"]
        assert isinstance(pid, int)
        processes.send(signal.SIGTERM, [pid])
    elif current.status == "lost":
        _end_orphans(current)
    else:
        raise TaskError(f"task {task.id} can't be cancelled", cause=f"it is {current.status}")


def _in_hands(task: Task) -> Task:
    """The task as it stands, once its starter has handed it to a supervisor: that takes a moment."""
    give_up_at = time.monotonic() + _STARTING_SECONDS
    while (current := reload(task)).status == "queued" and not current.ticket and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return current


def _end_orphans(task: Task) -> None:
    """End what still runs of a task without supervisor, known by the variable that it was given."""

    def orphans() -> list[int]:
        return processes.with_variable(record.TASK_DIR_VARIABLE, str(task.folder))

    if not orphans():
        raise TaskError(f"nothing of task {task.id} runs any more", cause=task.error or "")
    processes.end_all(orphans, task.grace_seconds)


def _start_supervisor(
    task: Task, ready: int, inherited: list[int], queue: dict[str, object] | None
) -> subprocess.Popen[bytes]:
    """Start ``supervisor.main``, of this very trainenv, in a session of its own."""
    assert trainenv.__file__ is not None
    source_folder = Path(trainenv.__file__).resolve().parent.parent
    options = {"ready": ready, "inherited": inherited, "queue": queue}
    with open(task.log_file, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, str(source_folder), str(task.folder), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=(ready, *inherited),
        )
