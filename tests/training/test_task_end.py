"""Cancelled, killed, abandoned: however a task ends, nothing of it is left and its record is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trainenv
from trainenv.cli.train import exit_code_of
from trainenv.errors import TaskError
from trainenv.training import processes
from trainenv.training.run import cancel, follow, start, wait
from trainenv.training.task import Task, list_tasks, load_task, reload

if TYPE_CHECKING:
    from tests.training.conftest import Bench

LAST_PID = "/proc/sys/kernel/ns_last_pid"
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up")
    time.sleep(60)
    """

HIDING = """
    import os, signal, time
    # A grandchild that ignores SIGTERM, in a session of its own, whose parent is gone.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("up", flush=True)
            time.sleep(60)
        os._exit(0)
    os.wait()
    """


def test_cancel_lets_the_code_end_itself(bench: Bench) -> None:
    task = bench.start_and_hear(
        """
        import signal, sys, time
        def stop(*_):
            print("saved a checkpoint")
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        print("up")
        time.sleep(60)
        """
    )
    ended = cancel(task)
    assert (ended.status, ended.exit_code) == ("cancelled", 0)
    assert task.log_file.read_text() == "up\nsaved a checkpoint\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "ended_by"),
    [
        ("import time; time.sleep(60)", None, "SIGTERM"),
        ("import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(60)", 0, None),
        (HIDING + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", None, "SIGKILL"),
    ],
)
def test_no_task_runs_over_its_time(bench: Bench, code: str, exit_code: int | None, ended_by: str | None) -> None:
    yaml = "conda_env: small_env\nfile: train.py\nresources: {time: 0.5s}\n"
    method = bench.method(code, yaml=yaml)
    task = wait(start(bench.settings, method, {}, prefix=bench.prefix, grace_seconds=0.3))
    assert (task.status, task.exit_code, task.signal) == ("failed", exit_code, ended_by)
    assert task.error == "it ran longer than its time limit of 0.5 s"
    assert exit_code_of(task) not in (0, 130)
    assert bench.code_processes(task) == []


def test_an_interrupt_reaches_the_code_as_one(bench: Bench) -> None:
    task = bench.start_and_hear(
        """
            import time
            try:
                print("up")
                time.sleep(60)
            except KeyboardInterrupt:
                raise SystemExit(7)
            """
    )
    os.kill(bench.supervisor(task), signal.SIGINT)
    ended = wait(task)
    assert (ended.status, ended.exit_code) == ("cancelled", 7)


def test_cancel_kills_code_that_ignores_it(bench: Bench) -> None:
    ended = cancel(bench.start_and_hear(STUBBORN, grace_seconds=0.2))
    assert (ended.status, ended.exit_code, ended.signal) == ("cancelled", None, "SIGKILL")


def test_cancel_is_heard_by_who_was_stopped(bench: Bench) -> None:
    task = bench.start_and_hear(
        """
            import os, signal
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            print("up", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
            """,
        grace_seconds=60,
    )
    os.kill(bench.supervisor(task), signal.SIGSTOP)
    ended = cancel(task)
    assert (ended.status, ended.exit_code) == ("cancelled", 7)


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="only root may say which number a process gets")
def test_the_exit_code_is_the_codes_own_also_if_its_number_is_used_again(bench: Bench) -> None:
    """A child that outlives the code starts a process with the number that the code had."""
    code = f"""
        import os, signal, time
        mine = os.getpid()
        if os.fork():
            os._exit(3)
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while os.path.exists(f"/proc/{{mine}}"):
            time.sleep(0.001)
        child = None
        while child != mine:  # Until no other process of this machine is faster.
            with open({LAST_PID!r}, "w") as file:
                file.write(str(mine - 1))
            child = os.fork()
            if child == 0:
                time.sleep(0.2)  # Then the supervisor is its parent.
                os._exit(0)
        """
    ended = bench.start(textwrap.dedent(code)).wait()
    assert (ended.status, ended.exit_code) == ("failed", 3)


def test_cancel_finds_grandchildren_in_their_own_session(bench: Bench) -> None:
    task = bench.start_and_hear(HIDING + "time.sleep(60)", grace_seconds=0.2)
    assert len(bench.code_processes(task)) == 2
    assert cancel(task).status == "cancelled"
    assert bench.code_processes(task) == []


def test_what_the_code_leaves_behind_ends_with_it(bench: Bench) -> None:
    task = bench.start(HIDING + "raise SystemExit(3)", grace_seconds=0.2)
    assert wait(task).exit_code == 3
    assert bench.code_processes(task) == []


def test_a_task_that_has_ended_cannot_be_cancelled(bench: Bench) -> None:
    task = wait(bench.start("pass"))
    with pytest.raises(TaskError, match="it is done"):
        cancel(task)
    assert reload(task).status == "done"


def test_a_task_outlives_who_started_it(bench: Bench) -> None:
    bench.method("import time; print('up'); time.sleep(0.5); print('still here')")
    starter = starting_process(bench)
    assert starter.stdout is not None
    task = load_task(bench.settings.tasks_dir, starter.stdout.readline().strip())
    os.killpg(starter.pid, signal.SIGHUP)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    ended = wait(task)
    assert ended.status == "done"
    assert task.log_file.read_text() == "up\nstill here\n"


def test_a_starter_killed_at_any_moment_leaves_a_whole_task_or_none(bench: Bench) -> None:
    bench.method("print('up')")
    for moment in range(12):
        starter = starting_process(bench)
        time.sleep(moment * 0.02)
        os.kill(starter.pid, signal.SIGKILL)
        starter.communicate()
    for folder in bench.settings.tasks_dir.glob("[!.]*"):
        bench.until(partial(never_ran_or_ran_well, load_task(bench.settings.tasks_dir, folder.name)))
    assert wait(bench.start("print('up')")).status == "done"


def never_ran_or_ran_well(task: Task) -> bool:
    # Between its starter's death and its supervisor's first word a task looks lost for a moment.
    outcome = (reload(task).outcome, task.log_file.read_text())
    return outcome in (("lost (its supervisor is gone and left no result)", ""), ("done", "up\n"))


def starting_process(bench: Bench) -> subprocess.Popen[str]:
    """A process that starts method ``probe``, prints the task's id and stays."""
    code = f"""
        import time
        from trainenv import settings
        from trainenv.training.method import load_method
        from trainenv.training.run import start
        known = settings.load({str(bench.settings.root)!r})
        method = load_method(known.methods_dir, "probe")
        print(start(known, method, {{}}, prefix=known.prefix_of({bench.environment!r})).id, flush=True)
        time.sleep(60)
        """
    source = str(Path(trainenv.__file__ or "").parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": source},
    )


def test_a_task_without_its_supervisor_is_lost(bench: Bench) -> None:
    task = bench.start_and_hear("import time; print('up'); time.sleep(60)", grace_seconds=0.5)
    os.kill(bench.supervisor(task), signal.SIGKILL)
    bench.until(lambda: reload(task).status == "lost")
    assert "".join(event.text for event in follow(task)) == "up\n"
    assert [each.status for each in list_tasks(bench.settings.tasks_dir)] == ["lost"]

    assert len(bench.code_processes(task)) == 1, "the code itself goes on"
    assert cancel(task).status == "lost"
    assert bench.code_processes(task) == []
    with pytest.raises(TaskError, match="nothing of task"):
        cancel(task)


def test_a_task_on_another_machine_is_believed(bench: Bench) -> None:
    task = bench.start_and_hear("import time; print('up'); time.sleep(60)")
    record = task.folder / "task.json"
    record.write_text(record.read_text().replace(f'"host": "{task.host}"', '"host": "elsewhere"'))
    os.kill(bench.supervisor(task), signal.SIGKILL)
    assert reload(task).status == "running"
    with pytest.raises(TaskError, match="runs on elsewhere"):
        cancel(task)


def test_a_removed_folder_does_not_trouble_the_supervisor(bench: Bench, tmp_path: Path) -> None:
    task = bench.start_and_hear("import time; print('up'); time.sleep(60)")
    task.folder.rename(tmp_path / "elsewhere")
    os.kill(bench.supervisor(task), signal.SIGTERM)
    bench.until(lambda: not bench.code_processes(task))
    bench.until(lambda: not processes.alive(task.supervisor))
    assert (tmp_path / "elsewhere" / "output.log").read_text() == "up\n"
