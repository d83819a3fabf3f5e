"""Code that does its worst: nothing of it is left, others go on, and the record is true."""

from __future__ import annotations

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
from trainenv.training import metrics, processes
from trainenv.training.run import cancel, start, wait
from trainenv.training.task import list_tasks, reload

if TYPE_CHECKING:
    from tests.training.conftest import Bench

BOMB = """
    import os, signal, sys, time
    # Three generations of three, each in a session of its own and deaf to SIGTERM; parents leave their children.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    depth = 0
    while depth < 3:
        children = [os.fork() for _ in range(3)]
        if 0 in children:
            os.setsid()
            depth += 1
            continue
        break
    if depth == 0:
        print("up", flush=True)
        WHAT_THEN
    elif depth == 2:
        os._exit(0)
    time.sleep(60)
    """


@pytest.mark.parametrize(("what_then", "status"), [("time.sleep(60)", "cancelled"), ("raise SystemExit(0)", "done")])
def test_a_bomb_of_forks_is_cleaned_up(bench: Bench, what_then: str, status: str) -> None:
    task = bench.start_and_hear(BOMB.replace("WHAT_THEN", what_then), grace_seconds=0.3)
    if status == "cancelled":
        bench.until(lambda: len(bench.code_processes(task)) >= 20)
        cancel(task)
    assert wait(task).status == status
    assert bench.code_processes(task) == []


def test_code_that_forks_faster_than_it_is_found_is_ended(bench: Bench) -> None:
    """Each process is gone at once, and has started the next by then."""
    task = bench.start_and_hear(
        """
        import os, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        while True:
            if os.fork() != 0:
                os._exit(0)
            os.setsid()
        """,
        grace_seconds=0.1,
    )
    assert wait(task, 30).status == "done", "its first process ended by itself"
    assert bench.code_processes(task) == []


def test_a_flood_of_output_fills_no_memory_and_is_recorded_whole(bench: Bench) -> None:
    """200 MB in lines that are no metrics, one line of 50 MB, and metrics before and after."""
    task = bench.start(
        """
        import sys
        out = sys.stdout.buffer
        out.write(b"step=1 loss=0.5\\n")
        block = b"2026-01-01 12:00:00 INFO worker 3 handled a request in 12 ms, and all is well so far\\n" * 10_000
        for _ in range(200_000_000 // len(block)):
            out.write(block)
        out.write(b"x" * 50_000_000 + b"\\n")
        out.write(b"step=2 loss=0.25\\n")
        """
    )
    peak = 0
    while reload(task).active:
        try:
            status = Path(f"/proc/{bench.supervisor(task)}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        except OSError:
            break
        time.sleep(0.02)
    ended = wait(task)
    assert (ended.status, ended.metrics) == ("done", {"step": 2, "loss": 0.25})
    assert ended.log_file.stat().st_size > 240_000_000
    assert peak < 60_000, "kilobytes of the supervisor"


def test_a_flood_of_metrics_is_sampled_and_says_so(bench: Bench) -> None:
    """50 MB of nothing but metrics, far faster than they can be read: the last values are right nevertheless."""
    task = bench.start(
        """
        import sys
        for block in range(24):
            sys.stdout.write("".join(f"step={block * 50_000 + i} loss=0.{i:05} and=1\\n" for i in range(50_000)))
        """
    )
    ended = wait(task)
    assert (ended.status, ended.metrics["step"]) == ("done", 24 * 50_000 - 1)
    steps = [int(record["step"] or 0) for record in metrics.read(str(ended.metrics_file))]
    assert steps[:100_000] == list(range(100_000)) and steps == sorted(set(steps))
    assert len(steps) < 24 * 50_000
    *_, last, notice = ended.log_file.read_bytes().splitlines()
    assert last.startswith(b"step=1199999 ")
    assert notice.startswith(b"trainenv: metrics came too fast to keep each")


def test_a_hundred_tasks_at_once(bench: Bench) -> None:
    method = bench.method("import time; print('step=1 loss=0.5', flush=True); time.sleep(0.3)")
    for _ in range(100):
        start(bench.settings, method, {}, prefix=bench.prefix)
    ended = [wait(task, 60) for task in list_tasks(bench.settings.tasks_dir)]
    assert [(task.status, task.metrics) for task in ended] == [("done", {"step": 1, "loss": 0.5})] * 100


FILLING = """
    import os, sys
    print("step=1 loss=0.5", flush=True)
    if "--greedy=true" in sys.argv:
        os.unlink(os.path.join(os.environ["TRAINENV_TASK_DIR"], ".room"))
    try:
        with open(os.path.join(os.environ["TRAINENV_OUTPUTS"], "model"), "wb") as file:
            while True:
                file.write(b"x" * 65536)
                file.flush()
    except OSError as error:
        sys.exit(error.errno)
    """

ON_A_SMALL_DISK = """
import sys, time
from pathlib import Path
from trainenv import Workspace
from trainenv.errors import TrainenvError
from trainenv.training import processes

place = Workspace(sys.argv[1])
ended = place.train("probe")
print(ended.status, ended.exit_code, ended.metrics)
(ended.outputs / "model").unlink()
task = place.start("probe", greedy=True)
while processes.with_variable("TRAINENV_TASK_DIR", str(task.folder)):
    time.sleep(0.01)
time.sleep(0.3)
print(place.task(task.id).status)
(task.outputs / "model").unlink()
ended = task.wait(20)
print(ended.status, ended.exit_code, ended.metrics)
try:
    (place.settings.tasks_dir / "filler").write_bytes(b"x" * 3_000_000)
except OSError:
    pass
try:
    place.start("probe")
except TrainenvError as error:
    print(error)
print(len(place.tasks()))
"""


def test_a_full_disk_loses_no_task(bench: Bench, tmp_path: Path) -> None:
    """The code fills a small disk: its end is written down, at the latest once there is room; no half task appears."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (bench.prefix / "conda-meta").mkdir()
    bench.configure(f'tasks_dir = "{disk}/tasks"\n')
    yaml = "conda_env: small_env\nfile: train.py\nparameters: {greedy: {default: false}}\n"
    bench.method(FILLING, yaml=yaml)
    shell = 'mount -t tmpfs -o size=2m tmpfs "$0"; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, str(disk)]
    script = [sys.executable, "-c", ON_A_SMALL_DISK, str(bench.settings.root)]
    source = str(Path(trainenv.__file__ or "").parent.parent)
    done = subprocess.run(
        [*command, *script], capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": source}
    )
    told, still, ended, refused, count = done.stdout.splitlines() or [done.stderr]
    assert told == "failed 28 {'step': 1, 'loss': 0.5}"
    assert still == "running", "nobody could write down its end yet"
    assert ended == "failed 28 {'step': 1, 'loss': 0.5}"
    assert "No space left on device" in refused
    assert count == "2"


def test_killed_at_any_moment_the_record_is_true_and_nothing_is_left(bench: Bench) -> None:
    """The supervisor, the code, or both die at random points: no task is told to run that does not."""
    dice = random.Random(5)
    code = "import subprocess, time; print('up', flush=True); subprocess.run(['sleep', '0.3'])"
    for _ in range(8):
        task = bench.start(code, grace_seconds=0.2)
        time.sleep(dice.random() * 0.5)
        supervisor = [bench.supervisor(reload(task))]
        victims = dice.choice([supervisor, bench.code_processes(task), supervisor + bench.code_processes(task)])
        processes.send(signal.SIGKILL, victims)
        if victims == supervisor and reload(task).status == "lost" and bench.code_processes(task):
            cancel(task)
        ended = wait(task, 10)
        assert ended.status in ("done", "failed", "lost")
        assert (ended.status == "lost") == (not ended.finished)
        bench.until(lambda task=task: not bench.code_processes(task))  # type: ignore[misc]
    assert wait(bench.start("pass")).status == "done", "the environment is free"
