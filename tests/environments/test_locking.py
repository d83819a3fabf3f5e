"""An environment is chosen for the machine that it is for, not for the one where somebody sits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, python_here
from trainenv import ChannelError, DeclinedError, SolveError, Target, UsageError, Workspace
from trainenv.channels.target import this_platform
from trainenv.environments.preview import Plan
from trainenv.environments.records import ENVIRONMENT_NOTE, read_note
from trainenv.environments.specification import read_file

PYTHON = f"python={python_here()}"
OTHER = "linux-aarch64" if this_platform() == "linux-64" else "linux-64"
MACHINE = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """``tool`` has a build for each of two platforms, ``gpu`` and ``modern`` ask for more than a machine may have."""
    folder = support.make_channel(tmp_path / "channel")
    for platform in (this_platform(), OTHER):
        support.add_package(folder, "tool", files={"share/tool": platform}, subdir=platform)
        support.add_package(folder, "python", "3.11.7", subdir=platform)
    support.add_package(folder, "data", "1.0", day="2020-03-01")
    support.add_package(folder, "data", "2.0", day="2024-03-01")
    support.add_package(folder, "undated")
    support.add_package(folder, "gpu", depends=["__cuda >=12", "tool"])
    support.add_package(folder, "gpu-extra", depends=["__cuda >=12.2"])
    support.add_package(folder, "modern", depends=["__glibc >=2.99"])
    return folder


@pytest.fixture
def place(make_workspace: MakeWorkspace, channel: Path) -> Workspace:
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def _versions(plan_or_packages: object) -> dict[str, str]:
    return {package.name: package.version for package in plan_or_packages}  # type: ignore[attr-defined]


def test_a_gpu_environment_is_made_and_changed_where_no_gpu_is(place: Workspace) -> None:
    with pytest.raises(SolveError) as error:
        place.create("chat", "gpu", target=Target(cuda="none"))
    assert "gpu 1.0 needs __cuda >=12: that machine has none" in error.value.details
    assert error.value.hint == "To make it for a machine with a GPU: --cuda 12"
    with pytest.raises(SolveError) as error:
        place.create("chat", "gpu", target=Target(cuda="11.8"))
    assert "gpu 1.0 needs __cuda >=12: that machine has 11.8" in error.value.details
    made = place.create("chat", "gpu", target=Target(cuda="12.4"))
    assert read_note(made.prefix, ENVIRONMENT_NOTE)["target"] == {"cuda": "12.4"}
    changed = place.install("chat", "gpu-extra", "data")
    assert {"gpu", "gpu-extra", "data"} <= set(_versions(changed.packages))
    changed = place.remove_packages("chat", "data")
    assert read_note(changed.prefix, ENVIRONMENT_NOTE)["target"] == {"cuda": "12.4"}
    with pytest.raises(SolveError):
        place.install("chat", "undated", target=Target(cuda="none"))
    assert place.update("chat").packages == changed.packages


def test_conda_s_own_variable_says_what_the_machine_has(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.1")
    assert "gpu" in _versions(place.create("chat", "gpu").packages)
    assert place.lock("gpu", targets=[Target(OTHER)]).every[0].packages()
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "")
    with pytest.raises(SolveError):
        place.lock("gpu", targets=[Target(OTHER)])
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "not a version")
    for target in (Target(), Target(OTHER)):
        with pytest.raises(UsageError, match="CONDA_OVERRIDE_"):
            place.lock("tool", targets=[target])


def test_an_older_or_newer_c_library(place: Workspace) -> None:
    with pytest.raises(SolveError) as error:
        place.lock("modern", targets=[Target(glibc="2.28")])
    assert "modern 1.0 needs __glibc >=2.99: that machine has 2.28" in error.value.details
    assert error.value.hint.endswith("--glibc 2.99")
    assert place.lock("modern", targets=[Target(glibc="2.99")]).every[0].target.stated() == ["__glibc=2.99"]


@pytest.mark.parametrize(
    ("day", "version"),
    [
        ("2024-03-01", "2.0"),
        ("2024-02-29", "1.0"),
        ("2024-02-29T23:59:59Z", "1.0"),
        ("2024-03-01T02:00:00+02:00", "2.0"),
    ],
)
def test_what_came_later_is_left_out(place: Workspace, day: str, version: str) -> None:
    locked = place.lock("data", targets=[Target(exclude_newer=day)]).every[0]
    assert _versions(locked.packages()) == {"data": version}


def test_an_environment_keeps_to_its_day_until_told_otherwise(place: Workspace) -> None:
    made = place.create("chat", "data", target=Target(exclude_newer="2022-01-01"))
    assert _versions(made.packages) == {"data": "1.0"}
    assert _versions(place.update("chat").packages) == {"data": "1.0"}
    with pytest.raises(SolveError) as error:
        place.install("chat", "data=2")
    assert "data 2.0 came after 2022-01-01 23:59:59 UTC" in error.value.details
    with pytest.raises(SolveError) as error:
        place.install("chat", "undated")
    assert "undated 1.0 does not say when it came" in error.value.details
    assert "--exclude-newer" in error.value.hint
    changed = place.update("chat", target=Target(exclude_newer="none"))
    assert _versions(changed.packages) == {"data": "2.0"}
    assert read_note(changed.prefix, ENVIRONMENT_NOTE)["target"] == {}


def test_a_lock_for_several_platforms_is_made_into_an_environment_on_its_own(
    place: Workspace, channel: Path, tmp_path: Path
) -> None:
    targets = [Target(this_platform(), cuda="12.4"), Target(OTHER, cuda="12.4")]
    locks = place.lock("gpu", targets=targets)
    file = tmp_path / "pixi.lock"
    file.write_text(locks.dump())
    assert place.lock("gpu", targets=targets).dump() == locks.dump()
    made = place.create("here", files=[file])
    assert (made.prefix / "share/tool").read_text() == this_platform()
    assert read_note(made.prefix, ENVIRONMENT_NOTE)["target"] == {"cuda": "12.4"}
    there = read_file(file, OTHER).locked
    assert there is not None
    assert {package.name: package.subdir for package in there.conda} == {"gpu": "noarch", "tool": OTHER}
    mirror = place.mirror(file, tmp_path / "mirror")
    assert mirror.conda == 3
    assert "tool-1.0-0.tar.bz2" in json.loads((mirror.folder / OTHER / "repodata.json").read_text())["packages"]
    exported = place.export(made, "pixi.lock")
    assert "__cuda=12.4" in exported


@pytest.mark.parametrize("format", ["pixi.lock", "explicit"])
def test_a_lock_for_another_platform_is_refused_here(place: Workspace, tmp_path: Path, format: str) -> None:
    file = tmp_path / "any.txt"
    file.write_text(place.lock("tool", targets=[Target(OTHER)]).dump(format))
    with pytest.raises(UsageError, match=f"locks no environment for {this_platform()}"):
        place.create("data", files=[file])
    assert place.environments() == []
    assert (place.mirror(file, tmp_path / "mirror").folder / OTHER / "tool-1.0-0.tar.bz2").is_file()


@pytest.fixture
def two_platforms(wheels: Path) -> Path:
    """``native`` has wheels for two platforms, and for this one a newer, which needs a newer glibc."""
    for platform in (this_platform(), OTHER):
        support.make_wheel(wheels, "native", tag=f"py3-none-manylinux_2_17_{MACHINE[platform]}")
    support.make_wheel(wheels, "native", "2.0", tag=f"py3-none-manylinux_2_34_{MACHINE[this_platform()]}")
    return wheels


def test_pypi_packages_are_those_of_the_platform(place: Workspace, two_platforms: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("native\nneeds_greeter\ncolorama-of-nowhere; sys_platform == 'win32'\n")
    targets = [Target(this_platform(), glibc="2.28"), Target(OTHER)]
    locks = place.lock("python=3.11", files=[requirements], targets=targets)
    for locked in locks.every:
        wheels = {wheel.name: wheel for wheel in locked.wheels}
        assert set(wheels) == {"native", "greeter", "needs-greeter"}
        assert wheels["native"].version == "1.0"
        assert wheels["native"].location.endswith(f"_2_17_{MACHINE[locked.target.subdir]}.whl")
        assert all(wheel.sha256 for wheel in locked.wheels)
    file = tmp_path / "pixi.lock"
    file.write_text(locks.dump())
    there = read_file(file, OTHER).locked
    assert there is not None
    assert there.wheels == locks.every[1].wheels
    mirror = place.mirror(file, tmp_path / "mirror")
    assert (mirror.pypi, mirror.conda) == (4, 2)
    with pytest.raises(SolveError, match="native"):
        place.lock("python=3.11", files=[_line(tmp_path, "native>=2")], targets=[Target(OTHER)])
    with pytest.raises(UsageError, match="for one platform"):
        locks.dump("pylock.toml")


def _line(folder: Path, text: str) -> Path:
    file = folder / "one.txt"
    file.write_text(f"{text}\n")
    return file


def test_a_real_environment_takes_wheels_for_an_older_c_library(
    make_workspace: MakeWorkspace, two_platforms: Path, tmp_path: Path
) -> None:
    place = make_workspace()
    requirements = [_line(tmp_path, "native")]
    made = place.create("here", PYTHON, files=requirements)
    assert _versions(made.packages)["native"] == "2.0"
    lock = place.lock(PYTHON, files=requirements)
    assert {item.name: item.version for item in lock.every[0].packages()} == _versions(made.packages)
    assert place.export(made, "pixi.lock") == lock.dump()


def test_the_host_channel_is_for_this_machine(make_workspace: MakeWorkspace) -> None:
    with pytest.raises(UsageError, match=f"an environment for {OTHER} can't be made here.*trainenv lock"):
        make_workspace().create("data", PYTHON, target=Target(OTHER))
    made = make_workspace("third").create("data", PYTHON, target=Target(exclude_newer="2001-01-01"))
    assert made.python, "what nobody has published is not left out"
    with pytest.raises(ChannelError, match=f"channel host has nothing for {OTHER}"):
        make_workspace("second").lock(PYTHON, targets=[Target(OTHER)])


def test_a_plan_for_another_platform_asks_nobody_s_machine(place: Workspace) -> None:
    plans: list[Plan] = []

    def keep(plan: Plan) -> bool:
        plans.append(plan)
        return False

    with pytest.raises(DeclinedError):
        place.create("data", "tool", target=Target(OTHER), confirm=keep)
    assert [change.name for change in plans[0].changes] == ["tool"]
    with pytest.raises(SolveError) as error:
        place.lock("gpu", targets=[Target(OTHER)])
    assert "gpu 1.0 needs __cuda >=12: that machine has none" in error.value.details


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"platform": "linux-aarch"}, "Did you mean linux-aarch64"),
        ({"cuda": "twelve"}, "--cuda 12.4"),
        ({"glibc": "2.x"}, "--glibc 2.28"),
        ({"exclude_newer": "2024-13-01"}, "2025-06-30"),
        ({"exclude_newer": "yesterday"}, "2025-06-30"),
    ],
)
def test_a_target_that_is_none_is_refused(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Target(**wrong)


def test_what_is_a_lock_already_is_not_locked_again(place: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "pixi.lock"
    file.write_text(place.lock("tool").dump())
    with pytest.raises(UsageError, match="is a lock already"):
        place.lock(files=[file])
    with pytest.raises(UsageError, match="named twice"):
        place.lock("tool", targets=[Target(OTHER), Target(OTHER, cuda="12.4")])
