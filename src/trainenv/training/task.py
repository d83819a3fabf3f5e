"""A task: one execution of one stage of one method, kept in a folder of its own.

The folder is the truth: ``task.json`` (what runs and how it ended), ``output.log`` (what the code
wrote, byte for byte), ``metrics.jsonl``, ``parameters.json`` and ``outputs/``; and what it ran: ``code.tar.gz``,
``packages.json`` and ``pixi.lock``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from trainenv.errors import TaskError
from trainenv.training import kept, passing, processes, record

ACTIVE = ("queued", "running")
STATUSES = (*ACTIVE, "done", "failed", "cancelled", "lost")

STAGING = ".new-"
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class Task:
    """What ``task.json`` says, and the folder it lies in.

    ``name`` is what its starter called it. ``status`` is ``queued``, ``running``, ``done`` (exit code 0),
    ``failed``, ``cancelled`` or ``lost`` (its supervisor is gone and left no result). Code that a signal
    ended has no ``exit_code`` but a ``signal`` (``"SIGKILL"``). ``metrics`` holds the last value of each metric.
    ``executor`` names what runs it (see ``executor.Executor``).
    ``resources`` are those that it asks for (see ``resources.Resources``), ``gpus`` and ``cpus`` the ids of
    those that it got. While it waits for them ``ticket`` says where, and ``waiting_for`` what (``"1 GPU"``),
    with so many ``ahead`` that want the same; these two are never written. ``reason`` is ``"cancelled"``,
    ``"time_limit"``, ``"out_of_memory"`` or ``"lost"``, where one of these ended the task.
    ``metric_patterns`` are how its code prints metrics in a way of its own (see ``metrics.Reader``),
    ``promised_outputs`` patterns of files without which it is ``failed`` whatever its exit code.
    ``supervisor`` tells the process that answers for the task from any other (see
    ``processes.identity``). ``code_sha256`` is over the method's code (see ``code``), ``git_dirty`` says that
    its folder was not as ``git_commit`` has it, ``manifest_sha256`` is over what the environment held
    (see ``environments.fingerprint``), ``machine`` says what the host is. ``rerun_of`` is the
    id of the task that this one repeats. ``shared_database``
    says that others than this ``workspace`` shall see the task. Times are ISO 8601 in UTC.
    """

    folder: Path
    id: str
    method: str
    stage: str
    status: str
    conda_env: str
    prefix: str
    command: list[str]
    working_folder: str
    parameters: dict[str, object]
    environment: dict[str, str]
    created: str
    method_sha256: str
    code_sha256: str
    host: str
    user: str
    supervisor: dict[str, object]
    grace_seconds: float
    executor: str = "local"
    resources: dict[str, Any] = field(default_factory=dict)
    gpus: list[str] = field(default_factory=list)
    cpus: list[int] = field(default_factory=list)
    ticket: dict[str, Any] | None = None
    waiting_for: str | None = None
    ahead: int | None = None
    metric_patterns: list[str] = field(default_factory=list)
    promised_outputs: list[str] = field(default_factory=list)
    name: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    manifest_sha256: str | None = None
    lock_sha256: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    rerun_of: str | None = None
    workspace: str = ""
    shared_database: bool = False
    started: str | None = None
    finished: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    error: str | None = None
    metrics: dict[str, int | float | None] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether the task still waits or runs."""
        return self.status in ACTIVE

    @property
    def log_file(self) -> Path:
        return self.folder / record.LOG

    @property
    def metrics_file(self) -> Path:
        return self.folder / record.METRICS

    @property
    def outputs(self) -> Path:
        """Where the code leaves its results."""
        return self.folder / record.OUTPUTS

    @property
    def outcome(self) -> str:
        """How the task stands, in a few words: ``failed (exit code 3)``."""
        if self.error:
            return f"{self.status} ({self.error})"
        if self.waiting_for:
            return f"{self.status} (waiting for {self.waiting_for}{f', {self.ahead} ahead' if self.ahead else ''})"
        if self.signal:
            return f"{self.status} ({self.signal})"
        if self.exit_code:
            return f"{self.status} (exit code {self.exit_code})"
        return self.status

    def require_folder(self) -> None:
        """Raise ``TaskError`` if its folder can't be read here: the task is another machine's."""
        if not self.folder.is_dir():
            elsewhere = self.host != os.uname().nodename
            raise TaskError(
                f"task {self.id} is not on this machine" if elsewhere else f"task {self.id} is gone",
                cause=f"its folder is {self.folder} on {self.host}" if elsewhere else f"{self.folder} is not there",
            )

    def wait(self, timeout: float | None = None) -> Task:
        """The task once it has ended. Raises ``TaskError`` if that takes over ``timeout`` seconds.

        Example::

            Workspace().start("breast_cancer_sgd", epochs=20).wait().metrics["accuracy"]
        """
        from trainenv.training.run import wait

        return wait(self, timeout)

    def cancel(self) -> Task:
        """End the task and what it started; returns its end. Raises ``TaskError`` if nothing of it runs."""
        from trainenv.training.run import cancel

        return cancel(self)

    def to_json(self) -> dict[str, Any]:
        """The content of ``task.json``."""
        values = dict(vars(self))
        del values["folder"]
        return values


_FIELDS = frozenset(each.name for each in fields(Task)) - {"folder"}


def create(tasks_dir: Path, files: Mapping[str, Path], code: Path | None = None, **values: Any) -> Task:
    """Make the folder of a new task, ``queued``, with a new id. It appears whole.

    ``files`` are kept files that it shall have, by their names there; ``values`` the fields of ``Task`` that
    describe what is to run; what only the task has may stand in them as a word of ``passing``. ``code`` is a
    folder that becomes part of the task's, and where it lies now may stand in them as well.
    Raises ``TaskError`` if the folder can't be written.
    """
    try:
        tasks_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(tasks_dir)
        while True:
            identifier = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
            task = Task(
                folder=tasks_dir / identifier,
                id=identifier,
                status="queued",
                created=record.now(),
                supervisor=processes.identity(os.getpid()),
                **values,
            )
            words = passing.meanings(task.id, task.folder)
            if code is not None:
                words[str(code)] = str(task.folder / record.CODE)
            task = replace(
                task,
                command=passing.expanded(task.command, words),
                working_folder=passing.expanded(task.working_folder, words),
                environment=passing.expanded(task.environment, words),
            )
            if _appear(task, files, code, passing.expanded(task.parameters, words)):
                return task
    except OSError as error:
        raise TaskError(f"no task can be made in {tasks_dir}", cause=error.strerror or str(error)) from None


def _appear(task: Task, files: Mapping[str, Path], code: Path | None, parameters: dict[str, object]) -> bool:
    """Build the task's folder beside its place and rename it there; False if the id is taken."""
    staging = task.folder.parent / f"{STAGING}{task.id}"
    try:
        staging.mkdir()
    except FileExistsError:
        return False
    try:
        (staging / record.OUTPUTS).mkdir()
        (staging / record.LOG).touch()
        for name, file in files.items():
            kept.link(file, staging / name)
        record.write_json(str(staging / record.PARAMETERS), parameters)
        record.write(str(staging), task.to_json())
        record.keep_room(str(staging))
        if task.folder.exists():
            return False
        if code is not None:
            code.rename(staging / record.CODE)
        staging.rename(task.folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _remove_stale(tasks_dir: Path) -> None:
    """Remove what a killed process left of a folder that never appeared."""
    for staging in tasks_dir.glob(f"{STAGING}*"):
        try:
            age = time.time() - staging.stat().st_mtime
        except FileNotFoundError:
            continue
        if age > _STALE_SECONDS:
            shutil.rmtree(staging, ignore_errors=True)


def load_task(tasks_dir: Path, identifier: str) -> Task:
    """The task with this id, or the only one whose id begins so, as it stands now.

    Raises ``TaskError`` if there is none or there are several.
    """
    if identifier and (tasks_dir / identifier / record.RECORD).is_file() and Path(identifier).name == identifier:
        return with_standings([load_folder(tasks_dir / identifier)])[0]
    names = sorted(_names(tasks_dir), reverse=True)
    found = [name for name in names if identifier and name.startswith(identifier)]
    if len(found) > 1:
        raise TaskError(f"{len(found)} tasks begin with {identifier!r}", hint=f"The newest is {found[0]}")
    if not found:
        newest = next((name for name in names if (tasks_dir / name / record.RECORD).is_file()), None)
        hint = f"The newest is {newest}" if newest else "No task has been started yet"
        raise TaskError(f"no task {identifier!r} in {tasks_dir}", hint=hint)
    return with_standings([load_folder(tasks_dir / found[0])])[0]


def reload(task: Task) -> Task:
    """The same task as it stands now. Raises ``TaskError`` if it has been removed, or is another machine's."""
    task.require_folder()
    return load_folder(task.folder)


def list_tasks(tasks_dir: Path) -> list[Task]:
    """Every readable task, newest first."""
    tasks = []
    for name in _names(tasks_dir):
        try:
            tasks.append(load_folder(tasks_dir / name))
        except TaskError:
            continue
    return sorted(with_standings(tasks), key=lambda task: (task.created, task.id), reverse=True)


def with_standings(tasks: Sequence[Task]) -> list[Task]:
    """The same tasks; those that wait in a queue say for what, and how many are ahead."""
    queues = {task.ticket["queue"] for task in tasks if task.status == "queued" and task.ticket}
    if not queues:
        return list(tasks)
    from trainenv.training.queue import standings_in

    standings = {folder: standings_in(Path(folder)) for folder in queues}
    found = []
    for task in tasks:
        ticket = task.ticket if task.status == "queued" else None
        standing = standings[ticket["queue"]].get(ticket["number"]) if ticket else None
        if standing is None:
            found.append(task)
        else:
            found.append(replace(task, waiting_for=standing.waits_for, ahead=standing.ahead))
    return found


def _names(tasks_dir: Path) -> list[str]:
    try:
        return [name for name in os.listdir(tasks_dir) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def remove_tasks(tasks: Sequence[Task]) -> None:
    """Remove the folders of tasks; of none if one of them still waits or runs, or its processes do.

    Raises ``TaskError``. A folder vanishes with one rename, so nobody meets half of one.
    """
    for task in tasks:
        task.require_folder()
        if task.active or processes.with_variable(record.TASK_DIR_VARIABLE, str(task.folder)):
            raise TaskError(
                f"task {task.id} is still {'running' if not task.active else task.status}",
                hint=f"End it with `trainenv task cancel {task.id}`",
            )
    for task in tasks:
        gone = task.folder.parent / f"{STAGING}{task.id}-{os.urandom(4).hex()}"
        try:
            task.folder.rename(gone)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TaskError(f"{task.folder} can't be removed", cause=error.strerror or str(error)) from None
        shutil.rmtree(gone, ignore_errors=True)
    for tasks_dir in {task.folder.parent for task in tasks}:
        kept.tidy(tasks_dir)


def load_folder(folder: Path) -> Task:
    """The task in ``folder`` as it stands now. Raises ``TaskError``."""
    task = _read(folder)
    if not task.active or _supervised(task):
        return task
    # It may have written its result between our reading and its end.
    task = _read(folder)
    if not task.active or _supervised(task):
        return task
    return replace(task, status="lost", reason="lost", error="its supervisor is gone and left no result")


def task_of(folder: Path, values: Mapping[str, Any]) -> Task:
    """The task in ``folder`` whose record is ``values``. Raises ``TypeError`` if that is none."""
    found = Task(folder=folder, **{key: value for key, value in values.items() if key in _FIELDS})
    texts = (found.id, found.method, found.stage, found.status, found.conda_env, found.created, found.host, found.user)
    if not all(isinstance(each, str) for each in texts):
        raise TypeError("a field that must be a text is none")
    if not isinstance(found.parameters, dict) or not isinstance(found.metrics, dict):
        raise TypeError("parameters or metrics are no object")
    return found


def _read(folder: Path) -> Task:
    try:
        return task_of(folder, record.read(str(folder)))
    except (OSError, ValueError, TypeError) as error:
        raise TaskError(f"{folder / record.RECORD} can't be read", cause=str(error)) from None


def _supervised(task: Task) -> bool:
    """Whether the task's supervisor lives. One on another machine can't be seen and is trusted.

    So is an executor that has not started one yet.
    """
    if task.executor != "local" and task.status == "queued":
        return True
    return task.host != os.uname().nodename or processes.alive(task.supervisor)
