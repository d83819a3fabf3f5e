"""Start a task, watch it, wait for it, cancel it."""

from __future__ import annotations

import codecs
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.errors import MethodError, TaskError, UsageError
from trainenv.settings import Settings
from trainenv.training import code, surroundings
from trainenv.training import executor as executors
from trainenv.training.method import Method
from trainenv.training.parameters import checked_parameters
from trainenv.training.provenance import GitQuestion
from trainenv.training.task import Task, create, with_standings

if TYPE_CHECKING:
    from trainenv.training import metrics

_SHORTEST_POLL_SECONDS = 0.005
_POLL_SECONDS = 0.2
_LONGEST_NAME = 100
_LINE_END = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Event:
    """A piece of a task's log as it was written, line end included if it has come already.

    ``metrics`` is the record that the line states which ends here, if it states one, and ``data`` the
    object that it carries after ``[log_data]:``. Where one line brings several records (it ends what a
    progress bar shows), the further ones come with no text.
    """

    text: str
    metrics: metrics.Metrics | None = None
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Origin:
    """The task that is run again; ``copy`` is a new folder that holds the method's, where that is a copy."""

    task: Task
    copy: Path | None


def start(
    settings: Settings,
    method: Method,
    parameters: Mapping[str, object],
    *,
    stage: str = "train",
    conda_env: str | None = None,
    name: str | None = None,
    prefix: Path,
    grace_seconds: float = 10.0,
    executor: str = executors.LOCAL,
    resources: Mapping[str, object] | None = None,
    origin: Origin | None = None,
) -> Task:
    """Start ``stage`` of ``method`` in the environment at ``prefix``; returns once its code runs, or has to wait.

    The environment's name is ``conda_env``, else the one that the method names; ``name`` is what to call
    the task. Strings in ``parameters`` are read as their types. On cancel the code has ``grace_seconds`` to end itself.
    ``executor`` names what runs it, ``resources`` say otherwise than the method what it takes (see ``resources``).
    ``origin`` says that this repeats a task. Code that can't be started makes a task with status
    ``failed`` that says why. Raises ``ParameterError``, ``UsageError``, ``MethodError``, ``TaskError``,
    ``EnvironmentBusyError``; nothing is left of the task then.
    """
    if name is not None and not (name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME):
        hint = f"Up to {_LONGEST_NAME} characters that can be printed, such as --name baseline"
        raise UsageError(f"{name!r:.60} can't be the name of a task", hint=hint)
    values = checked_parameters(method, parameters, stage)
    environment = conda_env or method.environment_of(stage)
    if environment is None:
        raise MethodError(
            f"stage {stage!r} of method {method.name!r} names no environment",
            hint=f"Add 'conda_env: NAME' to {method.file} or give --conda-env NAME",
        )
    taken = method.resources.changed(resources or {})
    runner = executors.named(executor)
    files, facts = _surroundings(settings.tasks_dir, prefix)
    if origin is None:
        own_files, own_facts = _code(settings.tasks_dir, method.folder)
    else:
        own_files, own_facts = _code_of(origin.task)
    task = create(
        settings.tasks_dir,
        files | own_files,
        origin.copy if origin else None,
        method=method.name,
        stage=stage,
        conda_env=environment,
        name=name,
        prefix=str(prefix),
        command=method.argv(stage, prefix, values),
        working_folder=str(method.folder),
        parameters=values,
        environment=method.variables(values),
        method_sha256=method.sha256,
        host=os.uname().nodename,
        machine=surroundings.of_machine(),
        workspace=str(settings.root),
        shared_database=settings.has_server,
        user=_user(),
        grace_seconds=grace_seconds,
        executor=executor,
        resources=taken.to_json(),
        metric_patterns=list(method.metrics),
        promised_outputs=list(method.stage(stage).outputs),
        rerun_of=origin.task.id if origin else None,
        **facts,
        **own_facts,
    )
    try:
        return runner.submit(task, settings)
    except BaseException:
        shutil.rmtree(task.folder, ignore_errors=True)
        raise


def follow(task: Task) -> Iterator[Event]:
    """What the task writes, from its first byte, as it comes, until the task has ended."""
    from trainenv.training.metrics import Reader

    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    reader = Reader(task.metric_patterns)
    for data in output(task):
        for piece in _LINE_END.split(data):
            yield from _events(decoder.decode(piece), reader.feed(piece))
    yield from _events(decoder.decode(b"", final=True), reader.finish())


def output(task: Task) -> Iterator[bytes]:
    """The bytes that the task writes, from its first, as they come, until the task has ended."""
    task.require_folder()
    return executors.named(task.executor).stream(task)


def waiting(task: Task) -> Iterator[Task]:
    """The task each time that it stands otherwise in its queue, until it waits no more."""
    told = ""
    while (now := with_standings([current(task)])[0]).status == "queued":
        if now.outcome != told:
            told = now.outcome
            yield now
        # The last few hear soon of their turn; many that wait do not keep the machine busy with asking.
        time.sleep(min(2.0, _POLL_SECONDS + (now.ahead or 0) / 20))


def current(task: Task) -> Task:
    """The task as it stands now, as its executor says. Raises ``TaskError`` if it has been removed."""
    return executors.named(task.executor).poll(task)


def wait(task: Task, timeout: float | None = None) -> Task:
    """The task once it has ended. Raises ``TaskError`` if that takes over ``timeout`` seconds."""
    give_up_at = None if timeout is None else time.monotonic() + timeout
    began = time.monotonic()
    while (found := current(task)).active:
        now = time.monotonic()
        if give_up_at is not None and now >= give_up_at:
            raise TaskError(f"task {task.id} is still {found.status} after {timeout:g} s")
        time.sleep(min(_POLL_SECONDS, max(_SHORTEST_POLL_SECONDS, (now - began) / 20)))
    return found


def cancel(task: Task) -> Task:
    """End the task: ask its code to end, kill what is left after the grace period; returns its end.

    Raises ``TaskError`` if nothing of it runs here any more.
    """
    return cancel_all([task])[0]


def cancel_all(tasks: Sequence[Task]) -> list[Task]:
    """End the tasks, all at once; returns their ends.

    Raises ``TaskError`` about the first of which nothing runs here any more, once the others have ended.
    """
    asked, refused = [], []
    for task in tasks:
        try:
            _ask_to_end(task)
            asked.append(task)
        except TaskError as error:
            refused.append(error)
    ended = [wait(task) for task in asked]
    if refused:
        raise refused[0]
    return ended


def _ask_to_end(task: Task) -> None:
    runner = executors.named(task.executor)
    found = runner.poll(task)
    if not found.active and found.status != "lost":
        raise TaskError(f"task {task.id} can't be cancelled", cause=f"it is {found.status}")
    runner.cancel(found)


def _events(text: str, stated: Sequence[metrics.Statement]) -> Iterator[Event]:
    """``text`` as events, with what its lines state."""
    if text or stated:
        yield Event(text, *stated[0]) if stated else Event(text)
        yield from (Event("", *each) for each in stated[1:])


def _code(tasks_dir: Path, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The code that a task in ``folder`` would run: the kept file for its own folder, and what its record says."""
    git = GitQuestion(folder)
    found = code.read(folder)
    try:
        files = {code.FILE: code.keep(tasks_dir, found)}
    except OSError as error:
        raise TaskError(f"no task can be made in {tasks_dir}", cause=error.strerror or str(error)) from None
    commit = git.answer()
    facts = {"git_commit": commit and commit.sha, "git_dirty": commit and commit.dirty}
    return files, {"code_sha256": found.sha256, **facts}


def _code_of(task: Task) -> tuple[dict[str, Path], dict[str, Any]]:
    """The same of the code that ``task`` ran."""
    facts = {"code_sha256": task.code_sha256, "git_commit": task.git_commit, "git_dirty": task.git_dirty}
    return {code.FILE: task.folder / code.FILE}, facts


def _surroundings(tasks_dir: Path, prefix: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """The same of the environment at ``prefix``."""
    try:
        around = surroundings.of_environment(tasks_dir, prefix)
    except OSError as error:
        raise TaskError(f"no task can be made in {tasks_dir}", cause=error.strerror or str(error)) from None
    return around.files, {"manifest_sha256": around.manifest_sha256, "lock_sha256": around.lock_sha256}


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
