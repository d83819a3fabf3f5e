"""What ends a task that takes too much, and what is told of it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from trainenv.training import memory
from trainenv.training.run import wait

if TYPE_CHECKING:
    from tests.training.conftest import Bench


def test_a_task_over_its_memory_is_ended(bench: Bench) -> None:
    task = wait(
        bench.wanting(
            "memory: 100MB",
            """
            import signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            held = [bytearray(10_000_000) for _ in range(20)]
            print("has it")
            time.sleep(60)
            """,
            grace_seconds=60,
        )
    )
    assert (task.status, task.reason, task.signal) == ("failed", "out_of_memory", "SIGKILL")
    assert task.error == "it took more than its memory limit of 100.0 MB"


def test_the_processes_of_a_task_count_together(bench: Bench) -> None:
    task = wait(
        bench.wanting(
            "memory: 150MB",
            """
            import subprocess, sys
            hungry = "held = bytearray(60_000_000); import time; time.sleep(60)"
            for each in [subprocess.Popen([sys.executable, "-c", hungry]) for _ in range(3)]:
                each.wait()
            """,
        )
    )
    assert (task.reason, bench.code_processes(task)) == ("out_of_memory", [])


def test_what_processes_share_counts_once(bench: Bench) -> None:
    task = wait(
        bench.wanting(
            "memory: 150MB",
            """
            import os, time
            held = bytearray(80_000_000)
            for _ in range(4):
                if os.fork() == 0:
                    time.sleep(1)
                    os._exit(0)
            for _ in range(4):
                os.wait()
            """,
        )
    )
    assert task.outcome == "done"


def test_address_space_alone_does_not_count(bench: Bench) -> None:
    code = """
        import mmap, time
        without_reserve = 0x4000
        held = mmap.mmap(-1, 1 << 38, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | without_reserve)
        time.sleep(0.5)
        """
    task = wait(bench.wanting("memory: 100MB", code))
    assert task.outcome == "done"


@pytest.mark.parametrize(
    ("exit_code", "kills", "told"),
    [
        (-9, 1, True),
        (137, 1, True),
        (-9, 0, False),
        (-signal.SIGSEGV, 1, False),
        (1, 1, False),
    ],
)
def test_what_the_kernel_kills_for_want_of_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, exit_code: int, kills: int, told: bool
) -> None:
    before = memory.kills()
    watched = memory.Memory(None)
    monkeypatch.setattr(memory, "kills", lambda: before + kills)
    assert watched.killed(exit_code) is told
