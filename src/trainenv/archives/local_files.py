"""The files of the environments of this machine, as something that an archive's members may be found among."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from trainenv import locks
from trainenv.archives.manifest import File
from trainenv.environments import environment
from trainenv.errors import EnvironmentBusyError
from trainenv.settings import Settings

_OF_PYTHON = re.compile(r"lib/(python3\.\d+)/")
_RECORD = re.compile(r"conda-meta/[^/]+\.json\Z|lib/python[^/]+/site-packages/[^/]+\.dist-info/RECORD\Z")


class Candidate(NamedTuple):
    """A regular file at the place in an environment where a member would be."""

    place: str
    status: os.stat_result


class LocalFiles:
    """The files of the environments at ``prefixes``; those with the most packages of ``wanted`` come first."""

    def __init__(self, prefixes: Sequence[Path], wanted: Sequence[File]) -> None:
        records = [file.path for file in wanted if _RECORD.match(file.path)]
        self._pythons = {os.fspath(prefix): _python_of(prefix) for prefix in prefixes}
        shared = {root: sum(map(os.path.exists, self._places(root, records))) for root in self._pythons}
        self._roots = sorted((root for root in shared if shared[root]), key=lambda root: -shared[root])
        self._folders: dict[str, bool] = {}

    def candidates(self, path: str) -> Iterator[Candidate]:
        """The files that are where ``path`` is, or would be with another Python, in each environment."""
        for root in self._roots:
            (place,) = self._places(root, [path])
            if not self._has_folder(os.path.dirname(place)):
                continue
            try:
                status = os.lstat(place)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield Candidate(place, status)

    def _places(self, root: str, paths: Iterable[str]) -> Iterator[str]:
        """Where each of ``paths`` would be in the environment at ``root``, whatever Python that has."""
        python = self._pythons[root]
        for path in paths:
            match = _OF_PYTHON.match(path) if python else None
            yield f"{root}/{path}" if match is None else f"{root}/lib/{python}/{path[match.end() :]}"

    def _has_folder(self, folder: str) -> bool:
        there = self._folders.get(folder)
        if there is None:
            there = self._folders[folder] = os.path.isdir(folder)
        return there


@contextmanager
def environments_of_machine(settings: Settings, *, but: Path | None = None) -> Iterator[list[Path]]:
    """The prefixes of all environments that this user knows of and nobody changes now; nobody does in this block.

    The one at ``but``, which is about to be made, is none of them.
    """
    with ExitStack() as stack:
        prefixes = []
        for found in [*environment.list_all(settings), *environment.list_foreign(settings)]:
            if found.prefix == but:
                continue
            try:
                stack.enter_context(locks.in_use(found.prefix))
            except EnvironmentBusyError:
                continue
            prefixes.append(found.prefix)
        yield prefixes


def _python_of(prefix: Path) -> str | None:
    """As ``python3.11``; None without any, or with several."""
    try:
        found = [name for name in os.listdir(prefix / "lib") if re.fullmatch(r"python3\.\d+", name)]
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
