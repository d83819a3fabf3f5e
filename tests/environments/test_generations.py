"""A change can be taken back: the state before it is kept, swapped in at once, and removed with the environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand
from trainenv import EnvironmentNotFoundError, SolveError, UsageError, Workspace
from trainenv.environments import generations, staging
from trainenv.environments.ownership import snapshot

Contents = dict[str, tuple[int, bytes]]


def contents(prefix: Path) -> Contents:
    """Mode and bytes of everything in ``prefix``."""
    found = {}
    for path in snapshot(prefix):
        file = prefix / path
        data = os.fsencode(os.readlink(file)) if file.is_symlink() else file.read_bytes()
        found[path] = (file.lstat().st_mode, data)
    return found


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    for name in ("one", "two", "three", "four"):
        support.add_package(folder, name, prefix_files={f"etc/{name}.conf": "root = @PREFIX@\n"})
    return folder


@pytest.fixture
def place(make_workspace: MakeWorkspace, channel: Path) -> Workspace:
    return make_workspace(settings=f'channels = ["{channel}"]\ngenerations = 3')


def _names(place: Workspace) -> list[str]:
    return [package.name for package in place.environment("data").packages]


def _kept(place: Workspace) -> list[int]:
    return [item.number for item in place.generations("data") if not item.is_present]


def test_a_rollback_goes_back_and_a_second_one_forward_byte_for_byte(place: Workspace) -> None:
    prefix = place.create("data", "one").prefix
    before = contents(prefix)
    place.install("data", "two")
    after = contents(prefix)
    place.rollback("data")
    assert contents(prefix) == before
    assert place.verify(place.environment("data")).problems == []
    place.rollback("data")
    assert contents(prefix) == after
    assert place.verify(place.environment("data")).problems == []


def test_each_state_has_its_number_and_can_be_had(place: Workspace) -> None:
    place.create("data", "one")
    place.install("data", "two")
    place.install("data", "three")
    shown = place.generations("data")
    assert [(item.number, item.is_present) for item in shown] == [(3, True), (2, False), (1, False)]
    assert [(change.name, change.kind) for change in shown[2].changes] == [("three", "removed"), ("two", "removed")]
    place.rollback("data", to=1)
    assert _names(place) == ["one"]
    place.rollback("data")
    assert _names(place) == ["one", "three", "two"], "back to where the last rollback came from"
    place.rollback("data", to=2)
    place.install("data", "four")
    assert _names(place) == ["four", "one", "two"]
    assert _kept(place) == [3, 2, 1]
    place.rollback("data")
    assert _names(place) == ["one", "two"], "the state before the last change, not the highest number"


def test_no_more_are_kept_than_the_settings_say(make_workspace: MakeWorkspace, channel: Path) -> None:
    kept = {}
    for count in (0, 1, 2):
        place = make_workspace(f"w{count}", f'channels = ["{channel}"]\ngenerations = {count}')
        place.create("data", "one")
        for name in ("two", "three", "four"):
            place.install("data", name)
        kept[count] = _kept(place)
    assert kept == {0: [], 1: [3], 2: [3, 2]}


def test_one_is_kept_unless_the_settings_say_otherwise(make_workspace: MakeWorkspace, channel: Path) -> None:
    place = make_workspace(settings=f'channels = ["{channel}"]')
    assert place.settings.generations == 1
    with pytest.raises(UsageError, match="generations"):
        make_workspace("wrong", "generations = -1")


def test_there_may_be_nothing_to_go_back_to(place: Workspace) -> None:
    place.create("data", "one")
    with pytest.raises(EnvironmentNotFoundError, match="not changed since it was made"):
        place.rollback("data")
    with pytest.raises(EnvironmentNotFoundError, match="no environment 'none'"):
        place.rollback("none")
    place.install("data", "two")
    with pytest.raises(EnvironmentNotFoundError, match=r"no state 7 .* Kept are: 1"):
        place.rollback("data", to=7)
    with pytest.raises(EnvironmentNotFoundError, match="is in state 2 already"):
        place.rollback("data", to=2)


def test_what_changes_no_package_is_no_state(place: Workspace) -> None:
    place.create("data", "one")
    place.install("data", "two")
    place.install("data", "two=1.0", "one")
    assert _kept(place) == [1]
    note = json.loads((place.environment("data").prefix / "conda-meta/trainenv/environment.json").read_text())
    assert note["specs"] == ["two=1.0", "one"], "it is noted all the same"
    place.rollback("data")
    assert _names(place) == ["one"]


def test_a_failed_change_is_no_state(place: Workspace) -> None:
    place.create("data", "one")
    place.install("data", "two")
    with pytest.raises(SolveError):
        place.install("data", "no-such-package")
    assert _kept(place) == [1]
    place.rollback("data")
    assert _names(place) == ["one"]


def test_former_states_go_with_the_environment(place: Workspace) -> None:
    place.create("data", "one")
    place.install("data", "two")
    place.remove("data")
    assert not generations.kept_in(place.settings, "data").exists()
    place.create("data", "three")
    assert _kept(place) == []


def test_states_left_by_a_killed_removal_are_not_another_environments(place: Workspace) -> None:
    place.create("data", "one")
    place.install("data", "two")
    subprocess.run(["rm", "-rf", place.settings.prefix_of("data")], check=True)
    place.create("data", "three")
    assert _kept(place) == []


def test_a_swap_that_was_cut_off_right_after_it_keeps_its_state(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.create("data", "one")
    with monkeypatch.context() as patch:
        patch.setattr(generations, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(staging, "remove_tree", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            place.install("data", "two")
    assert _names(place) == ["one", "two"]
    place.create("other", "three")
    assert _kept(place) == [1], "the next command has put the former state where it belongs"
    place.rollback("data")
    assert _names(place) == ["one"]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_rollback_in_three_renames_cut_off_between_them_is_healed(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    place.create("data", "one")
    place.install("data", "two")
    monkeypatch.setattr(generations, "_RENAME_EXCHANGE", 1 << 20)
    done: list[None] = []
    rename = os.rename

    def cut_off(source: Path, target: Path) -> None:
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(None)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut_off)
        with pytest.raises(KeyboardInterrupt):
            place.rollback("data")
    place.create("other", "three")
    assert _names(place) == (["one", "two"] if steps == 1 else ["one"])
    assert len(_kept(place)) == 1
    place.rollback("data")
    assert _names(place) == (["one"] if steps == 1 else ["one", "two"])


def test_the_command_line_shows_and_rolls_back(place: Workspace, trainenv: RunCommand) -> None:
    place.create("data", "one")
    place.install("data", "two")
    shown = json.loads(trainenv(place, "env", "generations", "data", "--json").stdout)
    assert [(item["number"], item["present"]) for item in shown] == [(2, True), (1, False)]
    assert [item["name"] for item in shown[1]["changes"]] == ["two"]
    done = trainenv(place, "env", "generations", "data")
    assert "two" in done.stdout
    done = trainenv(place, "env", "rollback", "data")
    assert done.returncode == 0, done.stderr
    assert "state 1" in done.stdout
    assert _names(place) == ["one"]
    done = trainenv(place, "env", "rollback", "data", "--to", "2")
    assert _names(place) == ["one", "two"]
    assert json.loads(trainenv(place, "env", "show", "data", "--json").stdout)["generations"] == [2, 1]
