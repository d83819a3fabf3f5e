from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainenv import Workspace, locks
from trainenv.environments import variables
from trainenv.errors import EnvironmentBusyError, EnvironmentNotFoundError, UsageError, VerificationError


@pytest.fixture
def prefix(workspace: Workspace) -> Path:
    folder = workspace.settings.prefix_of("chat")
    (folder / "conda-meta").mkdir(parents=True)
    return folder


def test_what_is_set_is_kept_where_conda_keeps_it(workspace: Workspace, prefix: Path) -> None:
    state = prefix / "conda-meta" / "state"
    state.write_text(json.dumps({"version": 1, "env_vars": {"KEPT": "1"}, "other": [1]}))
    variables.change(workspace.settings, prefix, put={"NEW": "two\nlines 'and' \"quotes\"", "EMPTY": ""})
    assert json.loads(state.read_text()) == {
        "version": 1,
        "env_vars": {"KEPT": "1", "NEW": "two\nlines 'and' \"quotes\"", "EMPTY": ""},
        "other": [1],
    }
    assert variables.own(prefix) == variables.declared(prefix)


def test_unsetting_hides_also_what_packages_bring(workspace: Workspace, prefix: Path) -> None:
    folder = prefix / "etc" / "conda" / "env_vars.d"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"FROM_PACKAGE": "1", "LEFT": "2"}')
    variables.change(workspace.settings, prefix, put={"OWN": "3"})
    variables.change(workspace.settings, prefix, drop=["FROM_PACKAGE", "OWN"])
    assert variables.declared(prefix) == {"LEFT": "2"}
    assert variables.own(prefix) == {}
    variables.change(workspace.settings, prefix, drop=["OWN"])
    variables.change(workspace.settings, prefix, put={"FROM_PACKAGE": "4"})
    assert variables.declared(prefix) == {"LEFT": "2", "FROM_PACKAGE": "4"}


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "PATH", "CONDA_PREFIX_1", "__CONDA_SHLVL_0_A"])
def test_names_that_a_process_or_activation_can_not_have(workspace: Workspace, prefix: Path, name: str) -> None:
    with pytest.raises(UsageError):
        variables.change(workspace.settings, prefix, put={"GOOD": "1", name: "x"})
    assert variables.own(prefix) == {}


def test_a_name_that_was_never_set_is_said(workspace: Workspace, prefix: Path) -> None:
    with pytest.raises(UsageError, match="TYPO"):
        variables.change(workspace.settings, prefix, drop=["TYPO"])


def test_an_environment_in_use_or_gone_is_not_changed(workspace: Workspace, prefix: Path) -> None:
    held = locks.shared(workspace.settings, "chat")
    assert held is not None
    with pytest.raises(EnvironmentBusyError):
        variables.change(workspace.settings, prefix, put={"A": "1"})
    os.close(held)
    variables.change(workspace.settings, prefix, put={"A": "1"})
    gone = workspace.settings.prefix_of("gone")
    with pytest.raises(EnvironmentNotFoundError):
        variables.change(workspace.settings, gone, put={"A": "1"})
    assert not gone.exists()


def test_a_state_that_can_not_be_read_is_not_overwritten(workspace: Workspace, prefix: Path) -> None:
    state = prefix / "conda-meta" / "state"
    for content in ("{ broken", "[1]"):
        state.write_text(content)
        with pytest.raises(VerificationError):
            variables.change(workspace.settings, prefix, put={"A": "1"})
        assert state.read_text() == content
        assert variables.declared(prefix) == {}


def test_a_linked_clone_keeps_its_own(workspace: Workspace, prefix: Path) -> None:
    variables.change(workspace.settings, prefix, put={"A": "1"})
    linked = prefix.parent / "state-of-clone"
    os.link(prefix / "conda-meta" / "state", linked)
    before = linked.read_bytes()
    variables.change(workspace.settings, prefix, put={"A": "2"})
    assert linked.read_bytes() == before


def test_run_and_tasks_have_them(workspace: Workspace, prefix: Path) -> None:
    workspace.set_variables(workspace.environment("chat"), {"WITH": "two\nlines"})
    command = [sys.executable, "-m", "trainenv", "--workspace", str(workspace.settings.root)]
    command += ["run", "-n", "chat", sys.executable, "-c", "import os; print(repr(os.environ['WITH']))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "'two\\nlines'\n"
