"""All tasks at a glance: a database over their folders, which stay the truth.

Whoever asks brings the database up to date first. New and removed folders show in the time of change
of the folder of tasks, and only what was not at its end yet has to be read again; so of ten thousand
tasks a reader touches the few that run. A lost or damaged SQLite file is made anew from the folders.
A PostgreSQL server may be shared by several machines: each writes down its own folders and sees all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from trainenv.errors import TaskError
from trainenv.settings import Settings
from trainenv.sharing import make_folder, shared_umask
from trainenv.training import record
from trainenv.training.database import Connected, DamagedError, Database, PostgreSQL, Row, SQLite
from trainenv.training.selection import Selection
from trainenv.training.task import Task, load_folder, load_task, task_of, with_standings

FOLDER = ".index"
_PLACE = f"{FOLDER}/place"

_SETTLED = ("done", "failed", "cancelled")
_RACY_NANOSECONDS = 2_000_000_000
"""How coarse a file system's time may be: a folder that changed this short ago may change again and look the same."""


class _Found(NamedTuple):
    """A ``Row`` of the database, where its place was last seen, and its record."""

    place: str
    folder_name: str
    id: str
    name: str | None
    method: str
    stage: str
    conda_env: str
    status: str
    outcome: str
    created: str
    started: str | None
    finished: str | None
    host: str
    user: str
    parameters_json: str
    metrics_json: str
    stamp: str
    settled: int
    seen_on: str
    path: str
    record: str


class Summary(_Found):
    """What a list shows of a task; its fields are as in ``Task``.

    ``record`` is the JSON object of ``Task.to_json``, if it was asked for, else empty.
    """

    __slots__ = ()

    @property
    def folder(self) -> Path:
        """Where it lies on host ``seen_on``."""
        return Path(self.path, self.folder_name)

    @property
    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parameters_json)
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.metrics_json)
        return found

    def task(self) -> Task:
        """The task itself, as its record was last read."""
        return task_of(self.folder, json.loads(self.record))


def select(settings: Settings, wanted: Selection, *, whole: bool = False, begins: str = "") -> list[Summary]:
    """The tasks of the workspace that ``wanted`` means, newest first; on a shared server those of all.

    ``whole`` brings their records, ``begins`` is how their ids begin. Raises ``DatabaseError``.
    """

    def current(connected: Connected) -> list[Summary]:
        database = Database(connected)
        _bring_up_to_date(database, settings.tasks_dir, alone=settings.database is None)
        return list(map(Summary._make, database.select(wanted, whole=whole, begins=begins)))

    if settings.has_server:
        assert settings.database is not None
        with closing(PostgreSQL(settings.database)) as connected:
            found = current(connected)
    elif settings.tasks_dir.is_dir():
        found = _of_sqlite(_file(settings), current)
    else:
        return []
    if wanted.where:
        found = [each for each in found if all(one.holds(each.parameters, each.metrics) for one in wanted.where)]
    return found[: wanted.limit]


def find(settings: Settings, identifier: str, *, sole: bool = False) -> Task:
    """The task with this id, or the only one whose id begins so, or the newest of this name, as it stands now.

    Raises ``TaskError`` if there is none, or several: whose ids begin so or, where it must be the ``sole``
    one, whose name it is; and ``DatabaseError``.
    """
    try:
        return load_task(settings.tasks_dir, identifier)
    except TaskError:
        found = _elsewhere(settings, identifier, sole=sole) if identifier else None
        if found is None:
            raise
    with suppress(TaskError):
        return with_standings([load_folder(found.folder)])[0]
    return found.task()


def _elsewhere(settings: Settings, identifier: str, *, sole: bool) -> Summary | None:
    """The task that is called so, or whose id, on whatever machine, begins so (see ``find``)."""
    if named := select(settings, Selection(name=identifier), whole=True):
        if sole and len(named) > 1:
            hint = f"Say its id; the newest is {named[0].id}"
            raise TaskError(f"{len(named)} tasks are called {identifier!r}", hint=hint)
        return named[0]
    if not settings.has_server:
        return None
    begun = select(settings, Selection(), whole=True, begins=identifier)
    if len(begun) > 1:
        raise TaskError(f"{len(begun)} tasks begin with {identifier!r}", hint=f"The newest is {begun[0].id}")
    return begun[0] if begun else None


def update(settings: Settings) -> None:
    """Let others who share the database see this workspace's tasks as they are. Raises ``DatabaseError``."""
    select(settings, Selection(limit=1))


def _of_sqlite(file: Path, current: Callable[[Connected], list[Summary]]) -> list[Summary]:
    """What ``current`` finds in the database in ``file``, or in memory where that can't be written."""
    for _ in range(2):
        try:
            with suppress(OSError):
                make_folder(file.parent)
            with shared_umask(file.parent), closing(SQLite(file)) as connected:
                try:
                    return current(connected)
                except sqlite3.OperationalError:
                    connected.into_memory()
                    return current(connected)
        except sqlite3.OperationalError:
            break
        except (DamagedError, ValueError):
            for each in (file, Path(f"{file}-journal")):
                with suppress(OSError):
                    each.unlink()
    with closing(SQLite(None)) as connected:
        return current(connected)


def _file(settings: Settings) -> Path:
    path = (settings.database or "").removeprefix("sqlite").removeprefix("://")
    return Path(path) if path else settings.tasks_dir / FOLDER / "tasks.sqlite"


def _bring_up_to_date(database: Database, tasks_dir: Path, *, alone: bool) -> None:
    """Write down in ``database`` what changed in ``tasks_dir`` since it was last looked at.

    ``alone`` means that the database has no other place, unless it was copied with its folder.
    """
    host = os.uname().nodename
    if tasks_dir.is_dir() and not (tasks_dir / _PLACE).is_file():
        _write_place(tasks_dir)
    here = _place(tasks_dir)
    for place, seen_on, path in database.places():
        if (alone and place != here) or (seen_on == host and _place(Path(path)) != place):
            database.forget(place)
    if here is None:
        return
    last = database.scanned(here)
    unsettled = database.unsettled(here)
    changed_at = os.stat(tasks_dir).st_mtime_ns
    scanned = str(changed_at) if changed_at < time.time_ns() - _RACY_NANOSECONDS else ""
    new: set[str] = set()
    gone: set[str] = set()
    if not last or str(changed_at) != last:
        known = database.folders(here)
        names = {name for name in os.listdir(tasks_dir) if not name.startswith(".")}
        new, gone = names - known, known - names
    stamps: dict[str, str] = {}
    tasks: list[Task] = []
    for folder in sorted((new | unsettled.keys()) - gone):
        with suppress(OSError, TaskError):
            status = os.stat(tasks_dir / folder / record.RECORD)
            stamps[folder] = f"{status.st_ino} {status.st_mtime_ns}"
            tasks.append(load_folder(tasks_dir / folder))
    rows = [_row(here, task, f"{stamps[task.folder.name]} {task.outcome}") for task in with_standings(tasks)]
    changed = [(row, text) for row, text in rows if row.stamp != unsettled.get(row.folder)]
    if changed or gone or scanned != last:
        database.save(here, host, str(tasks_dir), scanned, changed, gone)


def _row(place: str, task: Task, stamp: str) -> tuple[Row, str]:
    """The row of a task and its record."""
    row = Row(
        place=place,
        folder=task.folder.name,
        id=_clean(task.id),
        name=None if task.name is None else _clean(task.name),
        method=_clean(task.method),
        stage=_clean(task.stage),
        conda_env=_clean(task.conda_env),
        status=task.status,
        outcome=_clean(task.outcome),
        created=task.created,
        started=task.started,
        finished=task.finished,
        host=_clean(task.host),
        username=_clean(task.user),
        parameters_json=json.dumps(task.parameters),
        metrics_json=json.dumps(task.metrics),
        stamp=_clean(stamp),
        settled=int(task.status in _SETTLED),
    )
    return row, json.dumps(task.to_json())


def _clean(text: str) -> str:
    """``text`` as both databases take it: without NUL and half surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _place(tasks_dir: Path) -> str | None:
    """What tells a folder of tasks from any other on any machine, also from a copy of it; None where there is none."""
    try:
        inode = tasks_dir.stat().st_ino
    except OSError:
        return None
    try:
        return f"{(tasks_dir / _PLACE).read_text().strip()}-{inode}"
    except OSError:  # In a folder that can't be written its path has to do.
        return f"{os.uname().nodename}:{tasks_dir}"


def _write_place(tasks_dir: Path) -> None:
    with suppress(OSError):
        file = tasks_dir / _PLACE
        make_folder(file.parent)
        beside = file.with_name(f"place.{os.urandom(4).hex()}")
        beside.write_text(os.urandom(16).hex())
        beside.replace(file)
