"""Scripts of conda packages: not run without leave, and with it as conda runs them, whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand
from tests.environments.test_generations import contents
from trainenv import Workspace
from trainenv.errors import InstallError

POST = """\
set -e
"$PREFIX/bin/where" > "$PREFIX/share/made"
echo "$PKG_NAME $PKG_VERSION $PKG_BUILDNUM" >> "$PREFIX/share/base.txt"
echo "configured for you" >> "$PREFIX/.messages.txt"
"""
PRE = 'echo "bye $PKG_NAME" >> "$PREFIX/share/base.txt"\nrm "$PREFIX/share/made"\n'


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base\n"})
    program = "#!/bin/sh\necho from @PREFIX@\ntest -f @PREFIX@/bin/where\n"
    scripts = {"bin/.tool-post-link.sh": POST, "bin/.tool-pre-unlink.sh": PRE}
    support.add_package(folder, "tool", files=scripts, prefix_files={"bin/where": program}, depends=["base"])
    support.add_package(
        folder, "failing", files={"bin/.failing-post-link.sh": "echo no luck >&2\nexit 3\n"}, depends=["base"]
    )
    support.add_package(folder, "stubborn", files={"bin/.stubborn-pre-unlink.sh": "exit 4\n"}, depends=["base"])
    return folder


@pytest.fixture
def place(make_workspace: MakeWorkspace, channel: Path) -> Workspace:
    return make_workspace(settings=f'channels = ["{channel}"]\nlink_scripts = true')


def test_without_leave_none_runs_and_the_package_is_named(
    make_workspace: MakeWorkspace, channel: Path, trainenv: RunCommand
) -> None:
    place = make_workspace(settings=f'channels = ["{channel}"]')
    done = trainenv(place, "create", "-n", "chat", "tool")
    assert done.returncode == 0, done.stderr
    assert "the post-link script of tool was not run; link_scripts = true" in done.stderr
    prefix = place.settings.prefix_of("chat")
    assert not (prefix / "share/made").exists()
    assert (prefix / "share/base.txt").read_text() == "base\n"


def test_it_finds_working_programs_and_what_it_writes_is_relocated(place: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(place, "create", "-n", "chat", "tool")
    assert done.returncode == 0, done.stderr
    assert "tool: configured for you" in done.stderr
    prefix = place.settings.prefix_of("chat")
    assert (prefix / "share/made").read_text() == f"from {prefix}\n"
    assert (prefix / "share/base.txt").read_text() == "base\ntool 1.0 0\n"
    assert (prefix / "bin/where").read_text() == f"#!/bin/sh\necho from {prefix}\ntest -f {prefix}/bin/where\n"
    assert stat.S_IMODE((prefix / "bin/where").stat().st_mode) == 0o755
    assert not (prefix / ".messages.txt").exists()
    problems = place.verify(place.environment("chat"), imports=False).problems
    assert [line for line in problems if "share/base.txt" not in line] == []


def test_an_edit_in_place_reaches_neither_the_cache_nor_the_former_state(place: Workspace) -> None:
    place.create("other", "base")
    prefix = place.create("chat", "base").prefix
    before = contents(prefix)
    place.install("chat", "tool")
    assert "tool" in (prefix / "share/base.txt").read_text()
    assert (place.settings.prefix_of("other") / "share/base.txt").read_text() == "base\n"
    assert (place.settings.cache_dir / "pkgs/base-1.0-0/share/base.txt").read_text() == "base\n"
    place.rollback("chat")
    assert contents(prefix) == before


def test_the_script_before_removal_runs(place: Workspace) -> None:
    prefix = place.create("chat", "base", "tool").prefix
    place.remove_packages("chat", "tool")
    assert not (prefix / "share/made").exists()
    assert (prefix / "share/base.txt").read_text() == "base\ntool 1.0 0\nbye tool\n"


def test_a_failing_one_leaves_the_environment_as_it_was(place: Workspace, trainenv: RunCommand) -> None:
    prefix = place.create("chat", "base").prefix
    before = contents(prefix)
    done = trainenv(place, "install", "-n", "chat", "failing")
    assert done.returncode == 1
    assert "the post-link script of failing failed: exit code 3; no luck" in done.stderr
    assert contents(prefix) == before
    with pytest.raises(InstallError, match="post-link script of failing failed"):
        place.create("new", "failing")
    assert [item.name for item in place.environments()] == ["chat"]


def test_a_package_whose_last_script_fails_goes_all_the_same(place: Workspace, trainenv: RunCommand) -> None:
    place.create("chat", "base", "stubborn")
    done = trainenv(place, "remove", "-n", "chat", "stubborn")
    assert done.returncode == 0, done.stderr
    assert "pre-unlink script of stubborn failed (exit code 4)" in done.stderr
    assert [item.name for item in place.environment("chat").packages] == ["base"]
