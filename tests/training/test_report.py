"""``from trainenv_report import report``: in tasks, in old Pythons, and without trainenv."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trainenv.training
from trainenv.training import metrics
from trainenv.training.run import wait

if TYPE_CHECKING:
    from tests.training.conftest import Bench

IMPORTABLE = Path(trainenv.training.__file__).parent / "importable"


def test_it_is_there_in_every_task(bench: Bench) -> None:
    task = wait(
        bench.start(
            """
            from trainenv_report import report

            report(step=1, loss=0.5)
            print("  5%|#", end="")
            report({"val/loss": float("nan")}, step=2, note="diverged")
            """
        )
    )
    assert task.status == "done", task.log_file.read_text()
    assert metrics.read(str(task.metrics_file)) == [{"step": 1, "loss": 0.5}, {"val/loss": None, "step": 2}]


def test_a_python_path_stays_before_it(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("name = 'own'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    task = wait(bench.start("import own, trainenv_report, sys; print(own.name)"))
    assert task.log_file.read_text() == "own\n"


def test_nothing_but_it_is_in_reach(bench: Bench) -> None:
    assert {file.name for file in IMPORTABLE.glob("*.py")} == {"trainenv_report.py"}
    task = wait(bench.start("import trainenv"))
    assert "No module named 'trainenv'" in task.log_file.read_text()


def run(code: str, python: str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    code = f"from trainenv_report import report\n{code}"
    variables = {"PYTHONPATH": str(IMPORTABLE), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run([python, "-c", code], env=variables, capture_output=True, text=True, check=False)


def test_without_trainenv_it_prints() -> None:
    assert run("report(step=1, loss=0.5)").stdout == '[log_data]: {"step": 1, "loss": 0.5}\n'


def test_of_processes_that_train_together_the_first_reports() -> None:
    assert run("report(loss=0.5)", RANK="1").stdout == ""
    assert run("report(loss=0.5)", RANK="0").stdout != ""


def test_numbers_of_libraries_are_taken_and_others_refused() -> None:
    numpy = "class Number:\n    def item(self): return 0.5\n"
    assert run(f"{numpy}report(loss=Number())").stdout == '[log_data]: {"loss": 0.5}\n'
    assert "TypeError: losses: [1, 2] is not a number" in run("report(losses=[1, 2])").stderr


def test_it_needs_no_newer_python_than_3_6() -> None:
    import ast

    source = (IMPORTABLE / "trainenv_report.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"json", "os", "sys"}
