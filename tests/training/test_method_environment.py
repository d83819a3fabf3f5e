"""Environments that a file beside the method describes: made once, by whoever comes first."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunCommand, program, python_here
from trainenv import Workspace
from trainenv.errors import EnvironmentNotFoundError, MethodError, SpecificationError
from trainenv.training.method_environment import name_for


def make_method(place: Workspace, yaml: str, name: str = "probe", **files: str) -> Path:
    folder = place.settings.methods_dir / name
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("import greeter, sys; print(sys.prefix)")
    (folder / "method.yaml").write_text(f"file: train.py\n{yaml}")
    for file, content in files.items():
        (folder / file.replace("__", ".")).write_text(content)
    return folder


SPECIFICATION = f"name: talk\ndependencies: [python={python_here()}, pip: [greeter<2]]\n"


def test_it_is_made_once_and_shared(workspace: Workspace, wheels: Path, trainenv: RunCommand) -> None:
    make_method(workspace, "conda_env: environment.yml\n", environment__yml=SPECIFICATION)
    make_method(workspace, "conda_env: ./environment.yml\n", "other", environment__yml=SPECIFICATION)
    assert workspace.validate("probe") == []
    go = workspace.settings.root / "go"
    until_told = f"import greeter, os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
    for name in ("probe", "other"):
        (workspace.settings.methods_dir / name / "train.py").write_text(until_told)
    racing = [
        subprocess.Popen(
            program(workspace, "train", name, "--detach", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("probe", "other", "probe", "other")
    ]
    tasks = []
    for process in racing:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "waiting for task" not in err
        tasks.append(json.loads(out))
    go.touch()
    assert {workspace.task(task["id"]).wait().status for task in tasks} == {"done"}
    (made,) = workspace.environments()
    assert made.name.startswith("talk-") and {task["conda_env"] for task in tasks} == {made.name}
    assert workspace.methods_naming(made.name) == ["other", "probe"]
    before = made.prefix.stat().st_ino
    assert workspace.train("probe").status == "done"
    assert made.prefix.stat().st_ino == before


def test_another_content_is_another_environment(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("-r more.txt\n")
    (tmp_path / "more.txt").write_text("greeter\n")
    name = name_for(file)
    assert name.startswith("requirements-") and name == name_for(file)
    (tmp_path / "more.txt").write_text("greeter==1.0\n-r requirements.txt\n")
    assert name_for(file) != name


def test_what_is_not_there_is_said_with_what_makes_it(workspace: Workspace) -> None:
    folder = make_method(workspace, "conda_env: absent\n", requirements__txt="greeter\n")
    with pytest.raises(
        EnvironmentNotFoundError, match=f"Make it: trainenv create -n absent -f {folder}/requirements.txt"
    ):
        workspace.train("probe")
    make_method(workspace, "conda_env: missing.yml\n", "second")
    with pytest.raises(MethodError, match=r"missing\.yml can't be read"):
        workspace.train("second")
    assert "missing.yml can't be read" in workspace.validate("second")[0]
    make_method(workspace, "conda_env: pixi.lock\n", "third", pixi__lock="{{{")
    with pytest.raises(SpecificationError):
        workspace.train("third")
    assert workspace.environments() == [] and workspace.tasks() == []


def test_paths_in_the_file_begin_where_it_lies(
    workspace: Workspace, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = "./greeter-1.0-py3-none-any.whl\n"
    folder = make_method(workspace, "conda_env: requirements.txt\n", requirements__txt=requirements)
    (folder / "greeter-1.0-py3-none-any.whl").write_bytes((wheels / "greeter-1.0-py3-none-any.whl").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert workspace.train("probe").status == "done"
