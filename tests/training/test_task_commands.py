"""``trainenv task``: what became of tasks, and an end of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import RunCommand, program
from tests.training.conftest import Bench
from trainenv import Workspace
from trainenv.environments import registry
from trainenv.errors import UsageError
from trainenv.training import processes
from trainenv.training.run import start
from trainenv.training.task import list_tasks

MEASURING = "for step in range(1, 4): print(f'step={step} loss={1 / step}', flush=True)"
SLEEPING = "import time; print('up', flush=True); time.sleep(600)"

Command = Callable[..., str]


@pytest.fixture
def task(bench: Bench, trainenv: RunCommand) -> Command:
    """Run ``trainenv task …``, which must go well; its output."""

    def run(*arguments: str) -> str:
        done = trainenv(Workspace(bench.settings.root), "task", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_metrics_are_printed_and_drawn(bench: Bench, task: Command, tmp_path: Path) -> None:
    measured = bench.start(MEASURING).wait()
    records = json.loads(task("metrics", measured.id, "--json"))
    assert [record["step"] for record in records] == [1, 2, 3] and records[1]["loss"] == 0.5
    table = task("metrics", measured.id).splitlines()
    assert table[0].split() == ["step", "loss"] and table[2].split() == ["2", "0.5"]
    task("metrics", measured.id, "--plot", str(tmp_path / "metrics.svg"))
    assert (tmp_path / "metrics.svg").read_text().startswith("<?xml")
    silent = bench.start("print('nothing')").wait()
    assert "has no metrics" in task("metrics", silent.id)


def test_the_list_shows_what_is_asked_for(bench: Bench, task: Command) -> None:
    done = bench.start("print('ok')").wait()
    failed = bench.start("raise SystemExit(3)").wait()

    def ids(*arguments: str) -> list[str]:
        return [item["id"] for item in json.loads(task("list", *arguments, "--json"))]

    assert set(ids()) == {done.id, failed.id}
    assert ids("--status", "done") == [done.id]
    assert ids("--status", "failed", "--method", "probe", "--conda-env", bench.environment) == [failed.id]
    assert ids("--method", "other") == []
    assert len(ids("--limit", "1")) == 1
    assert "No such task" in task("list", "--status", "lost")


def test_cancelled_tasks_leave_nothing_behind(bench: Bench, task: Command) -> None:
    tasks = [bench.start_and_hear(SLEEPING) for _ in range(2)]
    shown = task("cancel", *(each.id for each in tasks))
    assert shown.count("cancelled") == 2
    for each in tasks:
        assert bench.code_processes(each) == []


def test_a_raw_log_is_given_byte_for_byte(bench: Bench) -> None:
    code = r"import sys, time; sys.stdout.buffer.write(b'\xff\x00 1%\r 2%\n'); sys.stdout.flush(); time.sleep(0.3)"
    started = bench.start(code)
    for following in (["-f"], []):
        command = program(Workspace(bench.settings.root), "task", "logs", started.id, "--raw", *following)
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"\xff\x00 1%\r 2%\n"


def test_several_are_cancelled_within_one_grace_period(bench: Bench, trainenv: RunCommand) -> None:
    """Each hears it while the others still take their time; one that has ended already keeps nobody."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    tasks = [bench.start_and_hear(deaf, grace_seconds=3.0) for _ in range(3)]
    over = bench.start("pass").wait()
    done = trainenv(Workspace(bench.settings.root), "task", "cancel", over.id, *(each.id for each in tasks))
    assert done.returncode == 1 and f"task {over.id} can't be cancelled: it is done" in done.stderr
    ended = [each.wait() for each in tasks]
    assert [each.outcome for each in ended] == ["cancelled (SIGKILL)"] * 3
    finished = [datetime.fromisoformat(str(each.finished)) for each in ended]
    assert max(finished) - min(finished) < timedelta(seconds=3)


def test_ctrl_c_while_a_task_starts_leaves_nothing_running(bench: Bench) -> None:
    """From the moment on at which the task is there, to that at which its log is shown."""
    bench.method(SLEEPING)
    (bench.prefix / "conda-meta").mkdir()
    command = program(Workspace(bench.settings.root), "train", "probe")

    def folders() -> set[Path]:
        return set(bench.settings.tasks_dir.glob("[!.]*"))

    for milliseconds in (0, 5, 20, 40, 60):
        before = folders()
        starter = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while folders() == before:
            time.sleep(0.001)
            assert starter.poll() is None, starter.communicate()
        time.sleep(milliseconds / 1000)
        starter.send_signal(signal.SIGINT)
        _, said = starter.communicate(timeout=60)
        assert starter.returncode == 130, said
        assert {each.status for each in list_tasks(bench.settings.tasks_dir)} <= {"cancelled"}


def test_only_what_has_ended_is_removed(bench: Bench, task: Command, trainenv: RunCommand) -> None:
    ended = bench.start("print('ok')").wait()
    running = bench.start_and_hear(SLEEPING)
    place = Workspace(bench.settings.root)
    done = trainenv(place, "task", "remove", ended.id, running.id)
    assert done.returncode == 1 and f"trainenv task cancel {running.id}" in done.stderr
    assert ended.folder.is_dir() and running.folder.is_dir()

    # Its supervisor is gone, so it is lost; but its code goes on.
    processes.send(signal.SIGKILL, [bench.supervisor(running)])
    bench.until(lambda: place.task(running.id).status == "lost")
    assert trainenv(place, "task", "remove", running.id).returncode == 1
    for pid in bench.code_processes(running):
        os.kill(pid, signal.SIGKILL)
    bench.until(lambda: not bench.code_processes(running))
    assert json.loads(task("remove", ended.id, running.id, "--json")) == [ended.id, running.id]
    assert list(bench.settings.tasks_dir.glob("[!.]*")) == []
    done = trainenv(place, "task", "remove", ended.id)
    assert done.returncode == 1 and "no task" in done.stderr


def test_an_environment_of_another_workspace_is_told(bench: Bench, tmp_path: Path, trainenv: RunCommand) -> None:
    bench.method("print('hello')")
    (bench.prefix / "conda-meta").mkdir(exist_ok=True)
    registry.register(bench.prefix)
    other = Workspace(tmp_path / "other")
    shutil.copytree(bench.settings.methods_dir, other.settings.methods_dir)
    here = trainenv(Workspace(bench.settings.root), "train", "probe")
    assert "probe in small_env\n" in here.stderr
    done = trainenv(other, "train", "probe")
    assert f"probe in small_env, not of this workspace: {bench.prefix}\n" in done.stderr and done.stdout == "hello\n"


def test_a_name_is_one_line_to_be_read(bench: Bench) -> None:
    for name in ("", " ", "two\nlines", "\x1b[2J", "x" * 101):
        with pytest.raises(UsageError, match="can't be the name of a task"):
            start(bench.settings, bench.method("pass"), {}, prefix=bench.prefix, name=name)
    named = start(bench.settings, bench.method("pass"), {}, prefix=bench.prefix, name="größer: lr 1e-3")
    assert Workspace(bench.settings.root).task("größer: lr 1e-3").id == named.id
