from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import support
from trainenv.channels import conda
from trainenv.channels.access import Access
from trainenv.channels.answers import FOLDER
from trainenv.channels.target import Target

LONG_AGO = 3.0
"""Seconds after which an index counts as settled."""


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Channels that nobody has changed for long, and last an empty one."""
    folders = [support.make_channel(tmp_path_factory.mktemp("channel")) for _ in range(16)]
    for folder in folders[:-1]:
        support.add_package(folder, "base", "1.0", day="2025-01-01")
        support.add_package(folder, "base", "2.0", day="2025-06-01")
        support.add_package(folder, "tool", depends=["base"], day="2025-01-01")
    time.sleep(LONG_AGO)
    return folders


@pytest.fixture
def channel(settled: list[Path]) -> Path:
    """One of them, for this test alone."""
    return settled.pop(0)


def _ask(
    cache: Path,
    *channels: Path | str,
    specs: Sequence[str] = ("tool",),
    target: Target | None = None,
    access: Access | None = None,
) -> dict[str, str]:
    sources = [
        conda.Source(str(each), f"{each.as_uri()}/" if isinstance(each, Path) else f"{each}/") for each in channels
    ]
    found = conda.solve(sources, specs, cache_dir=cache, target=target, access=access)
    return {record.name.normalized: str(record.version) for record in found}


def _kept(cache: Path) -> list[Path]:
    return sorted((cache / FOLDER).glob("*.lock"))


def _mark(cache: Path) -> None:
    """Make every kept answer say ``base 1.0``, so that a test sees whether it is used."""
    import hashlib

    for lock in _kept(cache):
        lock.write_text(lock.read_text().replace("base-2.0-0", "base-1.0-0"))
        note = lock.with_suffix(".json")
        content = json.loads(note.read_text())
        content["lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
        content["order"] = [url.replace("base-2.0-0", "base-1.0-0") for url in content["order"]]
        note.write_text(json.dumps(content))


def test_the_same_question_gets_the_kept_answer_to_the_last_field(tmp_path: Path, channel: Path) -> None:
    source = conda.Source("c", f"{channel.as_uri()}/")
    first = conda.solve([source], ["tool"], cache_dir=tmp_path / "cache")
    again = conda.solve([source], ["tool"], cache_dir=tmp_path / "cache")
    assert [record.to_json() for record in again] == [record.to_json() for record in first]
    assert len(_kept(tmp_path / "cache")) == 1
    _mark(tmp_path / "cache")
    assert _ask(tmp_path / "cache", channel) == {"tool": "1.0", "base": "1.0"}


def test_another_question_is_solved_anew(tmp_path: Path, settled: list[Path], channel: Path) -> None:
    cache, other = tmp_path / "cache", settled[-1]
    _ask(cache, channel)
    _mark(cache)
    newest = {"tool": "1.0", "base": "2.0"}
    assert _ask(cache, channel, specs=["tool", "base"]) == newest
    assert _ask(cache, other, channel) == newest
    assert _ask(cache, channel, other) == newest
    assert _ask(cache, channel, target=Target(cuda="12.4")) == newest
    assert _ask(cache, channel, target=Target(platform="linux-aarch64")) == newest
    assert _ask(cache, channel, access=Access(priority="flexible")) == newest
    assert _ask(cache, channel, target=Target(exclude_newer="2025-03-01")) == {"tool": "1.0", "base": "1.0"}
    assert len(_kept(cache)) == 8


@pytest.mark.parametrize("change", ["add", "same size and time", "rename", "gone"])
def test_a_changed_channel_is_solved_anew(tmp_path: Path, channel: Path, change: str) -> None:
    cache, index = tmp_path / "cache", channel / "noarch" / "repodata.json"
    _ask(cache, channel)
    _mark(cache)
    before = index.stat()
    if change == "add":
        support.add_package(channel, "base", "3.0")
        assert _ask(cache, channel)["base"] == "3.0"
        return
    if change == "gone":
        (channel / "linux-64" / "repodata.json").unlink()
    elif change == "rename":
        beside = index.with_name("beside.json")
        beside.write_bytes(index.read_bytes())
        beside.replace(index)
    else:
        index.write_bytes(index.read_bytes())
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _ask(cache, channel)["base"] == "2.0"


def test_an_answer_of_a_channel_that_was_written_just_now_is_not_kept(tmp_path: Path, channel: Path) -> None:
    support.add_package(channel, "base", "3.0")
    assert _ask(tmp_path / "cache", channel)["base"] == "3.0"
    assert _kept(tmp_path / "cache") == []


def test_a_channel_on_a_server_is_asked_each_time(tmp_path: Path, channel: Path) -> None:
    with support.served(channel) as url:
        _ask(tmp_path / "cache", url)
    assert _kept(tmp_path / "cache") == []


@pytest.mark.parametrize("damage", [b"", b"version: 7\n", b"\xff\xfe", None])
def test_a_damaged_answer_is_none(tmp_path: Path, channel: Path, damage: bytes | None) -> None:
    cache = tmp_path / "cache"
    _ask(cache, channel)
    (lock,) = _kept(cache)
    for file in (lock, lock.with_suffix(".json")):
        whole = file.read_bytes()
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        assert _ask(cache, channel)["base"] == "2.0"
        file.write_bytes(whole)


def test_where_nothing_can_be_kept_it_is_solved_each_time(tmp_path: Path, channel: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / FOLDER).write_text("a file stands in the way")
    assert _ask(cache, channel)["base"] == "2.0"
