"""What the solver said to the very same question, kept as a lock in the cache.

A question is everything that the answer depends on: specs, channels, priority, the machine's virtual
packages, the day. The answer holds as long as the indexes of all channels are the files they were: same
inode, size and times. Only indexes that lie on this machine can be held against that, so what
came over http is asked anew each time, from py-rattler's own cache of the index.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from trainenv.sharing import make_folder, shared_umask

if TYPE_CHECKING:
    from rattler import RepoDataRecord

FOLDER = "solved"
"""Where in the cache the answers lie: ``KEY.lock``, and ``KEY.json`` with the state of the indexes."""

_FORMAT = 1
_INDEXES = ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst")
_SETTLED_SECONDS = 2.0
"""An index that was written this short a time ago could be written again without showing it in its times."""

State = dict[str, list[int]]


@dataclass(frozen=True)
class Question:
    """``key`` names it, ``urls`` are those of its channels, ``platforms`` the folders of these that are read."""

    key: str
    urls: tuple[str, ...]
    platforms: tuple[str, ...]

    @classmethod
    def of(cls, urls: Sequence[str], platforms: Sequence[str], rest: Sequence[object]) -> Question | None:
        """The question to the channels at ``urls``; ``rest`` is all else that the answer depends on.

        None where an answer can't be kept because one of the channels is not on this machine.
        """
        if not all(url.startswith("file:") for url in urls):
            return None
        import rattler

        asked = json.dumps([_FORMAT, rattler.__version__, list(urls), list(platforms), list(rest)])
        return cls(hashlib.sha256(asked.encode()).hexdigest()[:32], tuple(urls), tuple(platforms))

    def state(self) -> State:
        """Inode, size and times of each index that is there, by its path."""
        found: State = {}
        for url in self.urls:
            for platform in self.platforms:
                for name in _INDEXES:
                    file = os.path.join(unquote(urlsplit(url).path), platform, name)
                    with suppress(OSError):
                        status = os.stat(file)
                        found[file] = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        return found


def recall(cache_dir: Path, question: Question) -> list[RepoDataRecord] | None:
    """The answer to ``question``, None where it is not known or the channels have changed."""
    place = cache_dir / FOLDER
    try:
        kept = json.loads((place / f"{question.key}.json").read_bytes())
        text = (place / f"{question.key}.lock").read_bytes()
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("state") != question.state() or kept.get("lock") != _digest(text):
        return None
    return _read(place / f"{question.key}.lock", kept.get("order"))


def keep(cache_dir: Path, question: Question, before: State, records: Sequence[RepoDataRecord]) -> None:
    """Keep ``records`` as the answer to ``question``; ``before`` is the state when it was asked.

    Not kept is an answer whose channels were changed meanwhile or just before, nor one that
    a lock can't hold to the last field. What can't be written is no error: it will be solved again.
    """
    now = time.time_ns()
    settled = all(max(times[2:]) + _SETTLED_SECONDS * 1e9 < now for times in before.values())
    if not settled or question.state() != before:
        return
    from rattler.exceptions import IoError

    place = cache_dir / FOLDER
    try:
        make_folder(place)
        with shared_umask(place):
            _write(place, question, before, records)
    except (OSError, IoError):
        with suppress(OSError):
            _beside(place, question).unlink()


def _beside(place: Path, question: Question) -> Path:
    return place / f".{question.key}.{os.getpid()}.lock"


def _write(place: Path, question: Question, before: State, records: Sequence[RepoDataRecord]) -> None:
    """Write the answer beside its place, and move it there if it can be read back."""
    from rattler import LockChannel, LockFile, LockPlatform

    beside = _beside(place, question)
    platform = LockPlatform(question.platforms[0])
    lock = LockFile([platform])
    lock.set_channels("default", [LockChannel(url) for url in question.urls])
    for record in records:
        lock.add_conda_package("default", platform, record)
    lock.to_path(beside)
    order = [record.url for record in records]
    back = _read(beside, order)
    if back is None or [record.to_json() for record in back] != [record.to_json() for record in records]:
        beside.unlink()
        return
    content = {"state": before, "lock": _digest(beside.read_bytes()), "order": order}
    os.replace(beside, place / f"{question.key}.lock")
    beside.write_text(json.dumps(content), encoding="utf-8")
    os.replace(beside, place / f"{question.key}.json")


def _read(lock: Path, order: Any) -> list[RepoDataRecord] | None:
    """The records in ``lock``, in the ``order`` of these URLs, which a lock does not keep."""
    from rattler import LockFile

    try:
        environment = LockFile.from_path(lock).default_environment()
        if environment is None:
            return None
        platform = environment.platforms()[0]
        found = {record.url: record for record in environment.conda_repodata_records_for_platform(platform) or ()}
        return [found[url] for url in order] if len(order) == len(found) else None
    except Exception:  # Whatever is wrong with it, solving anew mends it.
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
