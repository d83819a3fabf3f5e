"""``push`` to places that keep archives: folders, web servers, file systems of fsspec."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from tests.archives.shipping.web import serving
from tests.conftest import RunCommand
from trainenv import Environment, Workspace
from trainenv.errors import ArchiveError, UsageError

LOGIN = "Basic bWU6c2VjcmV0"  # me:secret


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The folder that a web server serves, or an empty one."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def test_to_a_folder(place: Workspace, chat: Environment, shelf: Path, trainenv: RunCommand) -> None:
    done = trainenv(place, "push", "-p", str(chat.prefix), str(shelf))
    assert done.returncode == 0, done.stderr
    assert f"is at {shelf}/chat.tar.zst" in done.stdout
    assert f"Fetch it from there: trainenv pull {shelf}/chat.tar.zst" in done.stdout
    assert place.push(chat, f"file://{shelf}/other.tar.gz").place == f"{shelf}/other.tar.gz"
    assert (shelf / "other.tar.gz").read_bytes().startswith(b"\x1f\x8b")
    with pytest.raises(ArchiveError, match=r"chat\.tar\.zst exists already"):
        place.push(chat, f"{shelf}/")
    place.push(chat, str(shelf), replace=True)
    assert sorted(os.listdir(shelf)) == ["chat.tar.zst", "other.tar.gz"]
    with pytest.raises(ArchiveError, match=r"can't be written.*Name a folder that is there"):
        place.push(chat, "/proc/chat.tar.zst")


def test_to_a_file_system_of_fsspec_and_back(
    place: Workspace, chat: Environment, memory: fsspec.AbstractFileSystem, shelf: Path
) -> None:
    pushed = place.push(chat, "memory://archives/", name="tabular")
    assert (pushed.place, pushed.is_archive) == ("memory://archives/tabular.tar.zst", True)
    assert place.pull(pushed.place).name == "chat"
    with pytest.raises(ArchiveError, match="exists already"):
        place.push(chat, pushed.place)
    place.push(chat, f"dir://tabular.tar.zst::file://{shelf}")
    assert os.listdir(shelf) == ["tabular.tar.zst"]
    with pytest.raises(UsageError, match="are for other machines"):
        place.push(chat, "memory://x", trainenv="none")


def test_to_a_web_server_and_back(place: Workspace, chat: Environment, shelf: Path, own_home: Path) -> None:
    (own_home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with serving(shelf, takes=True, login=LOGIN) as web:
        pushed = place.push(chat, f"{web.url}/chat.tar.zst")
        assert place.pull(pushed.place).name == "chat"
        with pytest.raises(ArchiveError, match="exists already"):
            place.push(chat, pushed.place)
        web.behaviour.statuses = [503, 503]
        place.push(chat, f"{web.url}/again.tar.zst")
        with serving(shelf, redirect=web.url) as door:
            place.push(chat, f"{door.url}/third.tar.zst")
    assert len(os.listdir(shelf)) == 3


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({}, "HTTP status 405 .*takes no files by PUT"),
        ({"login": LOGIN}, "HTTP status 401 .*Give a login"),
        ({"takes": True, "keeps": 1000}, "is not what was sent"),
        ({"statuses": [503] * 20}, "can't be reached: HTTP status 503"),
    ],
)
def test_web_servers_that_do_not_keep_it(
    place: Workspace, chat: Environment, shelf: Path, behaviour: dict[str, object], words: str
) -> None:
    with serving(shelf, **behaviour) as web, pytest.raises(ArchiveError, match=words):  # type: ignore[arg-type]
        place.push(chat, f"{web.url}/chat.tar.zst")
