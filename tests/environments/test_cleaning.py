"""What no environment uses is found, sized and removed; nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, program, python_here
from trainenv import EnvironmentBusyError, Workspace, locks
from trainenv.channels.pypi import pip_settings
from trainenv.environments import cleaning
from trainenv.environments.sizes import Size, is_linked_elsewhere, size_of


@pytest.fixture
def place(tmp_path: Path, wheels: Path) -> Workspace:
    """A workspace with a cache of its own, and a channel with three packages of 1, 2 and 3 MB."""
    channel = support.make_channel(tmp_path / "channel")
    for name, size in (("small", 1), ("medium", 2), ("large", 3)):
        support.add_package(channel, name, files={f"share/{name}.txt": name[0] * size * 1_000_000})
    root = tmp_path / "place"
    root.mkdir()
    (root / "trainenv.toml").write_text(f'channels = ["{channel}"]\n')
    return Workspace(root)


def _found(place: Workspace, *, everything: bool = False) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for item in cleaning.find_unused(place.settings, everything=everything):
        kinds.setdefault(item.kind, []).append(item.name)
    return kinds


def test_the_size_of_what_is_linked_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(b"x" * 8192)
    (tmp_path / "a/two").write_bytes(b"x" * 4096)
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a/one", tmp_path / "b/one")
    folders = [size_of([tmp_path / name]).own for name in ("a", "b")]
    assert size_of([tmp_path / "a"]).apparent == 12288
    assert folders[0] - folders[1] == 4096
    both = size_of([tmp_path / "a", tmp_path / "b"])
    assert both.apparent == 12288 + 8192
    assert both.own - sum(folders) == 8192
    assert is_linked_elsewhere(tmp_path / "b")
    assert not is_linked_elsewhere(tmp_path)
    assert size_of([tmp_path / "nothing"]) == Size()


def test_packages_go_with_the_last_environment_that_uses_them(place: Workspace) -> None:
    place.create("one", "small", "large")
    place.create("two", "large")
    assert _found(place) == {}
    place.remove("one")
    assert _found(place) == {cleaning.PACKAGES: ["small-1.0-0"]}
    before = size_of([place.settings.cache_dir])
    (removed,) = place.clean()
    after = size_of([place.settings.cache_dir])
    assert removed.size.own >= 1_000_000
    assert before.own - after.own == removed.size.own
    assert place.verify(place.environment("two")).problems == []
    place.remove("two")
    place.clean()
    assert [entry.name for entry in (place.settings.cache_dir / "pkgs").iterdir() if entry.is_dir()] == []
    assert place.verify(place.create("three", "large")).problems == []


def test_a_dry_run_removes_nothing(place: Workspace, trainenv: RunCommand) -> None:
    place.create("one", "small")
    place.remove("one")
    done = trainenv(place, "clean", "--dry-run", "--json")
    shown = json.loads(done.stdout)
    assert shown["dry_run"] is True
    assert [item["name"] for item in shown["items"]] == ["small-1.0-0"]
    assert shown["freed"] == shown["items"][0]["freed"] > 1_000_000
    assert shown["items"][0]["apparent"] > 1_000_000
    assert _found(place) == {cleaning.PACKAGES: ["small-1.0-0"]}
    assert "MB" in trainenv(place, "clean").stdout
    assert "nothing to remove" in trainenv(place, "clean").stdout


@pytest.mark.parametrize("source", ["folder", "http"])
def test_pypi_packages_go_and_come_back(
    wheels: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "folder":
        _let_pypi_packages_go_and_come_back(tmp_path)
        return
    with support.served(wheels) as url:
        monkeypatch.setenv("PIP_FIND_LINKS", f"{url}/")
        pip_settings.cache_clear()
        _let_pypi_packages_go_and_come_back(tmp_path)


def _let_pypi_packages_go_and_come_back(tmp_path: Path) -> None:
    root = tmp_path / "place"
    root.mkdir()
    (root / "trainenv.toml").write_text('channels = ["host"]\n')
    place = Workspace(root)
    both, one = tmp_path / "both.txt", tmp_path / "one.txt"
    both.write_text("needs_greeter\n")
    one.write_text("greeter<2\n")
    place.create("both", f"python={python_here()}", files=[both])
    kept = place.create("one", f"python={python_here()}", files=[one])
    assert _found(place) == {}
    place.remove("both")
    assert _found(place) == {cleaning.WHEELS: ["needs_greeter-1.0"]}
    place.clean()
    assert place.verify(kept).problems == []
    assert place.verify(place.create("again", f"python={python_here()}", files=[both])).problems == []


def test_what_another_workspace_links_is_used(place: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "trainenv.toml").write_text(
        f'cache_dir = "{place.settings.cache_dir}"\nchannels = {json.dumps(list(place.settings.channels))}\n'
    )
    made = Workspace(other).create("far", "small")
    Path("~/.conda/environments.txt").expanduser().unlink()
    assert _found(place) == {}
    place.clean(everything=True)
    assert place.verify(made).problems == []
    assert (place.settings.cache_dir / "pkgs/small-1.0-0/info/index.json").is_file()


def test_a_generation_uses_its_packages_until_all_is_cleaned(place: Workspace) -> None:
    place.create("one", "small")
    place.install("one", "medium")
    assert _found(place) == {}
    assert cleaning.GENERATIONS in _found(place, everything=True)
    place.clean(everything=True)
    assert _found(place, everything=True) == {}
    assert place.verify(place.environment("one")).problems == []


def test_the_remains_of_killed_processes_go(place: Workspace) -> None:
    code = f"""
        import os
        from trainenv.environments.staging import staged
        from trainenv.settings import load
        with staged(load({str(place.settings.root)!r}), "chat") as staging:
            (staging.path / "big").write_bytes(b"x" * 1_000_000)
            os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    leaked = place.settings.cache_dir / "pkgs" / ".tmp-leaked"
    leaked.mkdir(parents=True)
    (leaked / "half").write_bytes(b"x" * 1000)
    found = _found(place)
    assert found.keys() == {cleaning.STAGING, cleaning.PACKAGES}
    place.clean()
    assert _found(place) == {}
    assert not leaked.exists()


def test_a_package_of_an_interpreter_that_went_is_superseded(tmp_path: Path) -> None:
    root = tmp_path / "place"
    root.mkdir()
    (root / "trainenv.toml").write_text('channels = ["host"]\n')
    place = Workspace(root)
    place.create("one", f"python={python_here()}")
    (package,) = (place.settings.cache_dir / "host").glob("*/python-*.conda")
    old = package.with_name("python-3.9.1-0_host_00000000.conda")
    old.write_bytes(b"x" * 1000)
    assert _found(place) == {cleaning.HOST: [old.name]}
    place.clean()
    assert not old.exists()
    assert package.exists()


def test_channel_indexes_go_only_on_request(place: Workspace, tmp_path: Path) -> None:
    with support.served(Path(place.settings.channels[0])) as url:
        place.create("one", "small", channels=[url])
    assert _found(place) == {}
    assert cleaning.REPODATA in _found(place, everything=True)
    place.clean(everything=True)
    assert cleaning.REPODATA not in _found(place, everything=True)


def test_beside_a_running_create_nothing_is_cleaned(place: Workspace) -> None:
    place.create("one", "small")
    place.remove("one")
    with locks.part_of_cache(place.settings.cache_dir), pytest.raises(EnvironmentBusyError, match="in use"):
        place.clean()
    assert _found(place) == {cleaning.PACKAGES: ["small-1.0-0"]}


def test_creates_and_cleans_at_once_break_nothing(place: Workspace) -> None:
    creating = [
        subprocess.Popen(program(place, "create", "-n", f"env{index}", "small", "large", "-y")) for index in range(3)
    ]
    over = threading.Event()

    def clean() -> None:
        while not over.is_set():
            subprocess.run(program(place, "clean", "-y", "--all"), capture_output=True, check=False)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        assert [process.wait(timeout=120) for process in creating] == [0, 0, 0]
    finally:
        over.set()
        cleaner.join()
    for environment in place.environments():
        assert place.verify(environment).problems == []


def test_the_cache_stays_within_its_limit(place: Workspace) -> None:
    toml = place.settings.root / "trainenv.toml"
    toml.write_text(toml.read_text() + 'max_cache_size = "4.5 MB"\n')
    place = Workspace(place.settings.root)
    for name in ("small", "medium", "large"):
        place.create(name, name)
        time.sleep(0.02)
    entries = place.settings.cache_dir / "pkgs"
    assert all((entries / f"{name}-1.0-0").is_dir() for name in ("small", "medium", "large")), "linked ones stay"
    for name in ("large", "small", "medium"):
        place.remove(name)
    place.create("last", "small")
    left = {entry.name for entry in entries.iterdir() if entry.is_dir()}
    assert "small-1.0-0" in left
    assert left in ({"small-1.0-0", "large-1.0-0"}, {"small-1.0-0", "medium-1.0-0"})
    assert place.verify(place.environment("last")).problems == []


@pytest.mark.parametrize(
    ("written", "size"), [('"20 GB"', 20_000_000_000), ('"1.5 GiB"', 1_610_612_736), ("4096", 4096), ('"3k"', None)]
)
def test_a_limit_is_a_size(tmp_path: Path, written: str, size: int | None) -> None:
    from trainenv.errors import UsageError

    (tmp_path / "trainenv.toml").write_text(f"max_cache_size = {written}\n")
    if size is None:
        with pytest.raises(UsageError, match="size such as"):
            Workspace(tmp_path)
    else:
        assert Workspace(tmp_path).settings.max_cache_size == size


def test_env_list_shows_sizes(place: Workspace, trainenv: RunCommand) -> None:
    place.create("one", "large")
    place.clone(place.environment("one"), "two")
    shown = {item["name"]: item for item in json.loads(trainenv(place, "env", "list", "--sizes", "--json").stdout)}
    assert shown["one"]["size"] > 3_000_000
    assert shown["one"]["own_size"] < 1_000_000
    assert "Own size" in trainenv(place, "env", "list", "--sizes").stdout
