"""What came of tasks: side by side, drawn in a terminal, and written for elsewhere."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import terminal
from tests.conftest import MakeWorkspace, RunCommand, program
from tests.training.conftest import Bench
from tests.training.test_records import workspace_on
from trainenv import TaskError, UsageError, Workspace
from trainenv.training.curves import Curve, Panel
from trainenv.training.task import Task
from trainenv.training.terminal_chart import draw

Measured = Callable[[float], Task]


@pytest.fixture
def measured(bench: Bench) -> Measured:
    """A task that measures a loss that begins at this value."""
    return lambda first: bench.start(
        f"for step in range(4): print(f'step={{step}} loss={{{first} / 10 ** step}}')"
    ).wait()


def test_tasks_side_by_side(tmp_path: Path, make_workspace: MakeWorkspace, trainenv: RunCommand) -> None:
    place = workspace_on(tmp_path, make_workspace)
    place.create("e", "tool")
    folder = place.settings.methods_dir / "probe"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text(
        "conda_env: e\nstages: {train: {file: train.sh}}\nparameters: {rate: {default: 0.5}, other: {default: 1}}\n"
    )
    (folder / "train.sh").write_text('echo "step=1 loss=${1#--rate=}"\n')
    one = place.train("probe", name="one")
    place.install("e", "extra")
    two = place.train("probe", rate=0.25)
    found = json.loads(trainenv(place, "task", "compare", "one", two.id, "--json").stdout)
    assert found["tasks"] == [one.id, two.id]
    assert found["parameters"] == {"rate": [0.5, 0.25], "other": [1, 1]}
    assert found["packages"] == {"extra": [None, "1.0"]}
    assert found["metrics"] == {"step": [1, 1], "loss": [0.5, 0.25]}
    assert found["facts"]["conda_env"] == ["e", "e"] and found["facts"]["name"] == ["one", None]

    done = trainenv(place, "task", "compare", "one", two.id, "--plot", str(tmp_path / "curves.svg"))
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["≠", "rate", "0.5", "0.25"] in lines and ["other", "1", "1"] in lines
    assert ["≠", "extra", "-", "1.0"] in lines and ["≠", "loss", "0.5", "0.25"] in lines
    drawn = re.findall(r"<!-- (.*?) -->", (tmp_path / "curves.svg").read_text())
    assert {"one", "probe (e)", "loss"} <= set(drawn)
    for arguments in (["compare", "one"], ["metrics", "one", two.id], ["metrics"]):
        assert trainenv(place, "task", *arguments).returncode == 2


def test_what_a_trainer_measures_is_shown_once_and_to_be_read(bench: Bench) -> None:
    """It prints its metrics and writes them for TensorBoard, which has a step for each."""
    printed = {"loss": 0.5, "grad_norm": 1.5, "epoch": 1, "eval_loss": 0.4, "eval_f1": 0.25, "eval_acc": 0.75}
    written = {"step": 8, "train/loss": 0.5000001, "train/epoch": 1, "eval/loss": 0.4, "val/loss": 0.5}
    done = bench.start(f"import json; print(json.dumps({printed})); print(json.dumps({written}))").wait()
    command = program(Workspace(bench.settings.root), "task")
    with terminal([*command, "metrics", done.id], {**os.environ, "COLUMNS": "55"}) as screen:
        screen.expect(r"epoch +step +loss +grad_norm +eval_loss +eval_f1\s+1 +0.5 +1.5 +0.4 +0.25\s+")
        screen.expect(r"epoch +step +eval_acc +val/loss\s+1 +0.75\s+8 +0.5\s+")
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True).stdout
    assert listed.endswith("loss=0.5 grad_norm=1.5 epoch=1 eval_loss=0.4 eval_f1=0.25 eval_acc=0.75 +2\n")
    assert len(Workspace(bench.settings.root).task(done.id).metrics) == 11


def curve(task: int, *values: float | None) -> Curve:
    return Curve(task, f"task {task}", "step", tuple(enumerate(values)))


def test_a_curve_in_dots() -> None:
    lines = draw([Panel("loss", (curve(0, 0.0, 1.0),))], 30, colours=False)
    assert lines[0] == "loss" and len(lines) == 12
    assert lines[1].startswith("1 ┤") and lines[1].endswith("⠉") and lines[10].startswith("0 ┤⡠")
    assert lines[11].split() == ["0", "1", "step"] and all(len(line) <= 30 for line in lines)


def test_several_curves_are_told_apart() -> None:
    panels = [Panel("loss", (curve(0, 1.0, 0.001), curve(2, 0.5, None, 0.5)))]
    plain = draw(panels, 60, colours=False)
    assert plain[0] == "loss (logarithmic)" and plain[-2:] == ["a task 0", "c task 2"]
    assert any("a" in line for line in plain[1:11]) and any("c" in line for line in plain[1:11])
    coloured = "\n".join(draw(panels, 60, colours=True))
    assert "\x1b[36m" in coloured and "\x1b[35m" in coloured


@pytest.mark.parametrize("values", [(None,), (1.0,), (0.0, 0.0), (-5.0, 5.0, None), (1e-300, 1e300)])
def test_odd_curves_are_drawn_as_well(values: tuple[float | None, ...]) -> None:
    assert draw([Panel("m", (curve(0, *values),))], 10, colours=False)[0].startswith("m")


def test_metrics_are_drawn_in_the_terminal(bench: Bench, measured: Measured, trainenv: RunCommand) -> None:
    place = Workspace(bench.settings.root)
    task = measured(1.0)
    for arguments in ([task.id, "--plot"], ["--plot", task.id]):
        shown = trainenv(place, "task", "metrics", *arguments).stdout
        assert shown.startswith("loss (logarithmic)\n") and "⠉" in shown
    other = measured(0.5)
    with terminal(program(place, "task", "compare", task.id, other.id, "--plot"), os.environ) as screen:
        screen.expect(f"━━ probe \\(small_env\\), {other.id}")
    silent = bench.start("pass").wait()
    done = trainenv(place, "task", "metrics", silent.id, "--plot")
    assert done.returncode == 1 and "nothing to draw" in done.stderr
    done = trainenv(place, "task", "metrics", task.id, "--plot", "curve.gif")
    assert done.returncode == 2 and ".png or .svg" in done.stderr


def test_a_loss_that_is_no_number_any_more_is_a_dash(bench: Bench, trainenv: RunCommand) -> None:
    bench.configure("gpus = 1")
    task = bench.wanting("gpus: 1", "print('step=1 loss=nan')").wait()
    place = Workspace(bench.settings.root)
    assert trainenv(place, "task", "metrics", task.id).stdout.split() == ["step", "loss", "1", "-"]
    shown = [line.split() for line in trainenv(place, "task", "show", task.id).stdout.splitlines()]
    assert ["gpus", "0"] in shown and ["metrics", "step=1", "loss=-"] in shown


def test_a_list_that_stays_shows_what_changes(bench: Bench) -> None:
    place = Workspace(bench.settings.root)
    running = bench.start_and_hear("import time; print('up', flush=True); time.sleep(600)")
    with terminal(program(place, "task", "list", "--watch"), os.environ) as screen:
        screen.expect(f"{running.id}.*running")
        running.cancel()
        screen.expect(f"{running.id}.*cancelled")
        screen.type("\x03")
        assert screen.process.wait(timeout=20) == 0


def test_tasks_as_tables(bench: Bench, measured: Measured, trainenv: RunCommand, tmp_path: Path) -> None:
    place = Workspace(bench.settings.root)
    one, two = measured(1.0), measured(0.5)
    rows = list(csv.DictReader(io.StringIO(trainenv(place, "task", "export").stdout)))
    assert [row["id"] for row in rows] == [two.id, one.id] and rows[1]["metrics.loss"] == "0.001"
    shown = json.loads(trainenv(place, "task", "export", one.id, "--format", "json").stdout)
    assert shown[0]["id"] == one.id and len(shown[0]["history"]) == 4
    done = trainenv(place, "task", "export", "--where", "loss<0.0007", "-o", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    assert [task["id"] for task in json.loads((tmp_path / "found.json").read_text())] == [two.id]
    assert trainenv(place, "task", "export", one.id, "--status", "done").returncode == 2
    with pytest.raises(UsageError, match=r"may end in \.csv, \.json, \.tar\.gz"):
        place.export_tasks([one], tmp_path / "tasks.zip")


@pytest.mark.parametrize("name", ["tasks.tar.gz", "tasks.tar.zst", "tasks.tar"])
def test_exported_tasks_are_tasks_elsewhere(bench: Bench, measured: Measured, tmp_path: Path, name: str) -> None:
    place = Workspace(bench.settings.root)
    one, two = measured(1.0), measured(0.5)
    (one.outputs / "model.bin").write_bytes(b"model")
    (one.outputs / "latest").symlink_to("model.bin")
    for output in (tmp_path / name, tmp_path / f"again-{name}"):
        place.export_tasks([one, two], output)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    there = tmp_path / "there"
    (there / "tasks").mkdir(parents=True)
    (there / "trainenv.toml").touch()
    subprocess.run(["tar", "-xf", tmp_path / name, "-C", there / "tasks"], check=True)
    found = Workspace(there).tasks()
    assert [task.to_json() for task in found] == [two.to_json(), one.to_json()]
    assert (found[1].outputs / "latest").read_bytes() == b"model"
    place.export_tasks([one], tmp_path / name, outputs=False)
    listed = subprocess.run(["tar", "-tf", tmp_path / name], capture_output=True, text=True, check=True).stdout
    assert f"{one.id}/outputs/\n" in listed and "model.bin" not in listed


def test_an_export_is_whole_or_absent(bench: Bench, measured: Measured, tmp_path: Path) -> None:
    place = Workspace(bench.settings.root)
    running = bench.start_and_hear("import time; print('up', flush=True); time.sleep(600)")
    with pytest.raises(TaskError, match="still running"):
        place.export_tasks([measured(1.0), running], tmp_path / "tasks.tar.gz")
    with pytest.raises(TaskError, match="can't be written"):
        place.export_tasks([measured(1.0)], tmp_path / "none" / "tasks.csv")
    assert not list(tmp_path.glob("*tasks*"))
