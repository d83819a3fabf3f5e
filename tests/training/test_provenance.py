"""The hash of a method's code tells any two versions of it apart, and only those."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trainenv.training.provenance import folder_hash, git_commit


def test_the_hash_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one")
    first = folder_hash(tmp_path)
    (tmp_path / "train.py").write_text("two")
    second = folder_hash(tmp_path)
    (tmp_path / "train.py").rename(tmp_path / "main.py")
    third = folder_hash(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "more.py").touch()
    assert len({first, second, third, folder_hash(tmp_path)}) == 4


def test_what_running_leaves_behind_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one")
    before = folder_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "train.cpython-311.pyc").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert folder_hash(tmp_path) == before


def test_the_hash_is_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    for place in ("here", "there/deep"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "b.py").write_text("b")
        (tmp_path / place / "a.py").write_text("a")
    assert folder_hash(tmp_path / "here") == folder_hash(tmp_path / "there/deep")


def test_the_commit_is_the_one_checked_out(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    method = tmp_path / "methods" / "probe"
    method.mkdir(parents=True)
    assert git_commit(method) is None
    git("init", "-q")
    assert git_commit(method) is None
    git("commit", "-q", "--allow-empty", "-m", "first")
    assert git_commit(method) == git("rev-parse", "HEAD")
