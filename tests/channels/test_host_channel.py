"""The channel folder is whole whatever happens to those who make it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainenv.channels.host import HostChannel, provide
from trainenv.errors import ChannelError, InterpreterError
from trainenv.progress import SilentReporter

PROVIDE = """
import sys
from pathlib import Path
from trainenv.channels.host import provide
from trainenv.progress import SilentReporter
running = "%d.%d.%d" % sys.version_info[:3]
provide(Path(sys.argv[1]), SilentReporter(), lambda version: version == running)
"""
RUNNING = ".".join(map(str, sys.version_info[:3]))


def running(version: str) -> bool:
    return version == RUNNING


def start(cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROVIDE, str(cache)])


def names_under(folder: Path) -> set[str]:
    """The kinds of files in ``folder``: names up to their first dash, with the folder they are in."""
    kinds = set()
    for parent, folders, files in os.walk(folder):
        relative = os.path.relpath(parent, folder)
        kinds |= {os.path.normpath(f"{relative}/{name.split('-')[0]}") for name in (*folders, *files)}
        folders[:] = [name for name in folders if not name.startswith(".building")]
    return kinds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the running interpreter packaged. Tests that change it work on a copy."""
    cache = tmp_path_factory.mktemp("made") / "cache"
    provide(cache, SilentReporter(), running)
    return cache


def assert_whole(channel: HostChannel) -> set[str]:
    """Every package in the index is there with its hashes, and nothing else lies about. Returns their names."""
    assert channel.url == f"file://{channel.path}"
    listed: set[str] = set()
    for index in channel.path.glob("*/repodata.json"):
        read = json.loads(index.read_bytes())
        assert read["info"]["subdir"] == index.parent.name
        for name, record in read["packages.conda"].items():
            data = (index.parent / name).read_bytes()
            assert record["sha256"] == hashlib.sha256(data).hexdigest()
            assert record["md5"] == hashlib.md5(data).hexdigest()
            assert record["size"] == len(data)
            listed.add(name)
    assert (channel.path / "noarch" / "repodata.json").is_file()
    assert not list(channel.path.rglob(".building-*"))
    assert {path.name for path in channel.path.rglob("*.conda")} == listed
    return listed


def test_a_second_call_makes_nothing_anew(made: Path) -> None:
    reporter = SilentReporter()
    channel = provide(made, reporter, running)
    names = assert_whole(channel)
    assert {name.split("-")[0] for name in names} >= {"python", "pip"}
    files = {path: path.stat().st_ino for path in channel.path.rglob("*") if path.is_file()}
    assert provide(made, reporter, running) == channel
    assert {path: path.stat().st_ino for path in channel.path.rglob("*") if path.is_file()} == files


def test_two_processes_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path), start(tmp_path)]
    assert [process.wait() for process in processes] == [0, 0]
    assert_whole(provide(tmp_path, SilentReporter(), running))
    assert len(list((tmp_path / "host/records").iterdir())) == 1


def test_killed_at_any_point_the_next_call_goes_on(tmp_path: Path) -> None:
    """Killed when a file of a new name has appeared: at each of the steps that leave something behind."""
    folder = tmp_path / "host"
    seen: set[str] = set()
    for _ in range(30):
        process = start(tmp_path)
        while process.poll() is None:
            kinds = names_under(folder)
            if kinds - seen:
                seen |= kinds
                process.send_signal(signal.SIGKILL)
            time.sleep(0.004)
        if process.wait() == 0:
            break
    else:
        pytest.fail("it was killed at more points than there are")
    assert {"noarch/pip", "noarch/repodata.json"} <= seen
    assert any(".building" in kind for kind in seen)
    assert_whole(provide(tmp_path, SilentReporter(), running))


def test_a_damaged_package_is_made_again(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    channel = provide(tmp_path, SilentReporter(), running)
    (package,) = channel.path.glob("linux-*/python-*.conda")
    original = package.read_bytes()
    package.write_bytes(original[:1000])
    assert_whole(provide(tmp_path, SilentReporter(), running))
    assert package.read_bytes() == original


def test_an_interpreter_that_changed_leaves_the_index(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    channel = provide(tmp_path, SilentReporter(), running)
    (record,) = (channel.path / "records").iterdir()
    outdated = json.loads(record.read_bytes())
    outdated["identity"][0] += 1
    record.rename(record.with_name("0000.json")).write_text(json.dumps(outdated))
    for package in outdated["packages"]:
        for path in channel.path.rglob(package):
            path.rename(path.with_name("old-" + path.name))
    provide(tmp_path, SilentReporter(), running)
    listed = json.loads((channel.path / "noarch/repodata.json").read_bytes())["packages.conda"]
    assert len([name for name in listed if name.startswith("pip-")]) == 1


def test_an_unknown_version_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError) as caught:
        provide(tmp_path, SilentReporter(), lambda version: version.startswith("3.99"))
    line = str(caught.value)
    assert RUNNING in line
    assert "'channels' of trainenv.toml" in line
    assert "'mirrors'" in line
    assert "\n" not in line


def test_an_unusable_one_that_would_have_matched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "python3.9"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(
        InterpreterError, match=r"python3\.9.* can't be packaged, because it fails to start with exit code 7"
    ):
        provide(tmp_path / "cache", SilentReporter(), lambda version: version.startswith("3.99"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "host").write_text("a file where the folder should be")
    with pytest.raises(ChannelError, match="can't be written"):
        provide(tmp_path, SilentReporter(), running)
