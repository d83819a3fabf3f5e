"""What code a task ran: hashes of the method's files and the commit they belong to."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

_HASHED_WHOLE_BYTES = 1 << 20
_GIT_PATIENCE_SECONDS = 5.0


def folder_hash(folder: Path) -> str:
    """One sha256, in hexadecimal, over a method's folder: each file's relative path and content.

    Of files over 1 MiB (data that lies beside the code) only the size counts. Hidden files,
    ``__pycache__`` and what can't be read are left out.
    """
    total = hashlib.sha256()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(root, name)
            if not file.is_file() or not os.access(file, os.R_OK):
                continue
            size = file.stat().st_size
            content = hashlib.sha256(file.read_bytes()).hexdigest() if size <= _HASHED_WHOLE_BYTES else ""
            total.update(f"{file.relative_to(folder)}\0{size}\0{content}\0".encode(errors="surrogateescape"))
    return total.hexdigest()


def git_commit(folder: Path) -> str | None:
    """The commit checked out where ``folder`` lies, if it is under git and git is there."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_GIT_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
