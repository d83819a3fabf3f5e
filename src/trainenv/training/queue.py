"""The queue of tasks: no server keeps it, each task's supervisor stands in it itself.

Standard library only. A queue is a folder. A place in it is a file, a *ticket*, named by its number
and locked (``flock``) by the supervisor that stands there and by all of the code that it starts. So
the kernel itself says who is there: a ticket whose lock is free was left by someone dead and counts
no more, whatever way he died. Who looks at the tickets or changes them holds the lock on ``.lock``
meanwhile.

Nobody serves the queue. Whoever stands in it takes what is his when he sees that it is free
(``admission`` says so), and whoever frees something rings those whose turn it is: each waits for
bytes in a FIFO beside his ticket. One of those who wait, whoever holds the lock on ``.watch``, looks
several times a second whether somebody died without freeing anything; the others sleep.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainenv import locks, sharing
from trainenv.errors import TaskError
from trainenv.training import processes, record
from trainenv.training.admission import Grant, Need, Standing, Ticket, admitted, standings

_WATCH_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_WATCHER_NEEDED_SECONDS = (5.0, 10.0)
_FORGOTTEN_SECONDS = 30 * 86400.0
_NEW = ".new-"
_BELL = ".bell"


def folder_of(queue_dir: Path) -> Path:
    """This machine's queue below ``queue_dir``, made if need be. Raises ``TaskError``.

    The tickets of different machines must not meet where ``queue_dir`` is on a network file system; a
    container's must meet those of its machine. So its name is the identity of the running kernel.
    """
    folder = queue_dir / processes.boot_id()
    try:
        if not folder.is_dir():
            sharing.make_folder(folder)
            _remove_forgotten(queue_dir)
    except OSError as error:
        raise TaskError(f"no queue can be kept in {queue_dir}", cause=error.strerror or str(error)) from None
    return folder


def standings_in(folder: Path) -> dict[int, Standing]:
    """How those stand who wait in a queue, by ticket number; empty if there is no such queue."""
    try:
        with _alone(folder):
            return standings([each.ticket for each in _present(folder)])
    except OSError:
        return {}


class Place:
    """A place in the queue, held by this process and by whoever inherits ``descriptor``.

    ``grant`` is None as long as one has to wait. Then ``bell`` is a descriptor that becomes readable when
    it is time to ``look`` again, as it is after ``patience`` seconds at the latest. ``busy_gpus`` says
    which of some GPUs something else uses.
    """

    def __init__(
        self,
        folder: Path,
        task_folder: str,
        need: Need,
        busy_gpus: Callable[[list[str], int | None], set[str]] | None = None,
    ) -> None:
        """Join the queue in ``folder`` as its last. Raises ``OSError``."""
        self.grant: Grant | None = None
        self.bell = -1
        self.folder = folder
        self._task_folder = task_folder
        self._need = need
        self._busy_gpus = busy_gpus
        self._watch = -1
        self._look_at = 0.0
        self._gpus_busy = False
        self._holders: list[Path] = []
        with _alone(folder):
            self.number = max((each.ticket.number for each in _present(folder)), default=0) + 1
            self.descriptor = self._appear()
            self._take()
            if self.grant is None:
                self._hang_bell()
                self._rest()

    @property
    def patience(self) -> float:
        """After how many seconds one should ``look``, rung or not."""
        if self._watch >= 0:
            return _WATCH_SECONDS
        return max(0.0, self._look_at - time.monotonic())

    def look(self) -> None:
        """See whether one's turn has come; afterwards there may be a ``grant``."""
        watching = self._watch >= 0
        due = time.monotonic() >= self._look_at
        if self._rung() or (due and (watching or self._gpus_busy)) or not all(map(locks.is_held, self._holders)):
            with _alone(self.folder):
                self._take()
        if self.grant is not None:
            self._stop_waiting()
        elif due or not watching:
            self._rest()

    def leave(self) -> None:
        """Free the place and all that was granted with it, and let those go on who waited for it.

        Descriptors that others inherited do no harm any more.
        """
        with suppress(OSError), _alone(self.folder):
            _remove(self._path)
            self._stop_waiting()
            self._serve(_present(self.folder))
        os.close(self.descriptor)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.number:09d}"

    def _appear(self) -> int:
        beside = self.folder / f"{_NEW}{os.getpid()}"
        descriptor = sharing.open_file(beside, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        content = self._content()
        os.pwrite(descriptor, content.ljust(2 * len(content)), 0)  # There is room for the grant on a full disk, too.
        beside.rename(self._path)
        os.set_inheritable(descriptor, True)
        return descriptor

    def _content(self) -> bytes:
        grant = None if self.grant is None else asdict(self.grant)
        return json.dumps({"task_folder": self._task_folder, "need": asdict(self._need), "grant": grant}).encode()

    def _take(self) -> None:
        """Take what is free for us, if it is our turn, and ring the others whose turn it is."""
        present = _present(self.folder)
        others = [each for each in present if each.ticket.number != self.number]
        self._holders = [each.path for each in others if each.ticket.grant is not None and not each.orphaned]
        self.grant = self._serve(present)
        if self.grant is not None:
            os.pwrite(self.descriptor, self._content(), 0)

    def _rest(self) -> None:
        """Say when to look again, and watch if nobody does."""
        if self._watch < 0:
            self._watch = _try_lock(self.folder / ".watch")
        hurry = self._watch >= 0 or self._gpus_busy
        self._look_at = time.monotonic() + (_LOOK_SECONDS if hurry else random.uniform(*_WATCHER_NEEDED_SECONDS))

    def _serve(self, present: list[_Present]) -> Grant | None:
        """Ring everybody else whose turn it is; returns what we get ourselves."""
        tickets = [each.ticket for each in present]
        turns = admitted(tickets)
        ours = turns.pop(self.number, None)
        self._gpus_busy = False
        if ours is not None and ours.gpus and self._busy_gpus is not None:
            busy = self._busy_gpus(list(self._need.all_gpus), self._need.gpu_memory)
            ours = admitted(tickets, without_gpus={self.number: busy}).get(self.number)
            self._gpus_busy = ours is None
        for number in turns:
            _ring(self.folder / f"{number:09d}{_BELL}")
        return ours

    def _hang_bell(self) -> None:
        path = self._path.with_suffix(_BELL)
        with suppress(FileNotFoundError):
            path.unlink()
        os.mkfifo(path)
        if sharing.group_of(self.folder) is not None:
            path.chmod(0o660)
        self.bell = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _rung(self) -> bool:
        try:
            return bool(os.read(self.bell, 4096))
        except BlockingIOError:
            return False

    def _stop_waiting(self) -> None:
        if self.bell >= 0:
            self._path.with_suffix(_BELL).unlink(missing_ok=True)
            os.close(self.bell)
            self.bell = -1
        if self._watch >= 0:
            os.close(self._watch)
            self._watch = -1
            for bell in sorted(self.folder.glob(f"*{_BELL}")):
                if _ring(bell):  # Somebody has to watch in our stead.
                    break


@dataclass(frozen=True)
class _Present:
    """A ticket that counts. ``orphaned``: its supervisor and its lock are gone, but not all that it started."""

    path: Path
    ticket: Ticket
    orphaned: bool


def _present(folder: Path) -> list[_Present]:
    """The tickets that count, in their order. Removes those of the dead; the caller is ``_alone``."""
    found = []
    for entry in sorted(os.listdir(folder)):
        path = folder / entry
        if entry.startswith(_NEW):
            _remove(path)
        elif entry.isdigit():
            free = not locks.is_held(path)
            try:
                content = json.loads(path.read_bytes())
                ticket = _ticket(int(entry), content)
            except (OSError, ValueError, KeyError, TypeError):
                _remove(path)
                continue
            if free and (ticket.grant is None or not _leftovers(content["task_folder"])):
                _remove(path)
            else:
                found.append(_Present(path, ticket, free))
    return found


def _ticket(number: int, content: Mapping[str, Any]) -> Ticket:
    grant = content["grant"]
    return Ticket(
        number,
        os.path.basename(content["task_folder"]),
        Need.from_json(content["need"]),
        None if grant is None else Grant(tuple(grant["gpus"]), tuple(grant["cpus"])),
    )


def _leftovers(task_folder: str) -> list[int]:
    """What still runs of a task whose lock is gone: programs that it started without their files open."""
    return processes.with_variable(record.TASK_DIR_VARIABLE, task_folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = sharing.open_file(folder / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int:
    """A descriptor that holds the lock on ``path``, or -1 if somebody else does."""
    descriptor = sharing.open_file(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def _ring(bell: Path) -> bool:
    """Wake the one who waits at ``bell``; returns whether there is one."""
    try:
        descriptor = os.open(bell, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, b"!")
    except BlockingIOError:
        pass  # It rings already.
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(ticket: Path) -> None:
    for path in (ticket, ticket.with_suffix(_BELL)):
        with suppress(FileNotFoundError):
            path.unlink()


def _remove_forgotten(queue_dir: Path) -> None:
    """Remove the queues of kernels that ran long ago."""
    for folder in queue_dir.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
