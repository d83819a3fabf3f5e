"""The picture of tasks: legible PNG and SVG files, and one line where there is nothing to draw."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from trainenv.errors import TaskError, UsageError
from trainenv.training import metrics
from trainenv.training.chart import draw
from trainenv.training.metrics import Metrics
from trainenv.training.task import Task, create


def measured(tasks_dir: Path, method: str, conda_env: str, records: list[Metrics]) -> Task:
    task = create(
        tasks_dir,
        {},
        method=method,
        stage="train",
        conda_env=conda_env,
        prefix="/envs/e",
        command=[],
        working_folder="/",
        parameters={},
        environment={},
        method_sha256="",
        code_sha256="",
        host=os.uname().nodename,
        user="someone",
        grace_seconds=1.0,
    )
    task.metrics_file.write_bytes(b"".join(metrics.to_line(record) for record in records))
    return task


def texts(svg: Path) -> list[str]:
    """Matplotlib draws letters as shapes and leaves their text in comments."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


def test_one_panel_a_metric_one_line_a_task(tmp_path: Path) -> None:
    tasks = [
        measured(tmp_path, "digits", "env_a", [{"epoch": n, "loss": 1 / n, "accuracy": 0.5} for n in (1, 2, 3)]),
        measured(tmp_path, "digits", "env_b", [{"step": n, "loss": 1 / n} for n in (1, 2, 3)]),
        measured(tmp_path, "digits", "env_b", [{"loss": 0.5}, {"loss": None}, {"loss": 0.25}]),
        measured(tmp_path, "silent", "env_c", []),
    ]
    output = tmp_path / "chart.svg"
    draw(tasks, output)
    drawn = texts(output)
    assert {"loss", "accuracy", "epoch or record or step", "epoch"} <= set(drawn)
    assert {"digits (env_a)", *(f"digits (env_b), {task.id}" for task in tasks[1:3])} <= set(drawn)
    assert "silent (env_c)" not in drawn


def test_the_same_tasks_make_the_same_picture(tmp_path: Path) -> None:
    task = measured(tmp_path, "m", "e", [{"epoch": n, "loss": 10.0**-n} for n in range(4)])
    for name in ("one.svg", "two.svg", "one.png", "two.png"):
        draw([task], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    silent = measured(tmp_path, "m", "e", [])
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw([silent], tmp_path / "chart.gif")
    for tasks in ([], [silent]):
        with pytest.raises(TaskError, match="nothing to draw"):
            draw(tasks, tmp_path / "chart.png")
    loud = measured(tmp_path, "m", "e", [{"loss": None}])
    with pytest.raises(TaskError, match="can't be written"):
        draw([loud], tmp_path / "no" / "chart.png")
