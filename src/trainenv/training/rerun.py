"""Run a task again as it was: the same code, parameters and lock; and say what differs now.

The code comes from the method's folder where that is still the same, else from the task's own copy. The
environment is the one that ran it if it still holds the same, else one that is made from the task's
lock, under a name that ends in the hash of that lock: so it is made once, and no other is touched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainenv.environments import environment
from trainenv.environments.diff import Change, compare
from trainenv.environments.fingerprint import fingerprint
from trainenv.errors import EnvironmentNotFoundError, MethodError, TaskError, TrainenvError, VerificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings, checked_name
from trainenv.training import code, surroundings
from trainenv.training.method import Method, load_method
from trainenv.training.run import Origin, start
from trainenv.training.task import STAGING, Task

_HASH_DIGITS = 12
_MACHINE = ("system", "kernel", "machine", "cpu", "cpus", "memory", "gpus", "gpu_driver")


@dataclass(frozen=True)
class Differences:
    """What is otherwise now than when a task ran.

    ``code`` are the paths in the method's folder, all of them where the method is gone (``method_missing``).
    ``packages`` are those of the environment, which is ``missing`` where it is not there any more. ``host`` has
    what the machine was and is, by name.
    """

    code: tuple[str, ...] = ()
    packages: tuple[Change, ...] = ()
    missing: bool = False
    host: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    method_missing: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "code": list(self.code),
            "method_missing": self.method_missing,
            "packages": [change.to_json() for change in self.packages],
            "environment_missing": self.missing,
            "host": {name: {"then": then, "now": now} for name, (then, now) in self.host.items()},
        }


def differences(settings: Settings, task: Task) -> Differences:
    """What differs now from what ``task`` ran. Raises ``TaskError`` if it has no readable copy of its code."""
    now = code.Code(())
    folder = settings.methods_dir / task.method
    if folder.is_dir():
        now = code.read(folder)
    changed: list[str] = []
    if now.sha256 != task.code_sha256:
        changed = now.differences(_code_of(task))
    packages: list[Change] = []
    missing = False
    try:
        prefix = environment.get(settings, task.conda_env).prefix
        held = surroundings.packages_in(task.folder)
        if held is not None and not _holds_the_same(prefix, task):
            packages = compare(held, fingerprint(prefix).packages)
    except EnvironmentNotFoundError:
        missing = True
    except VerificationError as error:
        raise TaskError(f"environment {task.conda_env} can't be compared", cause=str(error)) from None
    return Differences(
        tuple(changed), tuple(packages), missing, _host_differences(task), method_missing=not folder.is_dir()
    )


def rerun(
    settings: Settings,
    task: Task,
    parameters: Mapping[str, object],
    reporter: Reporter,
    *,
    as_is: bool = False,
    name: str | None = None,
) -> Task:
    """Start ``task`` again, with other values for ``parameters``; returns once its code runs, or has to wait.

    With ``as_is`` in the environment as it is now. Raises ``TaskError`` if what it ran is not recorded or
    can't be had again, and what ``start`` raises.
    """
    task.require_folder()
    conda_env, prefix = _environment(settings, task, reporter, as_is=as_is)
    with _method(settings, task) as (method, copy):
        return start(
            settings,
            method,
            {**_given(method, task), **parameters},
            stage=task.stage,
            conda_env=conda_env,
            name=name or task.name,
            prefix=prefix,
            grace_seconds=task.grace_seconds,
            executor=task.executor,
            resources=task.resources,
            origin=Origin(task, copy),
        )


def _given(method: Method, task: Task) -> dict[str, object]:
    """The parameters of ``task``; those that are not the method's own were never its starter's either."""
    own = method.parameters_of(task.stage)
    return {name: value for name, value in task.parameters.items() if name in own}


def _code_of(task: Task) -> code.Code:
    found = code.unpacked(task.folder / code.FILE)
    if found.sha256 != task.code_sha256:
        raise TaskError(
            f"the code of task {task.id} is not what ran",
            cause=f"{task.folder / code.FILE} has another hash than the task's record",
        )
    return found


@contextmanager
def _method(settings: Settings, task: Task) -> Iterator[tuple[Method, Path | None]]:
    """The method as ``task`` ran it, and the new folder where a copy of it lies, if it is one."""
    folder = settings.methods_dir / checked_name(task.method, "method")
    if folder.is_dir() and code.read(folder).sha256 == task.code_sha256:
        yield load_method(settings.methods_dir, task.method), None
        return
    found = _code_of(task)
    try:
        copy = Path(tempfile.mkdtemp(prefix=f"{STAGING}code-", dir=settings.tasks_dir))
    except OSError as error:
        raise TaskError(f"no task can be made in {settings.tasks_dir}", cause=error.strerror or str(error)) from None
    try:
        code.write(found, copy / task.method)
        yield load_method(copy, task.method), copy
    except OSError as error:
        raise TaskError(f"the code of task {task.id} can't be unpacked", cause=error.strerror or str(error)) from None
    except MethodError as error:
        raise TaskError(f"the code of task {task.id} is no method any more", cause=str(error)) from None
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _environment(settings: Settings, task: Task, reporter: Reporter, *, as_is: bool) -> tuple[str, Path]:
    """Name and prefix of the environment that holds what the task's held."""
    try:
        prefix = environment.get(settings, task.conda_env).prefix
        if as_is or task.manifest_sha256 is None or _holds_the_same(prefix, task):
            return task.conda_env, prefix
    except EnvironmentNotFoundError:
        if as_is or task.lock_sha256 is None:
            raise
    lock = task.folder / surroundings.LOCK
    if task.lock_sha256 is None or not lock.is_file():
        raise TaskError(
            f"environment {task.conda_env} is not as task {task.id} had it, and no lock of it was recorded",
            hint="--as-is runs the task in it as it is now",
        )
    ending = f"-{task.lock_sha256[:_HASH_DIGITS]}"
    name = task.conda_env if task.conda_env.endswith(ending) else f"{task.conda_env}{ending}"
    if not (settings.prefix_of(name) / "conda-meta").is_dir():
        _make(settings, name, lock, task, reporter)
    prefix = environment.get(settings, name).prefix
    if not _holds_the_same(prefix, task):
        held = surroundings.packages_in(task.folder) or []
        if changed := compare(held, fingerprint(prefix).packages):
            raise TaskError(
                f"environment {name}, made of the lock of task {task.id}, does not hold what that ran with",
                cause=f"these differ: {', '.join(change.name for change in changed)}",
                hint="--as-is runs the task in its environment as it is now",
            )
        reporter.notice(f"some files of the packages in {name} are others than task {task.id} ran with")
    return name, prefix


def _make(settings: Settings, name: str, lock: Path, task: Task, reporter: Reporter) -> None:
    from trainenv.environments import build
    from trainenv.environments.specification import read_file
    from trainenv.errors import EnvironmentExistsError
    from trainenv.locks import IfBusy

    reporter.notice(f"making environment {name} from the lock of task {task.id}")
    try:
        build.create(settings, name, read_file(lock), reporter, build.Manner(IfBusy(wait=True, tell=reporter.notice)))
    except EnvironmentExistsError:
        pass  # Another one was faster.
    except TrainenvError as error:
        error.hint = f"{error.hint}. Or run it in the environment as it is now: --as-is".lstrip(". ")
        raise


def _holds_the_same(prefix: Path, task: Task) -> bool:
    try:
        return surroundings.of_environment(task.folder.parent, prefix).manifest_sha256 == task.manifest_sha256
    except OSError:
        return fingerprint(prefix).manifest_sha256 == task.manifest_sha256


def _host_differences(task: Task) -> dict[str, tuple[Any, Any]]:
    now = {"host": os.uname().nodename, **surroundings.of_machine()}
    then = {"host": task.host, **{name: task.machine[name] for name in _MACHINE if name in task.machine}}
    return {name: (was, now.get(name)) for name, was in then.items() if was != now.get(name)}
