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
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainenv.environments import activation
from trainenv.training import processes, record
from trainenv.training.announcing import announce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainenv.training import queue

_POLL_SECONDS = 0.1
_REFRESH_SECONDS = 1.0
_LEFT_BEHIND_GRACE_SECONDS = 2.0
_RECORD_PATIENCE_SECONDS = 600.0
_IMPORTABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "importable")
"""The folder of what the code can import in any environment: ``trainenv_report``, nothing else."""
_CANCELLING = (signal.SIGTERM, signal.SIGINT)


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
    signals = _listen()
    processes.become_subreaper()
    task = record.read(folder)
    task.update(supervisor=processes.identity(os.getpid()), host=os.uname().nodename)
    ready = _Ready(options["ready"])
    inherited = options["inherited"]
    place = None
    try:
        if options["foreground"]:
            inherited = _using_environment(task)
        if options["queue"]:
            place = _join(folder, options["queue"])
            inherited = [*inherited, place.descriptor]
            if place.grant is None and not _wait_for_turn(folder, task, place, ready, signals):
                place.leave()
                _let_go(options["inherited"])
                task.update(status="cancelled", finished=record.now(), reason="cancelled", ticket=None)
                _write_patiently(folder, task)
                announce(task)
                return 1
            assert place.grant is not None
            if task["ticket"]:
                _keep_to_code(folder, task)
            task.update(gpus=list(place.grant.gpus), cpus=list(place.grant.cpus), ticket=None)
        task.update(status="running", started=record.now())
        record.write(folder, task)
        code = _start_code(folder, task, inherited)
    except OSError as error:
        task.update(status="failed", finished=record.now(), error=f"the code can't be started: {error}", ticket=None)
        if place is not None:
            place.leave()
        _let_go(options["inherited"])
        _write_patiently(folder, task)
        announce(task)
        return 1
    finally:
        ready.tell()
    announce(task)
    supervision = _Supervision(folder, task, code, signals)
    supervision.follow()
    if place is not None:
        place.leave()
    _let_go(options["inherited"])
    supervision.conclude()
    announce(task)
    return 0 if task["status"] == "done" else 1


def _using_environment(task: dict[str, Any]) -> list[int]:
    """The lock that says so, held where the task runs. Raises ``OSError`` while the environment is being changed."""
    from trainenv import locks
    from trainenv.errors import EnvironmentBusyError

    try:
        lock = locks.shared_at(Path(task["prefix"]))
    except EnvironmentBusyError as error:
        raise OSError(str(error)) from None
    return [] if lock is None else [lock]


def _let_go(descriptors: list[int]) -> None:
    """Free the environment: who reads that the task has ended may change it at once."""
    for descriptor in descriptors:
        os.close(descriptor)


class _Ready:
    """The pipe to the starter."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self) -> None:
        """Tell the starter that the task is in our hands, if it does not know yet and still wants to."""
        if self._descriptor < 0:
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


def _wait_for_turn(folder: str, task: dict[str, Any], place: queue.Place, ready: _Ready, signals: int) -> bool:
    """Wait until the task gets what it needs; False if it is cancelled before."""
    task["ticket"] = {"queue": str(place.folder), "number": place.number}
    record.write(folder, task)
    ready.tell()
    announce(task)
    while place.grant is None:
        select.select([signals, place.bell], [], [], place.patience)
        if any(number in _CANCELLING for number in _received(signals)):
            return False
        place.look()
    return True


def _keep_to_code(folder: str, task: dict[str, Any]) -> None:
    """Where the method's folder was changed while the task waited, run the copy of what was to run."""
    from trainenv.errors import TaskError
    from trainenv.training import code, passing

    if code.read(Path(task["working_folder"])).sha256 == task["code_sha256"]:
        return
    copy = os.path.join(folder, record.CODE, os.path.basename(task["working_folder"]))
    try:
        code.write(code.unpacked(Path(folder, code.FILE)), Path(copy))
    except TaskError as error:
        raise OSError(str(error)) from None
    words = {task["working_folder"]: copy}
    task.update(command=passing.expanded(task["command"], words), working_folder=copy)


def _received(signals: int) -> bytes:
    """The numbers of the signals that came since we looked last."""
    try:
        return os.read(signals, 4096)
    except BlockingIOError:
        return b""


def _listen() -> int:
    """Collect signals instead of acting on them; returns a pipe on which each is one byte."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (*_CANCELLING, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return read_end


def _start_code(folder: str, task: dict[str, Any], inherited: list[int]) -> subprocess.Popen[bytes]:
    prefix = Path(task["prefix"])
    found = activation.environ(prefix, task["conda_env"], os.environ) | task["environment"]
    python_path = [found["PYTHONPATH"]] if found.get("PYTHONPATH") else []
    own: dict[str, str] = {
        "PYTHONUNBUFFERED": "1",
        **task["environment"],
        record.TASK_DIR_VARIABLE: folder,
        "TRAINENV_TASK_ID": task["id"],
        "TRAINENV_OUTPUTS": os.path.join(folder, record.OUTPUTS),
        "TRAINENV_PARAMETERS": os.path.join(folder, record.PARAMETERS),
        "PYTHONPATH": os.pathsep.join([*python_path, _IMPORTABLE]),
    }
    if task["gpus"] or task["resources"]["gpus"] == 0:
        from trainenv.training import gpus

        own |= gpus.visible(task["gpus"])
    argv, variables = activation.launched(prefix, task["conda_env"], task["command"], os.environ, own)
    with open(os.path.join(folder, record.LOG), "ab") as log, _running_on(task["cpus"]):
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=task["working_folder"],
            env=variables,
            start_new_session=True,
            pass_fds=inherited,
        )


@contextmanager
def _running_on(cpus: list[int]) -> Iterator[None]:
    """What is started in the block runs on these CPUs only; on any if there are none, or not on this machine."""
    real = os.sched_getaffinity(0)
    if not cpus or not real.issuperset(cpus):
        yield
        return
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, real)


class _Supervision:
    """A running task: its code, its log so far, and whether someone cancelled it."""

    def __init__(self, folder: str, task: dict[str, Any], code: subprocess.Popen[bytes], signals: int) -> None:
        from trainenv.training.measurements import Measurements  # Once the code runs: it need not wait for that.

        self._folder = folder
        self._task = task
        self._code = code
        self._signals = signals
        self._measurements = Measurements(folder, task["metric_patterns"])
        self._wait_status: int | None = None
        self._kill_at: float | None = None
        limit = task["resources"]["time"]
        self._ends_at = None if limit is None else time.monotonic() + limit
        self._out_of_time = False
        self._refreshed = time.monotonic()

    def follow(self) -> None:
        """Follow the code to its end, and end what it left behind."""
        while True:
            self._reap()
            if self._wait_status is not None:
                break
            self._pass_signals_on()
            more = self._measurements.catch_up()
            self._refresh()
            select.select([self._signals], [], [], 0 if more else _POLL_SECONDS)
        grace = min(_LEFT_BEHIND_GRACE_SECONDS, self._task["grace_seconds"])
        processes.end_all(lambda: processes.descendants(os.getpid()), grace, self._reap)
        self._task.update(finished=record.now(), **self._ending())

    def conclude(self) -> None:
        """Read the rest of the log, and record how the task ended."""
        self._measurements.finish()
        self._task.update(metrics=self._measurements.last)
        _write_patiently(self._folder, self._task)

    def _reap(self) -> None:
        """Collect dead children: the code, and orphans below it that became ours."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._code.pid:
                self._wait_status = wait_status

    def _pass_signals_on(self) -> None:
        for number in _received(self._signals):
            if number in _CANCELLING:
                self._ask_to_end(number)
        if self._kill_at is None and self._ends_at is not None and time.monotonic() >= self._ends_at:
            self._out_of_time = True
            self._ask_to_end(signal.SIGTERM)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            processes.send(signal.SIGKILL, processes.descendants(os.getpid()))

    def _ask_to_end(self, number: int) -> None:
        """Send the code a signal; from the first one on its grace period runs."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._task["grace_seconds"]
        try:
            os.killpg(self._code.pid, number)
        except ProcessLookupError:
            pass

    def _refresh(self) -> None:
        """Keep the metrics in ``task.json`` about a second behind the code."""
        if self._measurements.last == self._task["metrics"]:
            return
        if time.monotonic() - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        try:
            record.write(self._folder, self._task | {"metrics": self._measurements.last})
        except OSError:
            return
        self._task["metrics"] = dict(self._measurements.last)

    def _missing_outputs(self) -> list[str]:
        """Which of the files that the method promises are not there."""
        import glob

        outputs = glob.escape(os.path.join(self._folder, record.OUTPUTS))
        promised = self._task["promised_outputs"]
        return [pattern for pattern in promised if not glob.glob(os.path.join(outputs, pattern), recursive=True)]

    def _ending(self) -> dict[str, Any]:
        """How the code ended: its own exit code, or the signal that ended it."""
        assert self._wait_status is not None
        code = os.waitstatus_to_exitcode(self._wait_status)
        self._code.returncode = code
        status = "done" if code == 0 else "failed"
        error = reason = None
        if self._out_of_time:
            status, reason = "failed", "time_limit"
            error = f"it ran longer than its time limit of {self._task['resources']['time']:g} s"
        elif self._kill_at is not None:
            status = reason = "cancelled"
        elif code == 0 and (missing := self._missing_outputs()):
            status, error = "failed", f"it left no {' and no '.join(missing)} in its outputs"
        ending = {"status": status, "reason": reason, "error": error}
        if code >= 0:
            return {**ending, "exit_code": code, "signal": None}
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"SIG{-code}"
        return {**ending, "exit_code": None, "signal": name}


def _write_patiently(folder: str, task: dict[str, Any]) -> None:
    """Record the end; while there is no room on the disk, wait for some."""
    give_up_at = time.monotonic() + _RECORD_PATIENCE_SECONDS
    while True:
        try:
            record.write(folder, task)
        except FileNotFoundError:
            return  # Someone removed the task's folder.
        except OSError:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(_REFRESH_SECONDS)
        else:
            return
