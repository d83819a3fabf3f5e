"""Environments that conda, mamba or another workspace made: listed, and usable by name as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCommand, python_here
from tests.environments.test_copies import make_conda_prefix
from trainenv import EnvironmentNotFoundError, Workspace
from trainenv.environments import registry
from trainenv.environments.ownership import snapshot


@pytest.fixture
def listed(own_home: Path, tmp_path: Path) -> Path:
    """An environment of conda's that stands in its list only."""
    prefix = make_conda_prefix(tmp_path / "somewhere/listed")
    (own_home / ".conda").mkdir()
    (own_home / ".conda/environments.txt").write_text(f"{prefix}\n{tmp_path}/gone\n")
    return prefix


@pytest.fixture
def in_envs_dir(own_home: Path, tmp_path: Path) -> Path:
    """An environment in a folder that .condarc names."""
    prefix = make_conda_prefix(tmp_path / "conda-envs/by-folder")
    (own_home / ".condarc").write_text(f"envs_dirs:\n  - {prefix.parent}\n")
    return prefix


def test_condas_environments_are_listed_and_marked(
    workspace: Workspace, listed: Path, in_envs_dir: Path, trainenv: RunCommand
) -> None:
    workspace.create("mine", f"python={python_here()}")
    done = trainenv(workspace, "env", "list", "--json")
    shown = [(item["name"], item["prefix"], item["foreign"]) for item in json.loads(done.stdout)]
    assert shown == [
        ("mine", str(workspace.settings.prefix_of("mine")), False),
        ("by-folder", str(in_envs_dir), True),
        ("listed", str(listed), True),
    ]
    table = trainenv(workspace, "env", "list").stdout
    assert "not of this workspace" in next(line for line in table.splitlines() if "by-folder" in line)
    assert "not of this workspace" not in next(line for line in table.splitlines() if "mine" in line)


def test_they_are_used_by_name_as_they_are(
    workspace: Workspace, listed: Path, tmp_path: Path, trainenv: RunCommand
) -> None:
    before = snapshot(listed)
    assert trainenv(workspace, "run", "-n", "listed", "hello").stdout == f"{listed}\n"
    packages = json.loads(trainenv(workspace, "list", "-n", "listed", "--json").stdout)
    assert [(item["name"], item["channel"]) for item in packages] == [("hello", "main")]
    verified = trainenv(workspace, "env", "verify", "listed")
    assert verified.returncode == 0, verified.stderr
    packed = trainenv(workspace, "pack", "-n", "listed", "-o", str(tmp_path / "listed.tar.zst"))
    assert packed.returncode == 0, packed.stderr
    assert snapshot(listed) == before
    unpacked = workspace.unpack(tmp_path / "listed.tar.zst", "again")
    assert workspace.verify(unpacked, old_prefixes=[str(listed)]).problems == []


@pytest.mark.parametrize(
    "command",
    [
        ("install", "-n", "listed", "python", "-y"),
        ("env", "repair", "listed"),
        ("env", "rename", "listed", "new"),
        ("env", "remove", "listed", "-y"),
    ],
)
def test_they_are_not_changed(
    workspace: Workspace, listed: Path, trainenv: RunCommand, command: tuple[str, ...]
) -> None:
    before = snapshot(listed)
    done = trainenv(workspace, *command)
    assert done.returncode == 1
    assert str(listed) in done.stderr
    assert "trainenv env clone listed -n NEW" in done.stderr
    assert snapshot(listed) == before


def test_the_workspaces_own_win(workspace: Workspace, own_home: Path, tmp_path: Path) -> None:
    foreign = make_conda_prefix(tmp_path / "elsewhere/chat")
    registry.register(foreign)
    assert workspace.environment("chat").prefix == foreign
    made = workspace.create("chat", f"python={python_here()}")
    assert workspace.environment("chat") == made
    assert [item.prefix for item in workspace.environments(foreign=True)] == [made.prefix, foreign]


def test_a_base_installation_is_called_base(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_conda_prefix(tmp_path / "miniforge3")
    (base / "condabin").mkdir()
    make_conda_prefix(base / "envs/old")
    monkeypatch.setenv("CONDA_EXE", str(base / "bin/conda"))
    found = {item.name: item.prefix for item in workspace.environments(foreign=True)}
    assert found == {"base": base, "old": base / "envs/old"}


def test_a_name_that_nobody_has_is_refused_with_the_nearest(workspace: Workspace, listed: Path) -> None:
    with pytest.raises(EnvironmentNotFoundError, match="Did you mean 'listed'"):
        workspace.environment("lisded")


def test_a_broken_condarc_hides_nothing_else(workspace: Workspace, listed: Path, own_home: Path) -> None:
    (own_home / ".condarc").write_text("envs_dirs: [unclosed\n")
    assert [item.name for item in workspace.environments(foreign=True)] == ["listed"]


def test_conda_sees_what_trainenv_made(workspace: Workspace) -> None:
    """conda's on-disk contract: a history, a record for each package, and a line in its list."""
    made = workspace.create("mine", f"python={python_here()}")
    assert registry.prefixes() == [made.prefix]
    assert (made.prefix / "conda-meta/history").read_text().startswith("==> ")
    for file in (made.prefix / "conda-meta").glob("*.json"):
        record = json.loads(file.read_text())
        assert file.name == f"{record['name']}-{record['version']}-{record['build']}.json"
        assert {"build_number", "channel", "depends", "files", "fn", "link", "subdir", "url"} <= record.keys()
        assert all((made.prefix / path).exists() for path in record["files"])
