"""Executors that packages bring: the one in ``docs/executors.md``, installed for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainenv.channels.pypi import find_uv, uv_environment, uv_options
from trainenv.errors import TaskError, UsageError
from trainenv.training import executor
from trainenv.training.run import cancel, current, follow, start, wait
from trainenv.training.task import list_tasks, load_task

if TYPE_CHECKING:
    from tests.training.conftest import Bench

DOCUMENT = Path(__file__).parents[2] / "docs" / "executors.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Path:
    """The folder in which the package of the document is installed."""
    source, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site-packages")
    for language, name in (("python", "process_executor.py"), ("toml", "pyproject.toml")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        (source / name).write_text(block)
    install = [
        find_uv(),
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        *uv_options(),
        "--target",
        str(target),
    ]
    subprocess.run([*install, str(source)], check=True, env=uv_environment(shared_cache / "uv"))
    return target


@pytest.fixture
def with_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))


@pytest.mark.usefixtures("with_it")
def test_a_task_runs_through_an_installed_executor(bench: Bench) -> None:
    method = bench.method("import os; print('step=1 loss=0.5'); print(os.environ['TRAINENV_TASK_ID'])")
    task = start(bench.settings, method, {}, prefix=bench.prefix, executor="process")
    assert "".join(event.text for event in follow(task)) == f"step=1 loss=0.5\n{task.id}\n"
    ended = wait(task)
    assert (ended.status, ended.exit_code, ended.metrics) == ("done", 0, {"step": 1, "loss": 0.5})
    assert ended.executor == "process"


@pytest.mark.usefixtures("with_it")
def test_it_is_asked_to_cancel_and_how_its_tasks_stand(bench: Bench) -> None:
    method = bench.method("import time; print('up', flush=True); time.sleep(60)")
    task = start(bench.settings, method, {}, prefix=bench.prefix, executor="process", grace_seconds=0.2)
    bench.until(task.log_file.read_text)
    assert cancel(task).outcome == "cancelled (SIGTERM)"
    assert bench.code_processes(task) == []
    with pytest.raises(TaskError, match="can't be cancelled: it is cancelled"):
        cancel(task)


@pytest.mark.usefixtures("with_it")
def test_a_job_that_never_began_is_lost(bench: Bench) -> None:
    task = wait(start(bench.settings, bench.method("pass"), {}, prefix=bench.prefix, executor="process"))
    record = json.loads((task.folder / "task.json").read_text())
    (task.folder / "task.json").write_text(json.dumps(record | {"status": "queued"}))
    assert load_task(bench.settings.tasks_dir, task.id).status == "queued"
    bench.until(lambda: current(task).outcome == "lost (its process is gone)")


def test_the_command_line_runs_and_shows_its_tasks(bench: Bench, installed: Path) -> None:
    bench.method("print('hello')")
    (bench.prefix / "conda-meta").mkdir()
    program = [str(Path(sys.executable).parent / "trainenv"), "--workspace", str(bench.settings.root)]
    variables = os.environ | {"PYTHONPATH": str(installed)}

    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *arguments], capture_output=True, text=True, check=False, **more)

    done = run("train", "probe", "--executor", "process", env=variables)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    (task,) = list_tasks(bench.settings.tasks_dir)
    assert json.loads(run("task", "show", task.id, "--json").stdout)["executor"] == "process"
    refused = run("train", "probe", "--executor", "proces", env=variables)
    assert refused.returncode == 2
    assert "there is no executor 'proces'. Installed are: local, process" in refused.stderr


def test_one_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "broken = json:missing\nwrong = json:JSONDecoder\n"
    (package / "entry_points.txt").write_text(f"[{executor.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TaskError, match="executor 'broken' can't be loaded: json:missing: module 'json' has no"):
        executor.named("broken")
    with pytest.raises(TaskError, match="json:JSONDecoder is no trainenv Executor"):
        executor.named("wrong")
    with pytest.raises(UsageError, match="Installed are: broken, local, wrong"):
        executor.named("slurm")
