"""The commit of a method's code."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trainenv.training.provenance import Commit, GitQuestion


def commit_of(folder: Path) -> Commit | None:
    return GitQuestion(folder).answer()


def test_the_commit_is_the_one_checked_out_and_changes_show(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    method = tmp_path / "methods" / "probe"
    method.mkdir(parents=True)
    (method / "train.py").write_text("one")
    assert commit_of(method) is None
    git("init", "-q")
    assert commit_of(method) is None
    git("commit", "-q", "--allow-empty", "-m", "first")
    assert commit_of(method) == Commit(git("rev-parse", "HEAD"), dirty=True)
    git("add", "methods")
    git("commit", "-q", "-m", "second")
    (tmp_path / "elsewhere").touch()
    assert commit_of(method) == Commit(git("rev-parse", "HEAD"), dirty=False)
    (method / "train.py").write_text("two")
    assert commit_of(method) == Commit(git("rev-parse", "HEAD"), dirty=True)
