"""A file elsewhere as a file here: for servers that give no parts, and archives that are read from their beginning."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from trainenv.archives.shipping.patience import Patience
from trainenv.archives.shipping.transport import Interrupted, Transport
from trainenv.errors import ArchiveError
from trainenv.progress import Step


def fetch(transport: Transport, place: Path, step: Step) -> None:
    """All of it as the file ``place``; goes on where an earlier try ended, if it is the same file.

    Where the other side gives no parts, what is here already is passed over when it comes again. Raises
    ``ArchiveError``.
    """
    _forget_other(place, transport)
    with place.open("ab") as out:
        here = out.tell()
        if transport.size is not None:
            step.expect(transport.size)
            _require_room(place.parent, transport.size - here, transport.name)
        step.advance(here)
        _pour(transport, out.fileno(), here, step)


def _pour(transport: Transport, out: int, here: int, step: Step) -> None:
    patience = Patience(transport.name, step)
    whole = here == transport.size
    while not whole:
        try:
            left = None if transport.size is None else transport.size - here
            for block in transport.blocks(here, left):
                os.write(out, block)
                here += len(block)
                step.advance(len(block))
                patience.came()
            whole = transport.size is None or here == transport.size
            if not whole:
                raise Interrupted("the connection broke off")
        except Interrupted as error:
            patience.interrupted(error, f"{here / 1e6:.1f} MB" if transport.identity else "")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(transport.name, error.strerror or "") from None
            raise


def _forget_other(place: Path, transport: Transport) -> None:
    """Remove what is here of another state of the file, or of nobody knows which."""
    state = place.with_name(f".{place.name}.state")
    is_same = transport.identity and state.is_file() and state.read_text() == transport.identity
    if not is_same or (transport.size is not None and place.is_file() and place.stat().st_size > transport.size):
        place.unlink(missing_ok=True)
    state.write_text(transport.identity)


def _require_room(folder: Path, size: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _no_room(name, f"it needs {size / 1e6:.1f} MB and {folder} has {free / 1e6:.1f} MB")


def _no_room(name: str, cause: str) -> ArchiveError:
    return ArchiveError(
        f"{name} can't be fetched",
        cause=cause,
        hint="Free some space, or set cache_dir in trainenv.toml to another disk",
    )
