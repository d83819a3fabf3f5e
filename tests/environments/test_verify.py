"""What ``env verify`` says of an environment, beyond what repair is tested with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import Workspace
from trainenv.environments.environment import Environment
from trainenv.environments.verify import verify
from trainenv.progress import SilentReporter

SITE = f"lib/python{python_here()}/site-packages"


@pytest.fixture
def made(workspace: Workspace, wheels: Path, tmp_path: Path) -> Environment:
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    return workspace.create("chat", f"python={python_here()}", files=[file])


def test_unknown_files_are_listed_and_no_failure(workspace: Workspace, made: Environment, trainenv: RunCommand) -> None:
    (made.prefix / "share").mkdir(exist_ok=True)
    (made.prefix / "share/notes.txt").write_text("mine")
    (made.prefix / SITE / "mine.py").write_text("")
    subprocess.run([made.prefix / "bin/python", "-c", "import mine, greeter, json.tool"], check=True)
    done = trainenv(workspace, "env", "verify", "chat", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["unknown"] == [f"{SITE}/mine.py", "share/notes.txt"]
    assert found["problems"] == []
    assert found["files"] > 1000
    assert "2 files belong to no package" in trainenv(workspace, "env", "verify", "chat").stdout


def test_imports_only_on_request(workspace: Workspace, made: Environment, trainenv: RunCommand) -> None:
    (made.prefix / SITE / "greeter/__init__.py").unlink()
    (made.prefix / SITE / "greeter/__init__.py").write_text(
        "def main():\n    import sys\n    print('hello from', sys.prefix)\n"
    )
    module = made.prefix / SITE / "needs_greeter/__init__.py"
    text = module.read_text()
    module.unlink()
    module.write_text("import greeter\n" + text + "raise OSError('no GPU')\n")
    quick = trainenv(workspace, "env", "verify", "chat", "--json")
    assert [line for line in json.loads(quick.stdout)["problems"] if "imported" in line] == []
    slow = trainenv(workspace, "env", "verify", "chat", "--imports")
    assert slow.returncode == 1
    assert "module needs_greeter can't be imported: OSError: no GPU" in slow.stderr
    assert "trainenv env repair chat" in slow.stderr
    shared = {
        str(file.relative_to(made.prefix))
        for file in made.prefix.rglob("*")
        if file.is_file() and not file.is_symlink()
    }
    in_part = verify(made, SilentReporter(), proven=shared - {f"{SITE}/greeter/__init__.py"})
    assert in_part.imported == []
    assert in_part.problems == []
    assert in_part.files == verify(made, SilentReporter(), imports=False).files
    in_part = verify(made, SilentReporter(), proven=shared - {f"{SITE}/needs_greeter/__init__.py"})
    assert [line.split(" ")[0] for line in in_part.problems] == [f"{SITE}/needs_greeter/__init__.py", "module"]


def test_another_users_pip_is_no_damage(workspace: Workspace, made: Environment, wheels: Path) -> None:
    """pip upgraded and removed packages behind our back: the records say so."""
    support.make_wheel(wheels, "sideways")
    pip = [str(made.prefix / "bin/python"), "-m", "pip"]
    subprocess.run([*pip, "install", "-q", "--no-index", "-f", str(wheels), "sideways", "greeter==2.0"], check=True)
    found = workspace.verify(made)
    assert found.problems == []


def test_what_conda_changed_since_is_believed(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    """conda removes a package: record and files are gone, and the history is newer than the lock."""
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "tool", files={"share/tool.txt": "data\n"})
    support.add_package(channel, "more", files={"share/more.txt": "more\n"})
    place = make_workspace(settings=f'channels = ["{channel}"]')
    made = place.create("tools", "tool", "more")
    (made.prefix / "share/more.txt").unlink()
    (made.prefix / "conda-meta/more-1.0-0.json").unlink()
    assert any("more-1.0-0.json" in line for line in place.verify(made).problems)
    history = made.prefix / "conda-meta/history"
    history.write_text(history.read_text() + "==> 2099-01-01 00:00:00 <==\n-more-1.0-0\n")
    os.utime(history, (4e9, 4e9))
    assert place.verify(made).problems == []


def test_a_folder_that_a_package_lists_is_no_damage(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "tool", files={"share/tool.txt": "data\n"})
    place = make_workspace(settings=f'channels = ["{channel}"]')
    made = place.create("tools", "tool")
    record = made.prefix / "conda-meta/tool-1.0-0.json"
    content = json.loads(record.read_text())
    content["files"].append("share/empty")
    content["paths_data"]["paths"].append({"_path": "share/empty", "path_type": "directory"})
    record.write_text(json.dumps(content))
    (made.prefix / "share/empty").mkdir()
    assert place.verify(made).problems == []
    (made.prefix / "share/empty").rmdir()
    assert place.verify(made).problems == ["share/empty of tool is missing"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "tool"}', "{not json"])
def test_every_broken_record_is_a_problem_and_no_crash(
    workspace: Workspace, made: Environment, trainenv: RunCommand, text: str
) -> None:
    (record,) = (made.prefix / "conda-meta").glob("setuptools-*.json")
    record.write_text(text)
    done = trainenv(workspace, "env", "verify", "chat")
    assert done.returncode == 1
    assert f"conda-meta/{record.name} of setuptools can't be read" in done.stderr
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr
    assert trainenv(workspace, "env", "list").returncode == 0
