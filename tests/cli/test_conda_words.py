"""Who knows conda already knows trainenv: its words do the same here, or say which do."""

from __future__ import annotations

import json

import pytest

from tests import support
from tests.conftest import RunCommand
from trainenv import Workspace


@pytest.fixture
def place(workspace: Workspace) -> Workspace:
    """A workspace with environment ``one`` of two packages."""
    channel = support.make_channel(workspace.settings.root / "channel")
    for name in ("base", "tool"):
        support.add_package(channel, name, files={f"share/{name}.txt": name})
    workspace.settings.file.write_text('channels = ["./channel"]\nhost_fallback = false\n')
    workspace = Workspace(workspace.settings.root)
    workspace.create("one", "base", "tool")
    return workspace


def _names(output: str) -> list[str]:
    return [package["name"] for package in json.loads(output)]


def test_the_active_environment_is_meant_where_none_is_named(
    place: Workspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "name one environment" in trainenv(place, "list").stderr
    assert "none is active in this shell" in trainenv(place, "remove", "tool").stderr
    monkeypatch.setenv("CONDA_PREFIX", str(place.settings.prefix_of("one")))
    assert _names(trainenv(place, "list", "--json").stdout) == ["base", "tool"]
    assert _names(trainenv(place, "list", "^t", "--json").stdout) == ["tool"]
    done = trainenv(place, "remove", "tool", "-y", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert _names(trainenv(place, "list", "--json").stdout) == ["base"]
    assert trainenv(place, "install", "tool").returncode == 0
    assert trainenv(place, "env", "vars", "set", "KEY=value").returncode == 0
    assert "KEY" in trainenv(place, "env", "vars", "list").stdout
    monkeypatch.setenv("CONDA_PREFIX", "/opt/other")
    assert "/opt/other, is not of this workspace" in trainenv(place, "install", "tool").stderr


def test_an_environment_is_never_removed_because_it_is_active(
    place: Workspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", str(place.settings.prefix_of("one")))
    for command in (["env", "remove", "-y"], ["remove", "--all", "-y"]):
        assert trainenv(place, *command).returncode == 2
    assert place.environment("one").status == "ready"


def test_an_environment_is_not_removed_while_it_is_active(
    place: Workspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CONDA_PREFIX_1", "CONDA_PREFIX"):
        monkeypatch.setenv(variable, str(place.settings.prefix_of("one")))
        for command in (["env", "remove", "one", "-y"], ["remove", "-n", "one", "--all", "-y"]):
            done = trainenv(place, *command)
            assert done.returncode == 1
            assert "'one' is active in this shell. `trainenv deactivate` it first" in done.stderr
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CONDA_PREFIX", str(place.settings.prefix_of("one")))
    assert trainenv(place, "env", "remove", "one", "-y", "--force").stdout == "Removed one\n"


def test_remove_all_and_create_clone(place: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(place, "create", "-n", "two", "--clone", "one", "--json")
    assert json.loads(done.stdout)["name"] == "two"
    assert trainenv(place, "create", "-n", "three", "--clone", "one", "base").returncode == 2
    assert trainenv(place, "remove", "-n", "one", "--all", "tool").returncode == 2
    assert trainenv(place, "remove", "-n", "one", "--all", "-y").stdout == "Removed one\n"
    assert [environment.name for environment in place.environments()] == ["two"]


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("env create -f x.yml", "trainenv create -n NAME -f FILE"),
        ("env update -f x.yml", "trainenv install -n NAME -f FILE"),
        ("info", "trainenv doctor"),
        ("config --show", "trainenv.toml"),
        ("compare", "trainenv env diff"),
        ("help", "trainenv --help"),
        ("env lst", "Did you mean 'list'"),
        ("chanel", "Did you mean 'channel'"),
        ("list --export", "Use `trainenv env export`"),
        ("create -p ./here python", "envs_dir in trainenv.toml"),
    ],
)
def test_other_words_are_answered_with_the_ones_to_use(
    place: Workspace, trainenv: RunCommand, words: str, instead: str
) -> None:
    done = trainenv(place, *words.split())
    assert done.returncode == 2
    assert instead in done.stderr
