"""Folders of a group: what is made there is open to the group, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainenv import sharing


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    former = os.umask(request.param)
    yield request.param
    os.umask(former)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o2775)
    return folder


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2755])
def test_only_a_setgid_and_group_writable_folder_is_shared(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert sharing.group_of(tmp_path) is None
    tmp_path.chmod(0o2770)
    assert sharing.group_of(tmp_path / "not" / "there" / "yet") == tmp_path.stat().st_gid


def test_folders_and_files_are_made_for_the_group(shared: Path, umask: int) -> None:
    sharing.make_folder(shared / "a" / "b")
    assert _mode(shared / "a" / "b") & 0o2070 == 0o2070
    os.close(sharing.open_file(shared / "a" / "lock", os.O_RDONLY))
    assert _mode(shared / "a" / "lock") & 0o060 == 0o060
    with sharing.shared_umask(shared):
        (shared / "a" / "file").write_text("")
    assert _mode(shared / "a" / "file") & 0o060 == 0o060
    assert os.umask(umask) == umask


def test_elsewhere_the_umask_is_kept(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(0o755)
    sharing.make_folder(tmp_path / "a")
    os.close(sharing.open_file(tmp_path / "a" / "lock", os.O_RDONLY))
    with sharing.shared_umask(tmp_path):
        (tmp_path / "a" / "file").write_text("")
    assert _mode(tmp_path / "a") == 0o777 & ~umask
    assert _mode(tmp_path / "a" / "lock") == _mode(tmp_path / "a" / "file") == 0o666 & ~umask


def test_a_tree_is_opened_as_far_as_its_owner_has_it(shared: Path, umask: int) -> None:
    tree = shared / "tree"
    (tree / "inner").mkdir(parents=True)
    for name, mode in (("program", 0o700), ("data", 0o600), ("read-only", 0o400)):
        (tree / "inner" / name).write_text("")
        (tree / "inner" / name).chmod(mode)
    (tree / "link").symlink_to("/etc/hostname")
    sharing.open_tree(tree, shared.stat().st_gid)
    assert [_mode(tree / "inner" / name) for name in ("program", "data", "read-only")] == [0o770, 0o660, 0o440]
    assert _mode(tree / "inner") & 0o2070 == 0o2070


def test_only_new_entries_of_a_big_folder_are_looked_at(shared: Path) -> None:
    for name in ("old", "new"):
        (shared / name).mkdir()
        (shared / name).chmod(0o700)
    since = (shared / "new").stat().st_ctime
    sharing.open_changed(shared, shared.stat().st_gid, since + 1)
    assert _mode(shared / "new") == 0o700
    sharing.open_changed(shared, shared.stat().st_gid, since)
    assert _mode(shared / "new") == 0o2770
