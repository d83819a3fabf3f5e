"""Which commit a method's code belongs to."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_GIT_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Commit:
    """The commit checked out; ``dirty`` where the method's folder is not as it has it."""

    sha: str
    dirty: bool


class GitQuestion:
    """Asks git about ``folder`` while other things are done; ``answer`` waits for what it says."""

    def __init__(self, folder: Path) -> None:
        self._git: subprocess.Popen[str] | None = None
        if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
            return
        command = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--", "."]
        try:
            self._git = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError:
            pass

    def answer(self) -> Commit | None:
        """The commit; None where the folder is not under git, or git is missing, refuses, or takes too long."""
        if self._git is None:
            return None
        try:
            said, _ = self._git.communicate(timeout=_GIT_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._git.kill()
            self._git.communicate()
            return None
        lines = said.splitlines()
        head = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
        if self._git.returncode != 0 or head == "(initial)":
            return None
        return Commit(head, any(not line.startswith("# ") for line in lines))
