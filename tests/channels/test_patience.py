"""A server that begins well and then says nothing more is given up, in a time that can be set."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from tests.environments.test_generations import contents
from trainenv import UsageError, Workspace
from trainenv.channels.pypi import pip_settings
from trainenv.settings import load

TIMEOUT = 1.5
BOUND = 60


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base\n"})
    return folder


def _settings(tmp_path: Path, url: str) -> str:
    """Settings with a cold cache."""
    return f'channels = ["{url}"]\nread_timeout = {TIMEOUT}\nhost_fallback = false\ncache_dir = "{tmp_path}/cold"'


@pytest.fixture
def make_cold(tmp_path: Path) -> MakeWorkspace:
    def make(folder: str, settings: str) -> Workspace:
        root = tmp_path / folder
        root.mkdir()
        (root / "trainenv.toml").write_text(settings)
        return Workspace(root)

    return make


@pytest.mark.parametrize("where", ["repodata.json", ".bz2"])
def test_a_stalled_channel_is_given_up_and_nothing_is_left(
    where: str, tmp_path: Path, channel: Path, make_cold: MakeWorkspace, trainenv: RunCommand
) -> None:
    with support.guarded(channel, stalls=where) as server:
        place = make_cold("workspace", _settings(tmp_path, server.url))
        begun = time.monotonic()
        done = trainenv(place, "create", "-n", "chat", "base")
    assert time.monotonic() - begun < BOUND
    assert done.returncode == 1
    assert "stopped answering: nothing came for 1.5 s" in done.stderr
    assert "read_timeout" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.environments() == []
    with support.guarded(channel) as server:
        healed = make_cold("again", _settings(tmp_path, server.url))
        assert [item.name for item in healed.create("chat", "base").packages] == ["base"]


def test_a_slow_server_is_waited_for(tmp_path: Path, channel: Path, make_cold: MakeWorkspace) -> None:
    file = support.add_package(channel, "slow", files={"share/slow": os.urandom(3000).hex()})
    with support.guarded(channel, bytes_per_second=file.stat().st_size // 4) as server:
        place = make_cold("workspace", _settings(tmp_path, server.url))
        begun = time.monotonic()
        assert [item.name for item in place.create("chat", "slow").packages] == ["slow"]
    assert time.monotonic() - begun > TIMEOUT, "else the test has shown nothing"


def test_a_stalled_index_leaves_the_environment_as_it_was(
    tmp_path: Path, make_workspace: MakeWorkspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_workspace(settings='channels = ["host"]\nread_timeout = 1')
    made = place.create("chat", f"python={python_here()}")
    before = contents(made.prefix)
    wheel = support.make_wheel(tmp_path / "index/files", "stalls")
    page = tmp_path / "index/simple/stalls/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("UV_HTTP_TIMEOUT", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    with support.guarded(tmp_path / "index", stalls=".whl") as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        begun = time.monotonic()
        done = trainenv(place, "pip", "install", "-n", "chat", "stalls")
    assert time.monotonic() - begun < BOUND
    assert done.returncode == 1
    assert "timeout" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(made.prefix) == before


def test_an_index_that_breaks_off_leaves_the_environment_as_it_was(
    tmp_path: Path, make_workspace: MakeWorkspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_workspace()
    made = place.create("chat", f"python={python_here()}")
    before = contents(made.prefix)
    wheel = support.make_wheel(tmp_path / "index/files", "breaks", files={"breaks.txt": os.urandom(50_000).hex()})
    page = tmp_path / "index/simple/breaks/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with support.guarded(tmp_path / "index", drops=1000) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        done = trainenv(place, "pip", "install", "-n", "chat", "breaks")
    assert done.returncode == 1
    assert "trainenv: error: " in done.stderr
    assert "breaks" in done.stderr
    assert contents(made.prefix) == before


@pytest.mark.parametrize("value", ["0", "-1", '"soon"', "true", "inf"])
def test_a_timeout_is_a_number_of_seconds(value: str, tmp_path: Path) -> None:
    (tmp_path / "trainenv.toml").write_text(f"read_timeout = {value}\n")
    with pytest.raises(UsageError, match="a number of seconds"):
        load(tmp_path)
