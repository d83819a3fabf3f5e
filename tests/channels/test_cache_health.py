"""What is linked into an environment is what the channel has, whatever happened to the cache."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import support
from tests.conftest import python_here
from trainenv import Workspace
from trainenv.channels import cache_health
from trainenv.errors import InstallError

FILES = {"share/big.txt": "0123456789" * 5000, "share/small.txt": "small\n", "bin/tool": "#!/bin/sh\necho tool\n"}


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files=FILES)
    support.add_package(folder, "patched", prefix_files={"etc/where": "@PREFIX@\n"})
    return folder


@pytest.fixture
def place(tmp_path: Path, channel: Path) -> Workspace:
    """A workspace with a cold cache of its own."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "trainenv.toml").write_text(f'channels = ["{channel}"]\nhost_fallback = false\n')
    return Workspace(root)


def _entry(place: Workspace, stem: str = "base-1.0-0") -> cache_health.Entry:
    return cache_health.entry_of(place.settings.cache_dir, stem)


def _contents(prefix: Path) -> dict[str, str]:
    return {path: (prefix / path).read_text() for path in FILES}


def _flip(file: Path) -> None:
    """One bit in the middle of a file, with its size and times as before."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(before.st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(before.st_size // 2)
        stream.write(bytes([byte ^ 4]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _edit(file: Path) -> None:
    with file.open("a") as stream:
        stream.write("# edited\n")


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _replace_in_place(file: Path) -> None:
    file.write_bytes(b"X" * file.stat().st_size)


@pytest.mark.parametrize("damage", [_edit, _cut, _replace_in_place, Path.unlink], ids=lambda item: item.__name__)
@pytest.mark.parametrize("path", ["share/big.txt", "bin/tool"])
def test_a_damaged_entry_is_fetched_again(place: Workspace, path: str, damage: Callable[[Path], None]) -> None:
    place.create("first", "base")
    damage(_entry(place).folder / path)
    made = place.create("second", "base")
    assert _contents(made.prefix) == FILES
    assert place.verify(made).problems == []
    assert cache_health.damage(_entry(place), full=True) is None


def test_an_edit_in_one_environment_does_not_reach_the_next(place: Workspace) -> None:
    first = place.create("first", "base")
    assert (first.prefix / "share/small.txt").stat().st_nlink > 1, "environments link into the cache"
    _edit(first.prefix / "share/small.txt")
    second = place.create("second", "base")
    assert _contents(second.prefix) == FILES
    assert (first.prefix / "share/small.txt").read_text() == "small\n# edited\n", "what the user wrote stays his"


def test_a_bit_that_flips_unseen_is_found_by_a_full_check(place: Workspace) -> None:
    place.create("first", "base")
    entry = _entry(place)
    _flip(entry.folder / "share/big.txt")
    assert cache_health.damage(entry) is None, "nothing but its content tells"
    assert "share/big.txt" in str(cache_health.damage(entry, full=True))


def test_after_a_while_every_entry_is_read_again(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.create("first", "base")
    _flip(_entry(place).folder / "share/big.txt")
    monkeypatch.setattr(cache_health, "FULL_CHECK_SECONDS", 0.0)
    assert _contents(place.create("second", "base").prefix) == FILES


def test_an_entry_that_nobody_checked_yet_is_read_in_full(place: Workspace) -> None:
    place.create("first", "base")
    entry = _entry(place)
    _flip(entry.folder / "share/big.txt")
    entry.stamp.unlink()
    assert _contents(place.create("second", "base").prefix) == FILES


@pytest.mark.parametrize("name", ["paths.json", "index.json"])
def test_a_poisoned_entry_with_matching_hashes_is_found(place: Workspace, name: str) -> None:
    """Content and list of hashes were both replaced: only what was noted at the first check tells."""
    place.create("first", "base")
    entry = _entry(place)
    record = entry.folder / "info" / name
    record.write_text(record.read_text().replace("base", "bass").replace("share/small", "share/smell"))
    (entry.folder / "share/small.txt").write_text("poison\n")
    assert _contents(place.create("second", "base").prefix) == FILES


def test_a_missing_list_of_files_is_no_excuse(place: Workspace) -> None:
    place.create("first", "base")
    entry = _entry(place)
    (entry.folder / "info/paths.json").unlink()
    _edit(entry.folder / "share/small.txt")
    assert _contents(place.create("second", "base").prefix) == FILES


def test_a_sound_entry_is_neither_read_nor_fetched_again(place: Workspace, channel: Path) -> None:
    place.create("first", "base", "patched")
    inodes = {entry.folder.name: entry.folder.stat().st_ino for entry in cache_health.entries(place.settings.cache_dir)}
    os.utime(_entry(place).folder / "share/big.txt")
    place.create("second", "base", "patched")
    place.remove("first")
    place.create("third", "base", "patched")
    now = {entry.folder.name: entry.folder.stat().st_ino for entry in cache_health.entries(place.settings.cache_dir)}
    assert now == inodes
    assert set(now) == {"base-1.0-0", "patched-1.0-0"}


def test_a_damaged_entry_that_can_not_be_fetched_is_not_linked(place: Workspace, channel: Path) -> None:
    place.create("first", "base")
    _edit(_entry(place).folder / "share/small.txt")
    (channel / "noarch/base-1.0-0.tar.bz2").unlink()
    with pytest.raises(InstallError):
        place.create("second", "base")
    assert not place.settings.prefix_of("second").exists()


def test_another_package_of_the_same_name_is_not_taken_for_it(place: Workspace, tmp_path: Path) -> None:
    """Two channels have a base-1.0-0 with different content."""
    place.create("first", "base")
    other = support.make_channel(tmp_path / "other")
    support.add_package(other, "base", files={"share/small.txt": "another base\n"})
    second = place.create("second", "base", channels=[str(other)])
    assert (second.prefix / "share/small.txt").read_text() == "another base\n"
    assert _contents(place.create("third", "base").prefix) == FILES


def test_over_http_a_wrong_archive_never_gets_into_the_cache(place: Workspace, channel: Path) -> None:
    with support.guarded(channel, flipped="base-1.0-0.tar.bz2") as server, pytest.raises(InstallError, match="base"):
        place.create("first", "base", channels=[server.url])
    assert not _entry(place).is_there
    assert _contents(place.create("second", "base").prefix) == FILES


# uv's cache


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("needs-greeter\n")
    return file


def _module(place: Workspace, name: str) -> Path:
    (found,) = place.settings.prefix_of(name).glob("lib/python3.*/site-packages/greeter/__init__.py")
    return found


def _with_own_uv_cache(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_LINK_MODE", "hardlink")


def test_an_edit_of_a_wheel_does_not_reach_the_next_environment(
    workspace: Workspace, wheels: Path, requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_own_uv_cache(workspace, tmp_path, monkeypatch)
    workspace.create("first", f"python={python_here()}", files=[requirements])
    sound = _module(workspace, "first").read_text()
    assert _module(workspace, "first").stat().st_nlink > 1, "environments link into uv's cache"
    _edit(_module(workspace, "first"))
    second = workspace.create("second", f"python={python_here()}", files=[requirements])
    assert _module(workspace, "second").read_text() == sound
    assert workspace.verify(second).problems == []
    assert "# edited" in _module(workspace, "first").read_text()


def test_a_wheel_whose_own_hashes_are_wrong_is_installed_as_it_is(
    workspace: Workspace, wheels: Path, requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such wheels are about; pip and uv install them without a word."""
    _with_own_uv_cache(workspace, tmp_path, monkeypatch)
    file = wheels / "greeter-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file) as wheel:
        members = {name: wheel.read(name) for name in wheel.namelist()}
    members["greeter/__init__.py"] += b"# built by a careless tool\n"
    with zipfile.ZipFile(file, "w") as wheel:
        for name, data in members.items():
            wheel.writestr(name, data)
    for name in ("first", "second"):
        workspace.create(name, f"python={python_here()}", files=[requirements])
        assert "careless" in _module(workspace, name).read_text()


def _only_md5(channel: Path) -> None:
    """Take the sha256 out of a channel's index, as very old ones have it."""
    repodata = channel / "noarch/repodata.json"
    content = json.loads(repodata.read_text())
    for record in content["packages"].values():
        del record["sha256"]
    repodata.write_text(json.dumps(content))


def _at(tmp_path: Path, channel: Path | str, name: str) -> Workspace:
    """Workspace ``name`` on ``channel``; all of them share one cache."""
    root = tmp_path / name
    root.mkdir()
    settings = f'channels = ["{channel}"]\nhost_fallback = false\ncache_dir = "{tmp_path}/one-cache"\n'
    (root / "trainenv.toml").write_text(settings)
    return Workspace(root)


@pytest.mark.parametrize("over_http", [False, True])
def test_without_sha256_the_md5_tells_whose_entry_it_is(tmp_path: Path, channel: Path, over_http: bool) -> None:
    other = support.make_channel(tmp_path / "other")
    support.add_package(other, "base", files={path: f"{path} of the other\n" for path in FILES})
    _only_md5(channel)
    _only_md5(other)
    assert _contents(_at(tmp_path, other, "first").create("one", "base").prefix) != FILES
    with support.served(channel) as url:
        place = _at(tmp_path, url if over_http else channel, "second")
        assert _contents(place.create("two", "base").prefix) == FILES
        entry = _entry(place).folder.stat().st_ino
        assert _contents(place.create("three", "base").prefix) == FILES
        assert _entry(place).folder.stat().st_ino == entry, "an entry that is known is not fetched again"


def test_a_local_package_with_another_md5_is_refused(tmp_path: Path, channel: Path, place: Workspace) -> None:
    _only_md5(channel)
    support.add_package(tmp_path / "channel", "more", files={"share/more": "more\n"})
    file = channel / "noarch/base-1.0-0.tar.bz2"
    file.write_bytes((channel / "noarch/more-1.0-0.tar.bz2").read_bytes())
    with pytest.raises(InstallError, match="its md5 differs"):
        place.create("chat", "base")
    assert place.environments() == []


def test_an_entry_that_is_replaced_while_it_is_looked_at(tmp_path: Path) -> None:
    """Two channels may have another file of the same name; processes that use both take turns in the cache."""
    entry = cache_health.entry_of(tmp_path, "two-1.0-0")

    def fill(folder: Path, content: str) -> None:
        (folder / "info").mkdir(parents=True)
        paths = []
        for number in range(200):
            (folder / f"f{number}").write_text(content)
            digest = hashlib.sha256(content.encode()).hexdigest()
            paths.append({"_path": f"f{number}", "path_type": "hardlink", "sha256": digest, "size_in_bytes": 1})
        (folder / "info/paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}))
        (folder / "info/index.json").write_text("{}")

    def exchange(stop: threading.Event) -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            fill(tmp_path / f"next{turn}", str(turn % 10))
            if entry.folder.exists():
                entry.folder.rename(tmp_path / f"last{turn}")
            (tmp_path / f"next{turn}").rename(entry.folder)
            shutil.rmtree(tmp_path / f"last{turn}", ignore_errors=True)

    fill(entry.folder, "0")
    stop = threading.Event()
    other = threading.Thread(target=exchange, args=(stop,))
    other.start()
    try:
        found = [cache_health.damage(entry, full=turn % 2 == 0) for turn in range(60)]
        for _ in range(20):
            entry.stamp.unlink(missing_ok=True)
            cache_health.stamp(entry, "")
    finally:
        stop.set()
        other.join()
    assert set(found) == {None}
