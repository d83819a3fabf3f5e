"""How long it takes to list many tasks."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from benchmarks.bench import Bench, trainenv
from benchmarks.measuring import BenchmarkError, Case, Comparison, Contender

_TASKS = 10_000
_ROUNDS = 15


def list_case(bench: Bench) -> Case:
    """All of ten thousand tasks, the newest twenty, and those that a condition means."""
    tasks = bench.machine_b / "tasks"
    _make(tasks)
    listing = (trainenv(), "--workspace", str(bench.machine_b), "task", "list")

    def check() -> None:
        shown = bench.run(*listing).splitlines()
        if len(shown) != _TASKS + 1:
            raise BenchmarkError(f"trainenv task list shows {len(shown) - 1} of {_TASKS} tasks")

    def lose() -> None:
        shutil.rmtree(tasks / ".index", ignore_errors=True)

    contenders = [
        Contender("trainenv task list", listing, check=check),
        Contender("trainenv task list --json", (*listing, "--json")),
        Contender("trainenv task list --limit 20", (*listing, "--limit", "20")),
        Contender("trainenv task list --where 'loss<0.01'", (*listing, "--where", "loss<0.01")),
        Contender("trainenv task list, database lost", listing, prepare=lose),
        Contender("interpreter of trainenv itself", (sys.executable, "-c", "pass")),
    ]
    title = f"List {_TASKS:,} tasks: `task list`, whole process"
    return Case("list", title, contenders, _ROUNDS, Comparison.DIFFERENCE)


def _make(tasks: Path) -> None:
    """Folders of tasks that have ended, with records as real tasks leave them."""
    values = {"method": "digits_mlp", "stage": "train", "status": "done", "exit_code": 0, "conda_env": "modern_env"}
    values |= {
        "prefix": "/srv/training/envs/modern_env",
        "command": ["/srv/training/envs/modern_env/bin/python", "train.py"],
    }
    values |= {"working_folder": "/srv/training/methods/digits_mlp", "environment": {}, "host": os.uname().nodename}
    values |= {"method_sha256": "0" * 64, "code_sha256": "1" * 64, "manifest_sha256": "2" * 64, "lock_sha256": "3" * 64}
    values |= {"git_commit": "4" * 40, "git_dirty": False, "user": "someone", "supervisor": {}, "grace_seconds": 10.0}
    values |= {"machine": {"system": "Linux", "cpus": 16, "memory": 1 << 37, "gpus": ["NVIDIA H100 80GB HBM3"]}}
    for number in range(_TASKS):
        day, second = number % 28 + 1, number // 28
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        folder = tasks / f"202601{day:02d}-{clock.replace(':', '')}-{number:06x}"
        folder.mkdir(parents=True)
        moment = f"2026-01-{day:02d}T{clock}.000Z"
        own: dict[str, object] = {"id": folder.name, "created": moment, "started": moment, "finished": moment}
        own["parameters"] = {"epochs": 20, "learning_rate": 10.0 ** -(number % 5), "optimizer": "adam"}
        own["metrics"] = {"epoch": 20, "loss": number / _TASKS, "accuracy": 1 - number / _TASKS}
        (folder / "task.json").write_text(json.dumps({**values, **own}, indent=2))
