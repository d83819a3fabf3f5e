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
from trainenv.archives.canonical_files import LocalEnvironment
from trainenv.environments import environment, mounts
from trainenv.errors import EnvironmentBusyError, MountError
from trainenv.settings import Settings

_OF_PYTHON = re.compile(r"lib/(python3\.\d+)/")
_RECORD = re.compile(r"conda-meta/[^/]+\.json\Z|lib/python[^/]+/site-packages/[^/]+\.dist-info/RECORD\Z")


class Candidate(NamedTuple):
    """A regular file of the environment at ``root``; ``path`` is relative to that."""

    root: str
    path: str
    status: os.stat_result

    @property
    def place(self) -> str:
        return f"{self.root}/{self.path}"


class Twin(NamedTuple):
    """What a file can become a link to: one of the environment at ``root``, there at ``path`` (empty: at the same).

    ``state`` is what ``unwritten`` said of it when it was hashed.
    """

    root: str
    path: str
    state: bytes

    def place(self, path: str) -> str:
        """Where it is, as a twin of the file at ``path``."""
        return f"{self.root}/{self.path or path}"


class LocalFiles:
    """The files of the environments at ``prefixes``; those with the most packages of the paths ``wanted`` first."""

    def __init__(self, prefixes: Sequence[Path], wanted: Iterable[str]) -> None:
        records = [path for path in wanted if _RECORD.match(path)] if prefixes else []
        self._pythons = {os.fspath(prefix): _python_of(prefix) for prefix in prefixes}
        shared = {
            root: sum(os.path.exists(f"{root}/{self._as_in(root, path)}") for path in records) for root in self._pythons
        }
        self._roots = sorted((root for root in shared if shared[root]), key=lambda root: -shared[root])
        self._folders: dict[str, bool] = {}
        self._environments: dict[str, LocalEnvironment] = {}

    @property
    def may_have_any(self) -> bool:
        """Whether any environment has a package of those."""
        return bool(self._roots)

    def candidates(self, path: str) -> Iterator[Candidate]:
        """The files that are where ``path`` is, or would be with another Python, in each environment like it."""
        for root in self._roots:
            inside = self._as_in(root, path)
            if not self._has_folder(f"{root}/{os.path.dirname(inside)}"):
                continue
            try:
                status = os.lstat(f"{root}/{inside}")
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield Candidate(root, inside, status)

    def all(self) -> Iterator[Candidate]:
        """Every regular file of all environments, but for what is about each itself."""
        for root in self._pythons:
            for folder, _, names in os.walk(root):
                inside = "" if folder == root else f"{folder[len(root) + 1 :]}/"
                for name in names:
                    try:
                        status = os.lstat(f"{folder}/{name}")
                    except OSError:
                        continue
                    if stat.S_ISREG(status.st_mode):
                        yield Candidate(root, inside + name, status)

    def environment(self, root: str) -> LocalEnvironment:
        """The environment at ``root``, whose files can be had in their canonical form."""
        if root not in self._environments:
            self._environments[root] = LocalEnvironment(Path(root))
        return self._environments[root]

    def _as_in(self, root: str, path: str) -> str:
        """Where ``path`` would be in the environment at ``root``, whatever Python that has."""
        python = self._pythons[root]
        match = _OF_PYTHON.match(path) if python else None
        return path if match is None else f"lib/{python}/{path[match.end() :]}"

    def _has_folder(self, folder: str) -> bool:
        there = self._folders.get(folder)
        if there is None:
            there = self._folders[folder] = os.path.isdir(folder)
        return there


@contextmanager
def held(prefix: Path) -> Iterator[None]:
    """The environment at ``prefix`` to be read: nobody changes it in this block, and it is mounted if it is to be.

    Raises ``EnvironmentBusyError``, ``MountError``.
    """
    with locks.in_use(prefix):
        mounts.ensure(prefix)
        yield


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
                stack.enter_context(held(found.prefix))
            except (EnvironmentBusyError, MountError):
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
