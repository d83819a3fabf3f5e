"""Tasks on this machine, each below a supervisor process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from trainenv import locks
from trainenv.errors import TaskError
from trainenv.settings import Limits, Settings
from trainenv.training import processes, record, signals
from trainenv.training.executor import Executor, boot
from trainenv.training.resources import Resources
from trainenv.training.task import Task, reload

_STARTING_SECONDS = 5.0
_ENDING_POLL_SECONDS = 0.02


class LocalExecutor(Executor):
    """Runs tasks on this machine. The environment's lock is held shared while a task waits and runs."""

    def submit(self, task: Task, settings: Settings) -> Task:
        """Start the task's supervisor and return once it has started the code, or waits for its turn.

        Raises ``EnvironmentBusyError`` while the environment is being changed, and ``TaskError`` if
        no supervisor could be started or the machine has not what the task asks for. Interrupted (Ctrl-C) it
        ends what it has started.
        """
        queue = _queue(task, settings)
        lock = locks.shared(settings, task.conda_env)
        inherited = [] if lock is None else [lock]
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb") as ready:
            starter: subprocess.Popen[bytes] | None = None
            try:
                try:
                    with signals.held_back():
                        starter = _start_supervisor(task, write_end, inherited, queue)
                finally:
                    for descriptor in (write_end, *inherited):
                        os.close(descriptor)
                accepted = ready.read()
                starter.wait()
                if accepted:
                    return reload(task)
            except OSError as error:
                raise TaskError("the task's supervisor can't be started", cause=error.strerror or str(error)) from None
            except BaseException:
                if starter is not None:
                    ready.read()  # Only then does it listen, or is gone.
                    _end_group(starter)
                raise
        *_, last = task.log_file.read_text(errors="replace").splitlines() or ["it said nothing"]
        raise TaskError("the task's supervisor can't be started", cause=last)

    def cancel(self, task: Task) -> None:
        """Ask the task's supervisor to end the code, or to wait no more. Of a lost task, end what still runs.

        Raises ``TaskError`` if the task runs on another machine.
        """
        current = _in_hands(task)
        if current.host != os.uname().nodename:
            raise TaskError(f"task {task.id} runs on {current.host}", hint="Cancel it there")
        if current.status == "running" or current.ticket:
            pid = current.supervisor["pid"]
            assert isinstance(pid, int)
            processes.send(signal.SIGTERM, [pid])
            processes.send(signal.SIGCONT, [pid])  # Someone may have stopped it.
        elif current.status == "lost":
            _end_orphans(current)


def _queue(task: Task, settings: Settings) -> dict[str, object] | None:
    """Where the task waits for what it needs, as its supervisor is told; None if it needs not wait."""
    resources = Resources(**task.resources)
    limits = settings.limits
    if resources == Resources(time=resources.time) and limits == Limits():
        return None
    from dataclasses import asdict

    from trainenv.training import needs, queue

    variables = os.environ | task.environment
    need = needs.need_of(
        settings, resources, method=Path(task.working_folder), prefix=Path(task.prefix), variables=variables
    )
    if need is None:
        return None
    nvml = None
    if need.gpus and not isinstance(settings.gpus, int):
        import pynvml

        nvml = os.path.dirname(pynvml.__file__)
    return {"folder": str(queue.folder_of(settings.queue_dir)), "need": asdict(need), "nvml": nvml}


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


def _end_group(starter: subprocess.Popen[bytes]) -> None:
    """End the supervisor that ``starter`` has made, which ends the code; returns once it is gone."""
    try:
        starter.wait()
        os.killpg(starter.pid, signal.SIGTERM)
        while True:
            os.killpg(starter.pid, 0)
            time.sleep(_ENDING_POLL_SECONDS)
    except ProcessLookupError:
        pass


def _start_supervisor(
    task: Task, ready: int, inherited: list[int], queue: dict[str, object] | None
) -> subprocess.Popen[bytes]:
    """Start ``supervisor.main``, of this very trainenv, in a session of its own."""
    options = {"ready": ready, "inherited": inherited, "queue": queue, "foreground": False}
    with open(task.log_file, "ab") as log:
        return subprocess.Popen(
            boot(task, options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=(ready, *inherited),
        )
