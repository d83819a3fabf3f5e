"""Damage real environments in every way that comes to mind; repair must put each byte back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import EnvironmentBusyError, Workspace, locks
from trainenv.environments.environment import Environment
from trainenv.environments.ownership import snapshot

SITE = f"lib/python{python_here()}/site-packages"
Damage = Callable[[Path], None]


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _flip_unseen(file: Path) -> None:
    """A bit rots on the disk: nothing but the content tells."""
    status = file.stat()
    _flip(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _make_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "inside").write_text("in the way")


def _make_a_wrong_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


DAMAGES = [Path.unlink, _flip_unseen, _truncate, _make_a_folder, _make_a_wrong_link]


def _content(prefix: Path) -> dict[str, bytes]:
    """Every file and link but bytecode and trainenv's own notes on the last change."""
    return {
        path: os.readlink(prefix / path).encode() if (prefix / path).is_symlink() else (prefix / path).read_bytes()
        for path in snapshot(prefix)
        if not path.endswith((".pyc", "trainenv/generation.json"))
    }


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for these tests alone: what they damage is linked into it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workspace(tmp_path: Path, own_cache: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "trainenv.toml").write_text(f'channels = ["host"]\ncache_dir = "{own_cache}"\n')
    return Workspace(root)


@pytest.fixture
def made(workspace: Workspace, wheels: Path, tmp_path: Path) -> Environment:
    """An environment with conda's python and a PyPI package with a script."""
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    return workspace.create("chat", f"python={python_here()}", files=[file])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda item: item.__name__.strip("_"))
@pytest.mark.parametrize(
    "paths",
    [
        (f"lib/python{python_here()}/json/decoder.py", f"bin/pydoc{python_here()}", f"{SITE}/greeter/__init__.py"),
        (f"{SITE}/greeter-1.0.dist-info/METADATA", "bin/greet"),
        (f"{SITE}/greeter-1.0.dist-info/RECORD",),
    ],
    ids=["code", "metadata", "record"],
)
def test_damaged_files_are_put_back(
    workspace: Workspace, made: Environment, paths: tuple[str, ...], damage: Damage
) -> None:
    before = _content(made.prefix)
    for path in paths:
        damage(made.prefix / path)
    assert not workspace.verify(made, imports=False).ok
    done = workspace.repair("chat")
    assert done.unmended == []
    assert done.mended
    assert _content(made.prefix) == before
    assert workspace.verify(made).problems == []
    greeting = subprocess.run([made.prefix / "bin" / "greet"], capture_output=True, text=True, check=True).stdout
    assert greeting == f"hello from {made.prefix}\n"


@pytest.mark.parametrize("target", ["/bin/sh", "nowhere", "pip"])
def test_a_wrong_link_leads_back_where_it_should(workspace: Workspace, made: Environment, target: str) -> None:
    before = _content(made.prefix)
    link = made.prefix / "bin" / "python3"
    link.unlink()
    link.symlink_to(target)
    assert any("bin/python3" in line for line in workspace.verify(made, imports=False).problems)
    assert workspace.repair("chat").ok
    assert _content(made.prefix) == before


@pytest.mark.parametrize("path", ["bin/greet", f"bin/python{python_here()}", "bin/pip"])
def test_a_program_that_can_not_be_started_can_again(workspace: Workspace, made: Environment, path: str) -> None:
    file = made.prefix / path
    file.chmod(0o644)
    assert any("is not executable" in line for line in workspace.verify(made, imports=False).problems)
    assert workspace.repair("chat").unmended == []
    assert file.stat().st_mode & 0o111 == 0o111
    assert workspace.verify(made).problems == []


@pytest.mark.parametrize("name", ["python", "setuptools"])
@pytest.mark.parametrize("damage", [Path.unlink, _truncate, _make_a_folder], ids=lambda item: item.__name__.strip("_"))
def test_a_lost_conda_record_is_written_again(
    workspace: Workspace, made: Environment, name: str, damage: Damage
) -> None:
    before = _content(made.prefix)
    (record,) = (made.prefix / "conda-meta").glob(f"{name}-[0-9]*.json")
    damage(record)
    assert any(record.name in line for line in workspace.verify(made, imports=False).problems)
    assert workspace.repair("chat").unmended == []
    after = _content(made.prefix)
    assert after.keys() == before.keys()
    own = f"conda-meta/{record.name}"
    assert {path for path in before if before[path] != after[path]} <= {own}
    assert json.loads(after[own])["files"] == json.loads(before[own])["files"]
    assert workspace.verify(made).problems == []


def test_a_lost_dist_info_is_installed_again(workspace: Workspace, made: Environment) -> None:
    before = _content(made.prefix)
    shutil.rmtree(made.prefix / SITE / "greeter-1.0.dist-info")
    assert any("greeter is not installed" in line for line in workspace.verify(made, imports=False).problems)
    done = workspace.repair("chat")
    assert done.unmended == []
    assert any("greeter" in line for line in done.mended)
    assert _content(made.prefix) == before


def test_many_damages_are_mended_at_once(workspace: Workspace, made: Environment) -> None:
    before = _content(made.prefix)
    shutil.rmtree(made.prefix / "bin")
    shutil.rmtree(made.prefix / SITE / "needs_greeter")
    shutil.rmtree(made.prefix / f"lib/python{python_here()}/email")
    (made.prefix / "conda-meta/history").unlink()
    done = workspace.repair("chat")
    assert done.unmended == []
    after = _content(made.prefix)
    assert {path for path in before if before.get(path) != after.get(path)} == {"conda-meta/history"}
    assert workspace.verify(made).problems == []


def test_a_lost_lock_is_written_again(workspace: Workspace, made: Environment) -> None:
    lock = made.prefix / "conda-meta/trainenv/pixi.lock"
    before = lock.read_text()
    lock.unlink()
    assert workspace.repair("chat").ok
    assert lock.read_text() == before


def test_a_whole_environment_is_left_alone(workspace: Workspace, made: Environment) -> None:
    before = snapshot(made.prefix)
    done = workspace.repair("chat")
    assert (done.mended, done.unmended) == ([], [])
    assert snapshot(made.prefix) == before


def test_what_the_user_put_there_stays(workspace: Workspace, made: Environment) -> None:
    (made.prefix / "share").mkdir(exist_ok=True)
    (made.prefix / "share/mine.txt").write_text("mine")
    _flip(made.prefix / "bin/pip")
    assert workspace.verify(made).unknown == ["share/mine.txt"]
    assert workspace.repair("chat").ok
    assert (made.prefix / "share/mine.txt").read_text() == "mine"


def test_a_package_that_replaced_condas_stays_its_owner(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    file = tmp_path / "requirements.txt"
    file.write_text("setuptools>=999\n")
    made = workspace.create("chat", f"python={python_here()}", files=[file])
    before = _content(made.prefix)
    _flip(made.prefix / SITE / "setuptools/__init__.py")
    _flip(made.prefix / f"lib/python{python_here()}/json/decoder.py")
    assert workspace.repair("chat").unmended == []
    assert _content(made.prefix) == before
    assert [item.version for item in made.packages if item.name == "setuptools"] == ["999.0"]


def test_what_the_users_own_pip_brought_can_not_be_mended(
    workspace: Workspace, made: Environment, wheels: Path, trainenv: RunCommand
) -> None:
    support.make_wheel(wheels, "sideways")
    subprocess.run(
        [made.prefix / "bin/python", "-m", "pip", "install", "-q", "--no-index", "-f", wheels, "sideways"], check=True
    )
    _flip(made.prefix / SITE / "sideways/__init__.py")
    _flip(made.prefix / SITE / "greeter/__init__.py")
    done = trainenv(workspace, "env", "repair", "chat", "--json")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert any("greeter/__init__.py" in line for line in result["mended"])
    (line,) = result["unmended"]
    assert "nobody knows where it came from" in line
    assert "trainenv pip install -n chat sideways==1.0" in line


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(
        folder,
        "tool",
        files={"share/tool.txt": "data\n"},
        prefix_files={"bin/tool": "#!/bin/sh\necho @PREFIX@\n", "etc/tool.conf": "home=@PREFIX@\n"},
    )
    return folder


@pytest.mark.parametrize("path", ["bin/tool", "etc/tool.conf", "share/tool.txt"])
def test_without_its_channel_the_cache_is_enough(tmp_path: Path, channel: Path, path: str) -> None:
    place = Workspace(tmp_path / "alone")
    made = place.create("tools", "tool", channels=[str(channel)])
    shutil.rmtree(channel)
    before = _content(made.prefix)
    (made.prefix / path).unlink()
    assert place.repair("tools").unmended == []
    assert _content(made.prefix) == before


def test_an_edit_in_place_is_undone_in_environment_and_cache(tmp_path: Path, channel: Path) -> None:
    place = Workspace(tmp_path / "alone")
    made = place.create("tools", "tool", channels=[str(channel)])
    _flip_unseen(made.prefix / "share/tool.txt")
    assert place.repair("tools").unmended == []
    assert (made.prefix / "share/tool.txt").read_text() == "data\n"
    other = place.create("other", "tool", channels=[str(channel)])
    assert (other.prefix / "share/tool.txt").read_text() == "data\n"


def test_offline_nothing_is_asked_and_that_is_said(tmp_path: Path, channel: Path) -> None:
    place = Workspace(tmp_path / "alone")
    with support.guarded(channel) as server:
        made = place.create("tools", "tool", channels=[server.url])
        shutil.rmtree(place.settings.cache_dir / "pkgs")
        (made.prefix / "share/tool.txt").unlink()
        asked = len(server.requests)
        offline = place.settings.root / "trainenv.toml"
        offline.write_text("offline = true\n")
        (line,) = Workspace(place.settings.root).repair("tools").unmended
        assert "offline" in line
        assert len(server.requests) == asked
        offline.unlink()
        assert Workspace(place.settings.root).repair("tools").unmended == []
    assert (made.prefix / "share/tool.txt").read_text() == "data\n"


def test_nothing_can_be_mended_without_channel_and_cache(
    tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workspace(tmp_path / "alone")
    made = place.create("tools", "tool", channels=[str(channel)])
    shutil.rmtree(place.settings.cache_dir)
    shutil.rmtree(channel)
    (made.prefix / "share/tool.txt").unlink()
    before = _content(made.prefix)
    done = place.repair("tools")
    assert done.mended == []
    (line,) = done.unmended
    assert "share/tool.txt of tool is missing" in line
    assert str(channel) in line
    assert _content(made.prefix) == before


def test_an_environment_moved_by_hand_gets_its_new_prefix(workspace: Workspace, made: Environment) -> None:
    moved = made.prefix.with_name("talk")
    made.prefix.rename(moved)
    found = workspace.verify(workspace.environment("talk"))
    assert any(str(made.prefix) in note for note in found.notes)
    assert workspace.repair("talk").mended == []
    done = workspace.repair("talk", relocate=True)
    assert done.unmended == []
    assert done.mended == [f"the files carry the prefix {moved} now, instead of {made.prefix}"]
    assert workspace.verify(workspace.environment("talk"), old_prefixes=[str(made.prefix)]).problems == []
    greeting = subprocess.run([moved / "bin" / "greet"], capture_output=True, text=True, check=True).stdout
    assert greeting == f"hello from {moved}\n"


def test_an_environment_in_use_is_not_repaired_under_it(workspace: Workspace, made: Environment) -> None:
    _flip(made.prefix / "bin/pip")
    before = _content(made.prefix)
    descriptor = locks.shared(workspace.settings, "chat")
    assert descriptor is not None
    try:
        with pytest.raises(EnvironmentBusyError):
            workspace.repair("chat")
    finally:
        os.close(descriptor)
    assert _content(made.prefix) == before


def test_a_record_that_comes_back_needs_nothing_that_pypi_has_replaced(workspace: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    made = workspace.create("chat", f"python={python_here()}")
    workspace.install("chat", requirements=["setuptools>=999"])
    record = next((made.prefix / "conda-meta").glob("python-3*.json"))
    needed = json.loads(record.read_bytes())["depends"]
    record.unlink()
    assert workspace.repair("chat").ok
    assert json.loads(record.read_bytes())["depends"] == needed
    assert workspace.verify(workspace.environment("chat")).problems == []
