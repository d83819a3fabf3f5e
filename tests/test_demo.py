"""The whole journey, as a user sees it: its own exit code says whether everything held."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import RunCommand
from trainenv import Workspace


def test_the_demo_makes_the_whole_journey(trainenv: RunCommand, tmp_path: Path) -> None:
    done = trainenv(None, "demo", "--folder", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "demo"
    assert (folder / "metrics.png").read_bytes().startswith(b"\x89PNG")
    a = Workspace(folder / "machine_a")
    [b_root] = [path.parent for path in (folder / "machine_b").rglob("trainenv.toml")]
    b = Workspace(b_root)
    assert [item.name for item in a.environments()] == ["modern_env"]
    assert [item.name for item in b.environments()] == ["tabular_env_on_b"]
    first = next(task for task in a.tasks() if task.conda_env == "tabular_env")
    [again] = b.tasks()
    assert again.parameters == first.parameters
    records = [json.loads(line) for line in again.metrics_file.read_text().splitlines()]
    assert len(records) > 10
    assert records == [json.loads(line) for line in first.metrics_file.read_text().splitlines()]
    for name in ("tabular_env", "modern_env", "tabular_env_on_b", str(folder / "metrics.png")):
        assert name in done.stdout
