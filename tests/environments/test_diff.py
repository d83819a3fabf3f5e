from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import Workspace
from trainenv.environments.diff import Change, compare
from trainenv.environments.environment import Environment
from trainenv.environments.records import Package
from trainenv.errors import ArchiveError, EnvironmentNotFoundError, TrainenvError, UsageError

PYTHON = f"python={python_here()}"


def _written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def _told(changes: list[Change]) -> list[tuple[str, str, list[str]]]:
    return [(change.kind, change.name, change.fields) for change in changes]


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    """Two environments: ``old`` holds one 1.0 and two, ``new`` holds one 2.0 and three."""
    channel = support.make_channel(tmp_path / "channel")
    for name, version in (("one", "1.0"), ("one", "2.0"), ("two", "1.0"), ("three", "1.0")):
        support.add_package(channel, name, version)
    place = make_workspace(settings=f'channels = ["{channel}"]')
    place.create("old", "one=1.0", "two")
    place.create("new", "one=2.0", "three")
    return place


CHANGES = [("changed", "one", ["version"]), ("added", "three", []), ("removed", "two", [])]


def test_two_environments_are_compared_by_package(place: Workspace) -> None:
    assert _told(place.diff("old", "new")) == CHANGES
    assert place.diff("old", "old") == []
    assert _told(place.diff(place.environment("old").prefix, "new")) == CHANGES


@pytest.mark.parametrize("format", ["pixi.lock", "explicit"])
def test_an_environment_is_compared_with_a_lock(place: Workspace, tmp_path: Path, format: str) -> None:
    lock = _written(tmp_path, "lock", place.export(place.environment("new"), format))
    assert _told(place.diff("old", lock)) == CHANGES
    assert place.diff(lock, "new") == []


def test_an_environment_is_compared_with_an_archive(place: Workspace, tmp_path: Path) -> None:
    place.pack(place.environment("new"), tmp_path / "new.tar.zst")
    assert _told(place.diff("old", tmp_path / "new.tar.zst")) == CHANGES
    assert place.diff(tmp_path / "new.tar.zst", "new") == []
    with tarfile.open(tmp_path / "as-conda-pack-makes-it.tar", "w") as tar:
        for file in place.environment("new").prefix.iterdir():
            tar.add(file, file.name)
    assert [change.name for change in place.diff("old", tmp_path / "as-conda-pack-makes-it.tar")] == [
        "one",
        "three",
        "two",
    ]
    with pytest.raises(ArchiveError):
        place.diff("old", sys.executable)


@pytest.fixture
def chat(workspace: Workspace, wheels: Path, tmp_path: Path) -> Environment:
    return workspace.create("chat", PYTHON, files=[Path(_written(tmp_path, "r.txt", "greeter<2\n"))])


def test_a_lock_of_one_half_is_compared_with_that_half(workspace: Workspace, chat: Environment, tmp_path: Path) -> None:
    for format in ("explicit", "pylock.toml"):
        lock = _written(tmp_path, "lock", workspace.export(chat, format))
        assert workspace.diff("chat", lock) == []
        assert workspace.diff(lock, "chat") == []
        assert workspace.diff(lock, lock) == []
    half = _written(tmp_path, "other", workspace.export(chat, "explicit"))
    with pytest.raises(UsageError, match="one has conda's packages only, the other PyPI's"):
        workspace.diff(half, lock)


def test_an_environment_is_compared_with_what_was_asked_for(
    workspace: Workspace, chat: Environment, tmp_path: Path
) -> None:
    wanted = _written(
        tmp_path, "requirements.txt", "greeter>=2\nextra\npip\nnever; sys_platform == 'win32'\n-r more.txt\n"
    )
    _written(tmp_path, "more.txt", "setuptools>1\n")
    changes = workspace.diff("chat", wanted)
    assert _told(changes) == [("added", "extra", []), ("changed", "greeter", ["version"])]
    assert changes[1].before is not None
    assert changes[1].after is not None
    assert (changes[1].before.version, changes[1].after.version) == ("1.0", ">=2")
    assert _told(workspace.diff(wanted, "chat")) == [("removed", "extra", []), ("changed", "greeter", ["version"])]
    met = _written(tmp_path, "environment.yml", f"dependencies: ['{PYTHON}', pip, {{pip: ['greeter<2']}}]\n")
    assert workspace.diff("chat", met) == []
    unmet = _written(tmp_path, "environment.yml", "dependencies: ['python<3', numpy]\n")
    assert _told(workspace.diff("chat", unmet)) == [("added", "numpy", []), ("changed", "python", ["version"])]


def test_what_can_not_be_compared_is_told(place: Workspace, tmp_path: Path) -> None:
    wanted = _written(tmp_path, "requirements.txt", "greeter\n")
    with pytest.raises(UsageError, match="with an environment only"):
        place.diff(wanted, wanted)
    with pytest.raises(EnvironmentNotFoundError, match="'none'"):
        place.diff("old", "none")
    with pytest.raises(TrainenvError, match="No such file"):
        place.diff("old", tmp_path / "none.txt")


def test_the_command_says_so_by_table_json_and_exit_code(place: Workspace, trainenv: RunCommand) -> None:
    differ = trainenv(place, "env", "diff", "old", "new")
    assert differ.returncode == 1
    assert [line.split() for line in differ.stdout.splitlines()[1:]] == [
        ["changed", "one", "1.0", "0", "channel", "2.0", "0", "channel"],
        ["added", "three", "1.0", "0", "channel"],
        ["removed", "two", "1.0", "0", "channel"],
    ]
    as_json = trainenv(place, "env", "diff", "old", "new", "--json")
    assert [entry["change"] for entry in json.loads(as_json.stdout)] == ["changed", "added", "removed"]
    assert json.loads(as_json.stdout)[0]["after"]["version"] == "2.0"
    same = trainenv(place, "env", "diff", "old", "old", "--json")
    assert (same.returncode, json.loads(same.stdout)) == (0, [])
    assert trainenv(place, "env", "diff", "old", "none").returncode == 1


_PACKAGES = st.lists(
    st.builds(
        Package,
        st.sampled_from(["one", "two", "three", "four"]),
        st.sampled_from(["1.0", "2.0"]),
        st.sampled_from(["0", "pypi"]),
        st.sampled_from(["", "main", "other"]),
    ),
    unique_by=lambda package: package.name,
)


@given(_PACKAGES, _PACKAGES)
def test_the_way_back_undoes_the_way_there(before: list[Package], after: list[Package]) -> None:
    there, back = compare(before, after), compare(after, before)
    assert [(change.name, change.after, change.before, change.fields) for change in there] == [
        (change.name, change.before, change.after, change.fields) for change in back
    ]
    assert compare(before, before) == []
    assert {change.name for change in there if change.kind == "added"} == {package.name for package in after} - {
        package.name for package in before
    }
