"""A workspace that pulls, an archive on a web server or behind ssh, and little patience."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.archives.conftest import make_prefix
from tests.archives.shipping.sshd import Far, far_side
from trainenv import Environment, Workspace
from trainenv.archives.shipping import patience


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """The workspace on machine B, with a cache of its own; a server may be silent for two seconds."""
    root = tmp_path / "b"
    root.mkdir()
    (root / "trainenv.toml").write_text("read_timeout = 2\n")
    return Workspace(root)


@pytest.fixture
def www(small_archive: Path, tmp_path: Path) -> Path:
    """A folder with the archive ``chat.tar.zst``."""
    folder = tmp_path / "www"
    folder.mkdir()
    shutil.copy(small_archive, folder / "chat.tar.zst")
    return folder


@pytest.fixture(scope="module")
def _far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with far_side(tmp_path_factory.mktemp("far") / "side") as far:
        yield far


@pytest.fixture
def far(_far: Far, monkeypatch: pytest.MonkeyPatch) -> Far:
    """A machine that ssh reaches as ``far``, with an empty home folder and nothing but Debian's programs."""
    for entry in _far.home.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    _far.set("/usr/bin:/bin")
    monkeypatch.setenv("PATH", f"{_far.home.parent / 'bin'}:{os.environ['PATH']}")
    return _far


@pytest.fixture
def chat(place: Workspace, tmp_path: Path) -> Environment:
    """An environment of 20 MB that does not compress much, on machine A."""
    return place.environment_at(make_prefix(tmp_path / "a" / "envs" / "chat"))


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's file system in the memory of this process."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def leftovers(place: Workspace) -> list[str]:
    """What transfers and unpacking left behind."""
    settings = place.settings
    staged = (settings.envs_dir / ".trainenv" / "staging").glob("*-*")
    return [str(path) for path in (*settings.cache_dir.glob("transfers/*"), *staged)]
