"""The database over the tasks' folders: always up to date, and made anew when it is lost or damaged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import RunCommand, program
from tests.training.test_task_folder import make
from trainenv import Workspace
from trainenv import settings as settings_module
from trainenv.errors import TaskError
from trainenv.settings import Settings
from trainenv.training import index, record
from trainenv.training.run import start
from trainenv.training.selection import Selection, selected
from trainenv.training.task import Task, remove_tasks

if TYPE_CHECKING:
    from tests.training.conftest import Bench


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / settings_module.FILE_NAME).touch()
    found = settings_module.load(tmp_path)
    found.tasks_dir.mkdir()
    return found


def ended(settings: Settings, **changes: Any) -> Task:
    """A task that has ended, without a process."""
    time.sleep(0.002)  # Of two in one millisecond neither is the newer one.
    return rewritten(make(settings.tasks_dir), status="done", started=record.now(), finished=record.now(), **changes)


def rewritten(task: Task, **changes: Any) -> Task:
    record.write(str(task.folder), {**task.to_json(), **changes})
    return replace(task, **changes)


def ids(settings: Settings, **wanted: Any) -> list[str]:
    return [each.id for each in index.select(settings, selected(**wanted))]


def database(settings: Settings) -> Path:
    return settings.tasks_dir / index.FOLDER / "tasks.sqlite"


def settle(settings: Settings) -> None:
    """Let the index believe the folder's time of change."""
    long_ago = time.time() - 60
    os.utime(settings.tasks_dir, (long_ago, long_ago))
    index.update(settings)


def test_what_appears_changes_and_goes_shows(settings: Settings) -> None:
    assert ids(settings) == []
    one = ended(settings)
    running = make(settings.tasks_dir)
    assert set(ids(settings)) == {one.id, running.id}
    settle(settings)
    rewritten(running, metrics={"loss": 0.5})
    (found,) = index.select(settings, Selection(status="queued"), whole=True)
    assert found.metrics == {"loss": 0.5} and found.task().metrics == {"loss": 0.5} and found.folder == running.folder
    rewritten(running, status="failed", exit_code=3)
    (found,) = index.select(settings, Selection(status="failed"))
    assert found.outcome == "failed (exit code 3)" and found.record == ""
    settle(settings)
    other = ended(settings)
    remove_tasks([one])
    assert set(ids(settings)) == {other.id, running.id}


def test_what_has_ended_is_not_read_again(settings: Settings) -> None:
    task = ended(settings)
    settle(settings)
    (task.folder / record.RECORD).unlink()
    assert ids(settings) == [task.id]


def test_a_task_that_nobody_answers_for_is_lost(settings: Settings) -> None:
    task = make(settings.tasks_dir)
    rewritten(task, supervisor={"pid": 1, "start_ticks": 0, "boot_id": ""})
    assert ids(settings, status="lost") == [task.id] and ids(settings, status="queued") == []
    rewritten(task, status="done")
    assert ids(settings, status="done") == [task.id]


def test_selections(settings: Settings) -> None:
    good = ended(settings, method="digits", name="best", parameters={"rate": 0.1}, metrics={"loss": 0.1})
    poor = ended(settings, conda_env="other", parameters={"rate": 0.5}, metrics={"loss": 0.9})
    early = ended(settings, created="2020-01-01T00:00:00.000Z")
    assert ids(settings) == [poor.id, good.id, early.id]
    assert ids(settings, limit=2) == [poor.id, good.id]
    assert ids(settings, method="digits") == ids(settings, name="best") == [good.id]
    assert ids(settings, conda_env="other") == [poor.id]
    assert ids(settings, since="1h") == [poor.id, good.id]
    assert ids(settings, where=["rate>=0.1"], limit=1) == [poor.id]
    assert ids(settings, where=["rate>=0.1", "loss<0.5"]) == [good.id]


@pytest.mark.parametrize(
    "damage", ["lost", "no database", "cut", "another version", "a table is gone", "rubbish in it"]
)
def test_a_lost_or_damaged_database_is_made_anew(settings: Settings, damage: str) -> None:
    tasks = [ended(settings, parameters={"text": "x" * 5000}).id for _ in range(20)][::-1]
    settle(settings)
    file = database(settings)
    whole = file.read_bytes()
    match damage:
        case "lost":
            file.unlink()
        case "no database":
            file.write_bytes(b"\0\1\2\3" * 1000)
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "another version":
            with contextlib.closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA user_version = 1000")
        case "a table is gone":
            with contextlib.closing(sqlite3.connect(file)) as connection:
                connection.execute("DROP TABLE trainenv_records_1")
        case "rubbish in it":
            file.write_bytes(whole[:100] + os.urandom(len(whole) - 100))
    assert [each.task().id for each in index.select(settings, Selection(), whole=True)] == tasks
    assert ids(settings) == tasks
    index.update(settings)
    assert file.read_bytes()[:6] == b"SQLite"


def test_where_nothing_can_be_written_tasks_are_still_listed(settings: Settings, trainenv: RunCommand) -> None:
    tasks = [ended(settings).id for _ in range(2)][::-1]
    (settings.tasks_dir / index.FOLDER).write_text("in the way")
    assert ids(settings) == tasks
    (settings.tasks_dir / index.FOLDER).unlink()
    settle(settings)
    with contextlib.closing(sqlite3.connect(database(settings), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        database(settings).chmod(0o444)
        tasks.insert(0, ended(settings).id)
        assert ids(settings) == tasks


def test_the_database_may_lie_elsewhere(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / settings_module.FILE_NAME).write_text('database = "sqlite:///elsewhere/tasks.db"\n')
    moved = settings_module.load(tmp_path)
    task = ended(moved)
    assert ids(moved) == [task.id]
    assert (tmp_path / "elsewhere" / "tasks.db").is_file() and not database(moved).exists()


def test_a_moved_or_copied_folder_of_tasks_keeps_its_tasks(settings: Settings, tmp_path: Path) -> None:
    task = ended(settings)
    settle(settings)
    for move in (shutil.move, shutil.copytree):
        move(str(settings.tasks_dir), str(tmp_path / "there"))
        there = replace(settings, tasks_dir=tmp_path / "there")
        (found,) = index.select(there, Selection())
        assert found.id == task.id and found.folder == tmp_path / "there" / task.id
        settings = there
        tmp_path = tmp_path / "next"
        tmp_path.mkdir()


def test_many_at_once_see_all(settings: Settings, trainenv: RunCommand) -> None:
    place = Workspace(settings.root)
    running = [
        subprocess.Popen(program(place, "task", "list", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(8)
        if ended(settings)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and not err, err
        json.loads(out)
    assert len(json.loads(trainenv(place, "task", "list", "--json").stdout)) == 8


def test_killed_readers_leave_no_damage(settings: Settings) -> None:
    command = program(Workspace(settings.root), "task", "list")
    for delay in range(6):
        ended(settings)
        database(settings).unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(0.06 + delay * 0.01)
        process.kill()
        process.wait()
        assert len(ids(settings)) == delay + 1


def test_a_task_is_found_by_its_name(settings: Settings) -> None:
    one = ended(settings, name="best")
    assert index.find(settings, "best").id == one.id == index.find(settings, one.id).id
    other = ended(settings, name="best")
    assert index.find(settings, "best").id == other.id, "the newest"
    with pytest.raises(TaskError, match=f"2 tasks are called 'best'. Say its id; the newest is {other.id}"):
        index.find(settings, "best", sole=True)
    with pytest.raises(TaskError, match="no task 'worst'"):
        index.find(settings, "worst")


def test_the_list_is_the_same_as_the_folders_say(bench: Bench, trainenv: RunCommand) -> None:
    done = bench.start("print('epoch=1 loss=0.5')").wait()
    failed = bench.start("raise SystemExit(3)").wait()
    shown = json.loads(trainenv(Workspace(bench.settings.root), "task", "list", "--json").stdout)
    assert shown == [failed.to_json(), done.to_json()]
    assert Workspace(bench.settings.root).tasks() == [failed, done]


def test_the_supervisor_needs_no_database(bench: Bench) -> None:
    (bench.settings.tasks_dir / index.FOLDER).mkdir(parents=True)
    database(bench.settings).write_bytes(b"\0" * 100)
    assert bench.start("pass").wait().status == "done"


Loader = Callable[[], Settings]


@pytest.mark.parametrize("value", ["mysql://u:secret@h/d", "secret", "sqlite:///", 5])
def test_a_wrong_database_is_refused_without_showing_it(tmp_path: Path, value: object) -> None:
    (tmp_path / settings_module.FILE_NAME).write_text(f"database = {json.dumps(value)}\n")
    done = subprocess.run(
        [sys.executable, "-m", "trainenv", "--workspace", str(tmp_path), "task", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "must be a URL" in done.stderr and "secret" not in done.stderr


def test_a_task_that_waits_says_for_what(bench: Bench) -> None:
    settings = replace(bench.settings, gpus=1)
    method = bench.method(
        "import time; print('up', flush=True); time.sleep(600)",
        yaml="conda_env: small_env\nfile: train.py\nresources: {gpus: 1}\n",
    )
    tasks = [start(settings, method, {}, prefix=bench.prefix) for _ in range(3)]
    outcomes = {each.id: each.outcome for each in index.select(settings, Selection())}
    assert [outcomes[task.id].partition(" (")[0] for task in tasks] == ["running", "queued", "queued"]
    assert "1 ahead" in outcomes[tasks[2].id] and "GPU" in outcomes[tasks[2].id]
    tasks[1].cancel()
    (last,) = index.select(settings, Selection(status="queued"))
    assert last.id == tasks[2].id and "ahead" not in last.outcome
