"""Tasks wait for what they need, first come, first served, whoever of them is killed at whatever moment."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trainenv
from trainenv.errors import TaskError
from trainenv.training import processes
from trainenv.training.run import cancel, wait, waiting
from trainenv.training.task import Task, list_tasks, load_task, reload

if TYPE_CHECKING:
    from tests.training.conftest import Bench

UNTIL_TOLD = """
    import os, pathlib, time
    print("up", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    while not pathlib.Path(os.environ["TRAINENV_OUTPUTS"], "end").exists():
        time.sleep(0.01)
    """

A_WHILE = """
    import os, time
    print(os.environ["CUDA_VISIBLE_DEVICES"], time.time(), flush=True)
    time.sleep(0.05)
    print(time.time())
    """


def end(task: Task) -> Task:
    (task.outputs / "end").touch()
    return wait(task)


def running(bench: Bench, resources: str) -> Task:
    task = bench.wanting(resources, UNTIL_TOLD)
    bench.until(task.log_file.read_text)
    return reload(task)


def outcome(bench: Bench, task: Task) -> str:
    return load_task(bench.settings.tasks_dir, task.id).outcome


def runs(bench: Bench, task: Task) -> bool:
    return bool(task.log_file.read_text()) and reload(task).status == "running"


def test_gpus_go_to_who_came_first(bench: Bench) -> None:
    bench.configure("gpus = 2")
    first, second = running(bench, "gpus: 1"), running(bench, "gpus: 1")
    third, fourth = bench.wanting("gpus: 2", UNTIL_TOLD), bench.wanting("gpus: 1", UNTIL_TOLD)
    assert (first.gpus, second.gpus) == (["0"], ["1"])
    assert outcome(bench, third) == "queued (waiting for 2 GPUs)"
    assert outcome(bench, fourth) == "queued (waiting for 1 GPU, 1 ahead)"
    end(first)
    assert reload(third).status == reload(fourth).status == "queued", "the fourth does not overtake the third"
    end(second)
    bench.until(lambda: runs(bench, third))
    assert end(third).gpus == ["0", "1"]
    bench.until(lambda: runs(bench, fourth))
    assert end(fourth).status == "done"
    assert [task.log_file.read_text() for task in (first, second, third, fourth)] == [
        "up 0\n",
        "up 1\n",
        "up 0,1\n",
        "up 0\n",
    ]


def test_who_asks_for_nothing_does_not_wait(bench: Bench) -> None:
    bench.configure("gpus = 1")
    running(bench, "gpus: 1")
    assert (
        wait(bench.start("import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))")).log_file.read_text()
        == "all\n"
    )
    assert (
        wait(bench.wanting("gpus: 0", UNTIL_TOLD.replace("while", "while False and"))).log_file.read_text() == "up \n"
    )


def test_a_waiting_task_tells_how_it_stands(bench: Bench) -> None:
    bench.configure("gpus = 1")
    first, second = running(bench, "gpus: 1"), bench.wanting("gpus: 1", UNTIL_TOLD)
    third = bench.wanting("gpus: 1", UNTIL_TOLD)
    told = waiting(third)
    assert next(told).outcome == "queued (waiting for 1 GPU, 1 ahead)"
    end(first)
    assert next(told).outcome == "queued (waiting for 1 GPU)"
    end(second)
    assert list(told) == []
    assert end(third).status == "done"


def test_gpus_that_the_starter_may_not_see_are_not_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.configure("gpus = 4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert running(bench, "gpus: 1").gpus == ["3"]
    with pytest.raises(TaskError, match="asks for 3 GPUs: there are only 2"):
        bench.wanting("gpus: 3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(TaskError, match="asks for 1 GPU: there are none"):
        bench.wanting("gpus: 1")
    assert len(list_tasks(bench.settings.tasks_dir)) == 1


def test_cpus_are_those_that_the_task_runs_on(bench: Bench) -> None:
    show = "import os; print(*sorted(os.sched_getaffinity(0)))"
    first = min(os.sched_getaffinity(0))
    assert wait(bench.wanting("cpus: 1", show)).log_file.read_text() == f"{first}\n"
    bench.configure("cpus = 1000")
    holder = running(bench, "cpus: 999")
    assert outcome(bench, bench.wanting("cpus: 2")) == "queued (waiting for 2 CPUs)"
    assert reload(holder).status == "running"


def test_memory_is_shared_out(bench: Bench) -> None:
    bench.configure('memory = "10 GB"')
    running(bench, "memory: 6GB")
    assert outcome(bench, bench.wanting("memory: 5GB")) == "queued (waiting for 5.0 GB of memory)"
    with pytest.raises(TaskError, match=r"asks for 20.0 GB of memory: there are only 10.0 GB"):
        bench.wanting("memory: 20GB")


@pytest.mark.parametrize(
    ("limits", "waits_for"),
    [
        ("tasks = 1", "its turn among the tasks here"),
        ("environments = {small_env = 1}", "its turn in environment small_env"),
        ("methods = {probe = 1}", "its turn among tasks of probe"),
    ],
)
def test_limits(bench: Bench, limits: str, waits_for: str) -> None:
    bench.configure(f"[limits]\n{limits}\n")
    first, second = bench.start_and_hear(UNTIL_TOLD), bench.start("print('ran')")
    assert outcome(bench, second) == f"queued (waiting for {waits_for} (1 at once))"
    end(first)
    assert wait(second).log_file.read_text() == "ran\n"


def test_a_limit_of_others_does_not_count(bench: Bench) -> None:
    bench.configure("[limits]\nenvironments = {other_env = 1}\nmethods = {other = 1}\n")
    bench.start_and_hear(UNTIL_TOLD)
    assert wait(bench.start("pass")).status == "done"


def test_workspaces_with_one_queue_share_the_machine(bench: Bench, tmp_path: Path) -> None:
    shared = f'gpus = 1\nqueue_dir = "{tmp_path / "queue"}"\n'
    bench.configure(shared)
    first = running(bench, "gpus: 1")
    other = type(bench)(bench.settings)
    other.configure(shared + f'tasks_dir = "{tmp_path / "another"}"\n')
    second = other.wanting("gpus: 1")
    assert outcome(other, second) == "queued (waiting for 1 GPU)"
    end(first)
    assert wait(second).status == "done"


def test_cancelled_in_the_queue_is_never_started(bench: Bench) -> None:
    bench.configure("gpus = 1")
    first, second, third = (bench.wanting("gpus: 1", UNTIL_TOLD) for _ in range(3))
    ended = cancel(second)
    assert (ended.status, ended.reason, ended.started, ended.exit_code) == ("cancelled", "cancelled", None, None)
    assert outcome(bench, third) == "queued (waiting for 1 GPU)"
    end(first)
    bench.until(lambda: runs(bench, third))
    assert second.log_file.read_text() == ""


def test_a_dead_holder_frees_at_once(bench: Bench) -> None:
    bench.configure("gpus = 1")
    holder = running(bench, "gpus: 1")
    second, third = bench.wanting("gpus: 1", UNTIL_TOLD), bench.wanting("gpus: 1", UNTIL_TOLD)
    processes.send(signal.SIGKILL, [bench.supervisor(holder), *bench.code_processes(holder)])
    bench.until(lambda: runs(bench, second), 2)
    processes.send(signal.SIGKILL, [bench.supervisor(second), *bench.code_processes(second)])
    bench.until(lambda: runs(bench, third), 2)


def test_what_a_killed_supervisor_leaves_running_keeps_its_gpu(bench: Bench) -> None:
    bench.configure("gpus = 1")
    holder = bench.wanting(
        "gpus: 1",
        # The program keeps no descriptor of ours, and its parent is gone: it is known by its variables alone.
        "import os, subprocess; subprocess.Popen(['sleep', '60']); print('up', flush=True); os.kill(os.getppid(), 9)",
    )
    bench.until(lambda: reload(holder).status == "lost" and len(bench.code_processes(holder)) == 1)
    second = bench.wanting("gpus: 1")
    assert outcome(bench, second) == "queued (waiting for 1 GPU)"
    assert cancel(holder).status == "lost"
    assert wait(second, 10).status == "done"


def test_a_queued_task_whose_supervisor_is_killed_is_lost(bench: Bench) -> None:
    bench.configure("gpus = 1")
    first, second, third = (bench.wanting("gpus: 1", UNTIL_TOLD) for _ in range(3))
    os.kill(bench.supervisor(second), signal.SIGKILL)
    bench.until(lambda: reload(second).status == "lost")
    assert outcome(bench, third) == "queued (waiting for 1 GPU)"
    end(first)
    bench.until(lambda: runs(bench, third))


def test_many_tasks_of_many_starters_run_once_each(bench: Bench) -> None:
    bench.configure("gpus = 2")
    bench.method(A_WHILE, yaml="conda_env: small_env\nfile: train.py\nresources: {gpus: 1}\n")
    starters = [starting(bench, 8) for _ in range(3)]
    assert [starter.wait() for starter in starters] == [0, 0, 0]
    tasks = [wait(task, 60) for task in list_tasks(bench.settings.tasks_dir)]
    assert [task.outcome for task in tasks] == ["done"] * 24
    assert all(len(task.log_file.read_text().splitlines()) == 2 for task in tasks)
    assert_one_at_a_time(tasks)


def test_whoever_is_killed_the_others_get_their_turn(bench: Bench) -> None:
    """Supervisors die while they join, wait, start, run and leave: nothing is lost, doubled or stuck."""
    bench.configure("gpus = 2")
    bench.method(A_WHILE, yaml="conda_env: small_env\nfile: train.py\nresources: {gpus: 1}\n")
    starters = [starting(bench, 10) for _ in range(2)]
    dice = random.Random(4)
    while any(starter.poll() is None for starter in starters) or bench.active():
        active = [task for task in bench.active() if task.status == "running" or task.ticket]
        if active and dice.random() < 0.3:
            processes.send(signal.SIGKILL, [bench.supervisor(dice.choice(active))])
        time.sleep(dice.random() * 0.1)
    tasks = list_tasks(bench.settings.tasks_dir)
    bench.until(lambda: not any(bench.code_processes(task) for task in tasks))
    assert {task.status for task in tasks} <= {"done", "lost"}
    ran = [task for task in tasks if len(task.log_file.read_text().splitlines()) == 2]
    assert all(task in ran for task in tasks if task.status == "done")
    assert_one_at_a_time(ran)
    assert wait(bench.wanting("gpus: 2"), 10).status == "done"


def assert_one_at_a_time(tasks: list[Task]) -> None:
    spans: dict[str, list[tuple[float, float]]] = {}
    for task in tasks:
        first, last = task.log_file.read_text().splitlines()
        spans.setdefault(first.split()[0], []).append((float(first.split()[1]), float(last)))
    assert set(spans) <= {"0", "1"}
    for each in spans.values():
        each.sort()
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(each))


def starting(bench: Bench, count: int) -> subprocess.Popen[bytes]:
    """A process that starts ``count`` tasks of method ``probe``."""
    code = f"""
from trainenv import settings
from trainenv.errors import TrainenvError
from trainenv.training.method import load_method
from trainenv.training.run import start
known = settings.load({str(bench.settings.root)!r})
method = load_method(known.methods_dir, "probe")
for _ in range({count}):
    try:
        start(known, method, {{}}, prefix=known.prefix_of({bench.environment!r}))
    except TrainenvError:
        pass  # Its supervisor was killed before it spoke.
"""
    source = str(Path(trainenv.__file__ or "").parent.parent)
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": source})
