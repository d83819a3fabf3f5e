"""What has come of a file elsewhere, kept until all of it has: the next try need not fetch it again.

A folder of ``cache_dir/transfers`` for each file and state of it, locked by who is fetching. In it ``parts``
holds parts one after the other, as they came, and ``index`` has a line for each: where it begins in the
remote file, its length, where it begins in ``parts``, the BLAKE2 of its content. So a part that a kill cut
short, or that a disk spoiled, is not believed. The folder ``files`` in it is for files that are fetched from their
beginning.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainenv.errors import TransferError
from trainenv.sharing import make_folder, open_file

FOLDER = "transfers"


class Kept:
    """The folder of one transfer, which is this process' alone until ``close``."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._parts = os.open(folder / "parts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._index = os.open(folder / "index", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._known = _read_index(folder / "index")
        self._end = os.fstat(self._parts).st_size
        self._writing = threading.Lock()

    def has(self, start: int, length: int) -> bool:
        """Whether the ``length`` bytes from ``start`` on are here as one part."""
        return start in self._known and self._known[start][0] == length

    def read(self, start: int, length: int) -> bytes | None:
        """That part, ``None`` if it is not here or not as it was."""
        if not self.has(start, length):
            return None
        _, place, digest = self._known[start]
        block = os.pread(self._parts, length, place)
        if _digest(block) != digest:
            del self._known[start]
            return None
        return block

    def put(self, start: int, block: bytes) -> None:
        """Keep a part. What the disk has no room for is not kept."""
        with self._writing, contextlib.suppress(OSError):
            place, self._end = self._end, self._end + len(block)
            if os.pwrite(self._parts, block, place) == len(block):
                digest = _digest(block)
                os.write(self._index, f"{start} {len(block)} {place} {digest}\n".encode())
                self._known[start] = (len(block), place, digest)

    @property
    def files(self) -> Path:
        """The folder for whole files."""
        make_folder(self.folder / "files")
        return self.folder / "files"

    def remove(self) -> None:
        """Throw away all that is here."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Leave it to the next."""
        for descriptor in (self._parts, self._index, self._lock):
            os.close(descriptor)


@contextmanager
def keep(cache_dir: Path, name: str, identity: str) -> Iterator[Kept]:
    """The place to keep the file ``name`` in the state ``identity`` while it is fetched.

    When the block ends well, or by an error that another try would meet again, all is thrown away. After a
    broken connection, an interruption or a kill it stays for the next. Without an ``identity``, and
    while another process fetches the same, the place is a new one that nobody finds again.
    """
    made = (
        _claimed(cache_dir / FOLDER / hashlib.sha256(f"{name}\n{identity}".encode()).hexdigest()[:32])
        if identity
        else None
    )
    lasting = made is not None
    while made is None:
        made = _claimed(cache_dir / FOLDER / f"once-{os.urandom(8).hex()}")
    try:
        yield made
    except (TransferError, KeyboardInterrupt):
        if not lasting:
            made.remove()
        raise
    except Exception:
        made.remove()
        raise
    else:
        made.remove()
    finally:
        made.close()


def _claimed(folder: Path) -> Kept | None:
    """The place ``folder``, ``None`` while another process has it."""
    while True:
        make_folder(folder)
        try:
            lock = open_file(folder / "lock", os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if _is(lock, folder / "lock"):
            return Kept(folder, lock)
        os.close(lock)


def _is(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the open file: another process may have finished and removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_index(file: Path) -> dict[int, tuple[int, int, str]]:
    """(length, place, digest) by start; a line that was cut off is passed over."""
    known = {}
    for line in file.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            start, length, place, digest = line.split()
            known[int(start)] = (int(length), int(place), digest)
    return known


def _digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=16).hexdigest()
