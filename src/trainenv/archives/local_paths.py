"""Finds what an archive's files still say of the machine it was made on, where that matters.

Looked at is what programs read paths from: settings and build files, scripts, ``.pth`` files, the library
search paths of ELF files. Not the sources of packages, which mention home folders in many an example.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trainenv.progress import Reporter
from trainenv.relocation import elf
from trainenv.relocation.search import holds

_SUFFIXES = (
    *(".pth", ".egg-link", ".pc", ".la", ".cmake", ".cfg", ".conf", ".ini", ".toml", ".yaml", ".yml", ".env"),
    *(".sh", ".csh", ".fish", ".xsh", ".condarc", ".desktop", "/kernel.json", "/Makefile", "_finder.py"),
)
_FOLDERS = ("bin/", "etc/")
_LARGEST = 1 << 18
_MOST_NAMED = 20
_TOO_COMMON = frozenset({"/", "/usr", "/opt", "/home", "/tmp", "/var", "/root"})


class LocalPaths:
    """Gathers the files that name one of ``folders`` of this machine."""

    def __init__(self, folders: Iterable[str | Path]) -> None:
        spelled = {os.path.abspath(folder) for folder in folders}
        spelled |= {os.path.realpath(folder) for folder in spelled}
        self._folders = sorted(spelled - _TOO_COMMON, key=lambda folder: (-len(folder), folder))
        self._found: dict[str, str] = {}

    def look(self, path: str, content: bytes) -> None:
        """Note the member ``path`` if its ``content``, as packed, names one of the folders."""
        if path.startswith("conda-meta/"):
            return  # Records of where things came from; nothing is found by them.
        if content.startswith(elf.MAGIC):
            texts = [text for _, text in elf.rpaths(content)]
        elif len(content) <= _LARGEST and (path.endswith(_SUFFIXES) or path.startswith(_FOLDERS)):
            texts = [content] if b"\0" not in content else []
        else:
            return
        for folder in self._folders:
            if any(holds(text, folder, path) for text in texts):
                self._found[path] = folder
                return

    def tell(self, reporter: Reporter) -> None:
        """Say which files name what, the first of many."""
        for path, folder in list(self._found.items())[:_MOST_NAMED]:
            reporter.notice(f"{path} names {folder}, which the other machine may not have")
        if (more := len(self._found) - _MOST_NAMED) > 0:
            reporter.notice(f"{more} more files name folders of this machine")
