"""What was asked for stays in force, and what is installed stays as it is, whatever became of where it came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, python_here
from trainenv import SolveError, Workspace
from trainenv.environments.records import read_note

PYTHON = f"python={python_here()}"


@pytest.fixture
def place(workspace: Workspace, wheels: Path) -> Workspace:
    """A workspace with environment ``chat`` of Python alone, and an index with ``greeter`` 1.0, 2.0 and 3.0rc1."""
    support.make_wheel(wheels, "greeter", "3.0rc1")
    workspace.create("chat", PYTHON)
    return workspace


def _versions(place: Workspace) -> dict[str, str]:
    return {package.name: package.version for package in place.environment("chat").packages}


def _requested(place: Workspace) -> list[str]:
    found = read_note(place.environment("chat").prefix, "environment.json")["requested"]
    assert isinstance(found, list)
    return found


def test_a_version_that_was_asked_for_is_kept_until_it_is_asked_for_anew(place: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "needs_new", requires=["greeter>=2"])
    place.install("chat", requirements=["greeter<2", "needs_greeter; python_version > '3'"])
    assert _requested(place) == ["greeter<2", 'needs_greeter; python_version > "3"']
    place.update("chat")
    assert _versions(place)["greeter"] == "1.0"
    with pytest.raises(SolveError) as error:
        place.install("chat", requirements=["needs_new"])
    assert "you asked for greeter<2 earlier" in error.value.details
    assert "ask for it anew" in error.value.hint
    with pytest.raises(SolveError) as error:
        place.install("chat", requirements=["greeter>=2"])
    assert "needs-greeter needs greeter<2" in error.value.details
    place.remove_packages("chat", "needs_greeter")
    place.install("chat", requirements=["needs_new", "greeter>=2"])
    assert _versions(place)["greeter"] == "2.0"
    assert _requested(place) == ["greeter>=2", "needs_new"]


def test_a_version_before_its_release_stays_and_is_no_reason_to_go_back(place: Workspace, wheels: Path) -> None:
    place.install("chat", requirements=["greeter==3.0rc1"])
    place.install("chat", requirements=["greeter>=2.5rc1"])
    support.make_wheel(wheels, "other")
    place.install("chat", requirements=["other"])
    assert _versions(place)["greeter"] == "3.0rc1"
    place.update("chat", "greeter")
    assert _versions(place)["greeter"] == "3.0rc1"


def test_no_update_goes_back_to_make_another_one_newer(place: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "low", "1.0")
    support.make_wheel(wheels, "high", "1.0", requires=["low<2"])
    support.make_wheel(wheels, "high", "0.9", requires=["low"])
    support.make_wheel(wheels, "high", "1.0rc1", requires=["low"])
    place.install("chat", requirements=["high"])
    support.make_wheel(wheels, "low", "2.0")
    place.update("chat")
    assert (_versions(place)["high"], _versions(place)["low"]) == ("1.0", "1.0")
    place.install("chat", requirements=["high<1", "low"], upgrade=True)
    assert (_versions(place)["high"], _versions(place)["low"]) == ("0.9", "2.0"), "unless one asks for it"


def test_what_no_index_has_any_more_stays_as_it_is(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for version in ("1.0", "0.5"):
        support.make_wheel(elsewhere, "rare", version)
    place.install("chat", requirements=[f"--find-links {elsewhere}", "rare"])
    lock = place.environment("chat").prefix / "conda-meta/trainenv/pixi.lock"
    line = f"file://{elsewhere}/rare-1.0-py3-none-any.whl"
    (elsewhere / "rare-1.0-py3-none-any.whl").unlink()
    place.install("chat", requirements=["greeter<2"])
    assert _versions(place)["rare"] == "1.0", "the index has an older one alone"
    shutil.rmtree(elsewhere)
    place.update("chat")
    place.install("chat", requirements=["greeter>=2"])
    assert (_versions(place)["rare"], _versions(place)["greeter"]) == ("1.0", "2.0")
    assert line in lock.read_text(), "the lock says where it came from"
    assert place.verify(place.environment("chat")).ok


def test_a_package_by_its_address_gives_way_to_another_version_by_name(place: Workspace, wheels: Path) -> None:
    place.install("chat", requirements=["greeter<2"])
    place.install("chat", requirements=[str(wheels / "greeter-2.0-py3-none-any.whl")])
    assert _versions(place)["greeter"] == "2.0"
    with pytest.raises(SolveError) as error:
        place.install("chat", requirements=["needs_greeter"])
    assert error.value.details[-1].startswith("greeter 2.0 is installed from file://")
    place.install("chat", requirements=["needs_greeter", "greeter<2"])
    shown = {package.name: package for package in place.environment("chat").packages}
    assert (shown["greeter"].version, shown["greeter"].url) == ("1.0", None)


def test_what_conda_was_asked_for_earlier_is_named_as_that(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    for version in ("1.0", "2.0"):
        support.add_package(channel, "one", version)
    support.add_package(channel, "three", depends=["one >=2"])
    place = make_workspace(settings=f'channels = ["{channel}"]')
    place.create("chat", "one=1")
    with pytest.raises(SolveError) as error:
        place.install("chat", "three")
    assert error.value.details == ("you ask for three", "three 1.0 needs one >=2", "you asked for one 1.* earlier")


def test_a_channel_comes_to_those_of_the_environment(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    first, more = (support.make_channel(tmp_path / name) for name in ("first", "more"))
    support.add_package(first, "one")
    support.add_package(first, "two")
    support.add_package(more, "three")
    place = make_workspace(settings=f'channels = ["{first}"]')
    place.create("chat", "one")
    assert place.install("chat", "three", channels=[str(more)]).channels == [str(more), str(first)]
    place.install("chat", "two")
    assert _versions(place) == {"one": "1.0", "two": "1.0", "three": "1.0"}
    shutil.rmtree(first)
    support.add_package(more, "four")
    place.install("chat", "four", channels=[str(more)])
    assert "four" in _versions(place)
