"""What the environments of this machine hold, for another one that wants to leave that out of what it sends.

Nothing more is claimed than what is there. A file that ``content_index`` knows is not read: it holds what it held.
Where an archive would have another content of it, because the prefix is in it, and where nobody knows the file yet, it
is read and made canonical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from trainenv.archives import local_files
from trainenv.archives.canonical_files import ChangedError, LocalEnvironment
from trainenv.archives.delta import DIGITS, OtherSide
from trainenv.archives.hashes_ahead import HashesAhead
from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import RECORDS_DIR
from trainenv.environments.content_index import ContentIndex, regular_files
from trainenv.environments.environment import Environment
from trainenv.errors import EnvironmentBusyError, MountError
from trainenv.progress import Reporter
from trainenv.settings import Settings

_PASSED_OVER = ("envs/", "pkgs/", f"{RECORDS_DIR}/")
"""What conda keeps below its base environment, and our own records: nobody looks there for files of an archive."""


def contents_of(settings: Settings, environments: Sequence[Environment], reporter: Reporter) -> OtherSide:
    """What ``environments`` hold, by canonical content. One that is changed now, or can't be mounted, is left out."""
    contents: set[str] = set()
    names = []
    with ContentIndex(settings.cache_dir) as index:
        for environment in environments:
            try:
                with local_files.held(environment.prefix), reporter.step(f"look at {environment.name}"):
                    contents.update(digest[:DIGITS] for digest in held(environment.prefix, index))
            except (EnvironmentBusyError, MountError) as error:
                reporter.notice(f"{environment.name} is left out: {error}")
                continue
            names.append(environment.name)
    return OtherSide(tuple(names), frozenset(contents))


def held(prefix: Path, index: ContentIndex) -> Iterator[str]:
    """The sha256 of each file of the environment at ``prefix`` as an archive would have it, in no special order.

    What can't be read is passed over.
    """
    environment = LocalEnvironment(prefix)
    files = [(path, status) for path, status in regular_files(prefix) if not path.startswith(_PASSED_OVER)]
    hashes = HashesAhead(index)
    try:
        hashes.begin((path, f"{prefix}/{path}") for path, _ in files)
        for path, status in files:
            known = None if _may_differ(path, environment) else index.sha256(status)
            if known is not None:
                yield known
                continue
            with suppress(OSError, ChangedError), environment.opened(path) as found:
                yield hashes.of(path, found)
    finally:
        hashes.close()


def _may_differ(path: str, environment: LocalEnvironment) -> bool:
    """Whether an archive has another content of the file than the environment, as far as its path tells."""
    if path.endswith(".pyc"):
        return (source_of(path) or path) in environment.records or path in environment.records
    return path in environment.records or path.startswith("conda-meta/")
