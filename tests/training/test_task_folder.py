"""The folders of tasks: unique, whole or absent, newest first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import trainenv
from trainenv.errors import TaskError
from trainenv.training import record
from trainenv.training.task import Task, create, list_tasks, load_task


def described(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "method": "probe",
        "stage": "train",
        "conda_env": "small_env",
        "prefix": "/envs/small_env",
        "command": ["python", "train.py"],
        "working_folder": "/methods/probe",
        "parameters": {"epochs": 3},
        "environment": {},
        "method_sha256": "0" * 64,
        "code_sha256": "0" * 64,
        "host": os.uname().nodename,
        "user": "someone",
        "grace_seconds": 1.0,
    }
    return values | changes


def make(tasks_dir: Path, **changes: Any) -> Task:
    return create(tasks_dir, {}, **described(**changes))


def test_a_new_task_reads_back_as_it_is(tmp_path: Path) -> None:
    task = make(tmp_path)
    assert load_task(tmp_path, task.id) == task
    assert task.status == "queued" and task.outputs.is_dir() and task.log_file.read_bytes() == b""


def test_tasks_of_one_moment_have_their_own_ids(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: make(tmp_path), range(40)))
    assert len({task.id for task in tasks}) == 40
    assert {task.id for task in list_tasks(tmp_path)} == {task.id for task in tasks}
    assert all(not entry.name.startswith(".") for entry in tmp_path.iterdir())


def test_the_newest_comes_first(tmp_path: Path) -> None:
    made = []
    for _ in range(3):
        made.append(make(tmp_path).id)
        time.sleep(0.002)
    assert [task.id for task in list_tasks(tmp_path)] == made[::-1]


def test_an_unknown_id_is_one_line_that_names_the_newest(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="No task has been started yet"):
        load_task(tmp_path / "none", "20200101-000000-abcdef")
    newest = make(tmp_path)
    for identifier in ("20200101-000000-abcdef", "../" + newest.id, "", "."):
        with pytest.raises(TaskError, match=f"newest is {newest.id}"):
            load_task(tmp_path, identifier)


def test_the_start_of_an_id_is_enough_where_it_is_the_only_one(tmp_path: Path) -> None:
    one, _ = make(tmp_path), make(tmp_path)
    assert load_task(tmp_path, one.id[:-1]) == one
    with pytest.raises(TaskError, match="2 tasks begin with '20'"):
        load_task(tmp_path, "20")


ODD: dict[str, dict[str, object]] = {
    "a": {"created": 5},
    "b": {"parameters": []},
    "c": {"metrics": None},
    "d": {"id": {}},
}


def test_damaged_and_foreign_folders_hide_nothing(tmp_path: Path) -> None:
    task = make(tmp_path)
    (tmp_path / "notes").mkdir()
    odd = {name: json.dumps({**task.to_json(), **change}) for name, change in ODD.items()}
    for name, content in {"cut": '{"id": "cut"', "list": "[]", "empty": "{}", **odd}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / record.RECORD).write_text(content)
        with pytest.raises(TaskError, match="can't be read"):
            load_task(tmp_path, name)
    assert list_tasks(tmp_path) == [task]


def test_words_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    task = make(tmp_path)
    record.write(str(task.folder), task.to_json() | {"from_the_future": 1})
    assert load_task(tmp_path, task.id) == task


def test_a_queued_task_whose_starter_died_is_lost(tmp_path: Path) -> None:
    source = str(Path(trainenv.__file__ or "").parent.parent)
    code = f"""
        import os
        from pathlib import Path
        from trainenv.training.task import create
        create(Path({str(tmp_path)!r}), {{}}, **{described()!r})
        os.kill(os.getpid(), 9)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={"PYTHONPATH": source}, check=False)
    assert [task.status for task in list_tasks(tmp_path)] == ["lost"]


def test_remains_of_a_killed_start_are_never_seen_and_go(tmp_path: Path) -> None:
    old, young = tmp_path / ".new-old", tmp_path / ".new-young"
    for remains in (old, young):
        (remains / record.OUTPUTS).mkdir(parents=True)
    os.utime(old, (0, 0))
    assert list_tasks(tmp_path) == []
    task = make(tmp_path)
    assert list_tasks(tmp_path) == [task]
    assert not old.exists() and young.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TaskError, match="no task can be made"):
        make(tmp_path / "file")
