"""What is offered on Tab. The shells' own part is in test_init; here is the program's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import MakePrefix
from tests.conftest import RunCommand
from trainenv import Workspace


def _offered(place: Workspace, *words: str) -> list[str]:
    variables = os.environ | {"_TRAINENV_COMPLETE": "\x1f".join(words), "TRAINENV_HOME": str(place.settings.root)}
    command = [sys.executable, "-m", "trainenv"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    rows = [line.split("\t") for line in done.stdout.splitlines() if line]
    return [value if kind == "plain" else kind for kind, value, _ in rows]


@pytest.fixture(autouse=True)
def places(workspace: Workspace, make_prefix: MakePrefix) -> None:
    make_prefix("chat_a")
    make_prefix("chat_b")
    make_prefix("vision")
    (workspace.settings.envs_dir / "no_environment").mkdir()
    for name in ("sft", "lora"):
        folder = workspace.settings.methods_dir / name
        folder.mkdir(parents=True)
        (folder / "method.yaml").write_text(f"name: {name}\n")
    for name in ("20260101-000000-aaaaaa", "20260102-000000-bbbbbb"):
        folder = workspace.settings.tasks_dir / name
        folder.mkdir(parents=True)
        (folder / "task.json").touch()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["activate", "ch"], ["chat_a", "chat_b"]),
        (["activate", ""], ["chat_a", "chat_b", "vision"]),
        (["shell", "-n", "v"], ["vision"]),
        (["list", "-n", "'chat"], ["chat_a", "chat_b"]),
        (["env", "vars", "set", "-n", "v"], ["vision"]),
        (["env", "kernel", "--name", "v"], ["vision"]),
        (["env", "show", "v"], ["vision"]),
        (["env", "verify", "v"], ["vision"]),
        (["env", "remove", "v"], ["vision"]),
        (["run", "-n", "ch"], ["chat_a", "chat_b"]),
        (["run", "-n", "vision", "pr"], ["prog"]),
        (["run", "-n", "vision", "prog", "fi"], ["file"]),
        (["run", "--cwd", ""], ["dir"]),
        (["run", "--cwd", "/", "-n", "vision", "./x"], ["file"]),
        (["activate", "-p", "/o"], ["dir"]),
        (["train", ""], ["lora", "sft"]),
        (["method", "show", "s"], ["sft"]),
        (["task", "show", "2026"], ["20260102-000000-bbbbbb", "20260101-000000-aaaaaa"]),
        (["task", "compare", "20260101-000000-aaaaaa", "20260102"], ["20260102-000000-bbbbbb"]),
        (["init", ""], ["bash", "zsh", "fish"]),
        (["deact"], ["deactivate"]),
        (["env", "va"], ["vars"]),
    ],
)
def test_names_that_fit_are_offered(workspace: Workspace, words: list[str], offered: list[str]) -> None:
    assert _offered(workspace, *words) == offered


def test_options_of_run_are_offered_though_run_reads_them_itself(workspace: Workspace) -> None:
    assert {"-n", "--name", "--prefix", "--cwd"} <= set(_offered(workspace, "run", "-"))
    assert "--shell" in _offered(workspace, "activate", "--s")


def test_another_workspace_on_the_line_is_the_one_that_counts(workspace: Workspace, make_workspace: object) -> None:
    root = str(workspace.settings.root)
    variables = os.environ | {"_TRAINENV_COMPLETE": f"--workspace\x1f{root}\x1factivate\x1fv"}
    done = subprocess.run(
        [sys.executable, "-m", "trainenv"], env=variables, capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout == "plain\tvision\t\n"


def test_a_workspace_that_can_not_be_read_offers_nothing(workspace: Workspace) -> None:
    workspace.settings.file.write_text("= broken")
    variables = os.environ | {"_TRAINENV_COMPLETE": "activate\x1f", "TRAINENV_HOME": str(workspace.settings.root)}
    done = subprocess.run(
        [sys.executable, "-m", "trainenv"], env=variables, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_completion_imports_nothing_heavy(workspace: Workspace, trainenv: RunCommand) -> None:
    code = (
        "import os, sys\n"
        "heavy = {'rich', 'rattler', 'zstandard', 'ruamel'}\n"
        "os._exit = lambda code: print('code', code, sorted(heavy & set(sys.modules)))\n"
        "from trainenv.cli import main\n"
        "main()\n"
    )
    variables = os.environ | {"_TRAINENV_COMPLETE": "activate\x1fv", "TRAINENV_HOME": str(workspace.settings.root)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["plain\tvision\t", "code 0 []"]
