"""What a user reads when a channel or package can't be had: one line that says what, why and what next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import support
from trainenv import ChannelError, InstallError, Workspace

SECRET = "s3cret-word"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base 1\n"})
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with a cache of its own."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "trainenv.toml").write_text("host_fallback = false\n")
    return Workspace(tmp_path / "workspace")


def _failure(place: Workspace, channel: str) -> str:
    with pytest.raises((ChannelError, InstallError)) as error:
        place.create("one", "base", channels=[channel])
    assert place.environments() == []
    text = str(error.value)
    assert "Caused by" not in text
    assert "\n" not in text
    assert SECRET not in text
    return text


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_package_with_another_hash(place: Workspace, channel: Path, kind: str) -> None:
    index = channel / "noarch" / "repodata.json"
    content = json.loads(index.read_text())
    (entry,) = content["packages"].values()
    del entry["md5" if kind == "sha256" else "sha256"]
    entry[kind] = "0" * len(entry[kind])
    index.write_text(json.dumps(content))
    with support.served(channel) as url:
        text = _failure(place, url)
    assert text.startswith("package base-1.0-0.tar.bz2 is not the one that its channel, or the lock, lists: what came ")
    assert f"has the {kind} hash " in text


def test_a_package_that_is_cut_off_at_its_source(place: Workspace, channel: Path) -> None:
    file = channel / "noarch" / "base-1.0-0.tar.bz2"
    file.write_bytes(file.read_bytes()[:100])
    with support.served(channel) as url:
        text = _failure(place, url)
    assert "package base-1.0-0.tar.bz2 could not be fetched: what came can't be unpacked (" in text


def test_a_package_that_is_gone(place: Workspace, channel: Path) -> None:
    file = channel / "noarch" / "base-1.0-0.tar.bz2"
    file.unlink()
    with support.served(channel) as url:
        assert "could not be fetched: HTTP status client error (404 " in _failure(place, url)
    assert f"package {file} can't be read: No such file or directory. Its channel lists it" in _failure(
        place, str(channel)
    )


def test_a_host_that_refuses_us_is_told_apart_from_one_that_was_told_nothing(place: Workspace, channel: Path) -> None:
    with support.guarded(channel, login=("me", "another")) as server:
        assert f'Say who you are to its host in [credentials."{server.host}"]' in _failure(place, server.url)
        text = _failure(place, server.address("me", SECRET))
    assert "It was told the user and password of its address: correct them there" in text


def test_a_cache_that_can_not_be_written(channel: Path, place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINENV_CACHE_DIR", "/proc/self/cache")
    text = _failure(Workspace(place.settings.root), str(channel))
    assert "cache can't be written: " in text
    assert "TRAINENV_CACHE_DIR" in text
