"""A kernelspec that the real Jupyter client finds and starts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import start_new_kernel

from tests.conftest import RunCommand, python_here
from trainenv import Workspace
from trainenv.errors import InstallError, TrainenvError


def _pretend(prefix: Path, distribution: str) -> None:
    """Enough of an installed distribution for who looks for its name."""
    folder = prefix / "lib" / f"python{python_here()}" / "site-packages" / f"{distribution}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")


@pytest.fixture
def prefix(workspace: Workspace) -> Path:
    folder = workspace.settings.prefix_of("Chat+Models")
    (folder / "conda-meta").mkdir(parents=True)
    return folder


def test_jupyter_starts_the_kernel_in_the_activated_environment(
    workspace: Workspace, own_home: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter of the tests has ipykernel and lends it to the environment.
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (prefix / "bin" / "python").chmod(0o755)
    _pretend(prefix, "ipykernel")
    environment = workspace.environment("Chat+Models")
    workspace.set_variables(environment, {"WITH": "variable"})
    made = workspace.install_kernel(environment, display_name="Chat models")
    found = KernelSpecManager().get_kernel_spec("trainenv-chat_models")
    assert found.display_name == "Chat models"
    assert Path(found.resource_dir) == made
    monkeypatch.chdir(own_home)
    manager, client = start_new_kernel(startup_timeout=60, kernel_name="trainenv-chat_models")
    try:
        answers: list[str] = []
        code = "import os; print(os.environ['CONDA_PREFIX'], os.environ['WITH'])"
        client.execute_interactive(
            code, timeout=60, output_hook=lambda message: answers.append(message["content"].get("text", ""))
        )
        assert "".join(answers).split() == [str(prefix), "variable"]
        client.execute("import time; print('asleep'); time.sleep(60)")
        while client.get_iopub_msg(timeout=60)["content"].get("text") != "asleep\n":
            pass
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=30)["content"]["ename"] == "KeyboardInterrupt"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_an_environment_without_ipykernel_is_told_what_to_install(workspace: Workspace, prefix: Path) -> None:
    with pytest.raises(InstallError, match="no ipykernel") as caught:
        workspace.install_kernel(workspace.environment("Chat+Models"))
    assert "trainenv pip install -n Chat+Models ipykernel" in str(caught.value)


def test_the_command_adds_and_removes_it(
    workspace: Workspace, prefix: Path, trainenv: RunCommand, tmp_path: Path
) -> None:
    _pretend(prefix, "ipykernel")
    jupyter = tmp_path / "jupyter"
    arguments = ["env", "kernel", "-n", "Chat+Models", "--prefix", str(jupyter)]
    assert trainenv(workspace, *arguments).returncode == 0
    assert trainenv(workspace, *arguments, "--display-name", "second").returncode == 0
    kernel = jupyter / "share" / "jupyter" / "kernels" / "trainenv-chat_models"
    assert json.loads((kernel / "kernel.json").read_text())["display_name"] == "second"
    assert os.listdir(kernel.parent) == [kernel.name]
    assert trainenv(workspace, *arguments, "--remove").returncode == 0
    assert not kernel.exists()
    again = trainenv(workspace, *arguments, "--remove")
    assert again.returncode == 1
    assert "has no kernel" in again.stderr


def test_two_environments_do_not_take_each_others_kernel(workspace: Workspace, prefix: Path) -> None:
    other = workspace.settings.prefix_of("chat_models")
    (other / "conda-meta").mkdir(parents=True)
    for folder in (prefix, other):
        _pretend(folder, "ipykernel")
    workspace.install_kernel(workspace.environment("Chat+Models"))
    with pytest.raises(TrainenvError, match="there already"):
        workspace.install_kernel(workspace.environment("chat_models"))


def _shown(kernel: Path) -> tuple[str, str]:
    """What a kernel is shown as, and the environment that it starts in."""
    content = json.loads((kernel / "kernel.json").read_text())
    return content["display_name"], content["metadata"]["trainenv"]["prefix"]


def test_a_removed_environment_takes_its_own_kernel_along_and_no_other(
    workspace: Workspace, prefix: Path, trainenv: RunCommand
) -> None:
    _pretend(prefix, "ipykernel")
    made = workspace.install_kernel(workspace.environment("Chat+Models"))
    others = []
    theirs = {"theirs": {"argv": ["python"]}, "another": {"metadata": {"trainenv": {"prefix": "/x"}}}}
    for name, content in theirs.items():
        others.append(made.parent / name / "kernel.json")
        others[-1].parent.mkdir()
        others[-1].write_text(json.dumps(content))
    done = trainenv(workspace, "env", "remove", "Chat+Models", "-y")
    assert done.returncode == 0, done.stderr
    assert "kernel trainenv-chat_models went with it" in done.stderr
    assert not made.exists()
    assert all(other.is_file() for other in others)


@pytest.mark.parametrize("shown", [None, "Our models"])
def test_a_renamed_environment_keeps_its_kernel(
    shown: str | None, workspace: Workspace, prefix: Path, trainenv: RunCommand
) -> None:
    _pretend(prefix, "ipykernel")
    made = workspace.install_kernel(workspace.environment("Chat+Models"), display_name=shown)
    done = trainenv(workspace, "env", "rename", "Chat+Models", "new")
    assert done.returncode == 0, done.stderr
    assert "kernel is trainenv-new now" in done.stderr
    assert not made.exists()
    name, started = _shown(made.with_name("trainenv-new"))
    assert started == str(workspace.settings.prefix_of("new"))
    assert name == (shown or "Python (new)")
    assert "new" in KernelSpecManager().get_kernel_spec("trainenv-new").argv
