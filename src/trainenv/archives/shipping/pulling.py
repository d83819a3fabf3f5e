"""An archive that lies elsewhere, at hand for whoever reads archives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from trainenv.archives.shipping import addresses, kept, whole
from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.ahead import RemoteSource
from trainenv.archives.shipping.patience import persistently
from trainenv.archives.shipping.transport import Transport
from trainenv.archives.sources import ByteSource
from trainenv.archives.tails import has_tail
from trainenv.channels.access import Access
from trainenv.errors import ArchiveError, TransferError
from trainenv.progress import Reporter, Step
from trainenv.settings import Settings

SIGNATURE = ".sig"
"""Behind the address of an archive: its signature."""

_LONGEST_NAME = 200


@contextmanager
def at_hand(
    settings: Settings, address: str, reporter: Reporter, *, complete: bool = False
) -> Iterator[Path | ByteSource]:
    """The archive at ``address``: a source that fetches what is read of it, or a file of this machine.

    It is a file if it was one, if the other side gives no parts of files, if it isn't an archive of trainenv's,
    and with ``complete``; then its signature, if there is one, lies beside it. What has come stays until the
    block ends well, so that after a failure the next try need not fetch it again. Raises ``ArchiveError``.
    """
    place = addresses.parse(address)
    if place.kind == "file":
        yield Path(place.path)
        return
    transport = persistently(lambda: connected(settings, place), place.name)
    with (
        closing(transport),
        kept.keep(settings.cache_dir, f"{transport.name} {transport.size}", transport.identity) as stored,
        reporter.step(f"fetch {place.file_name or place.name}", unit="B") as step,
    ):
        if not complete and transport.ranged and transport.size is not None:
            source = RemoteSource(transport, step, stored)
            with closing(source):
                if has_tail(source):
                    yield source
                    step.conclude(_told(source))
                    return
        file = stored.files / _usable(place.file_name)
        whole.fetch(transport, file, step)
        _refuse_page(file, place.name)
        if complete:
            _fetch_signature(settings, place, file, step)
        try:
            yield file
        except ArchiveError as error:
            error.message, error.cause = (
                text.replace(os.fspath(file), place.name) for text in (error.message, error.cause)
            )
            raise


def connected(settings: Settings, place: Address) -> Transport:
    """The way to the file at ``place``. Raises ``Interrupted`` and ``ArchiveError``."""
    if place.kind == "http":
        from trainenv.archives.shipping.http import HttpFile

        return HttpFile(place.text, Access.of(settings, [place.text]))
    if place.kind == "ssh":
        from trainenv.archives.shipping.ssh import SshFile

        return SshFile(place, settings.read_timeout)
    from trainenv.archives.shipping.other import OtherFile

    return OtherFile(place)


def _fetch_signature(settings: Settings, place: Address, file: Path, step: Step) -> None:
    """The signature beside the archive, if there is one."""
    beside = place.with_suffix(SIGNATURE)
    try:
        transport = persistently(lambda: connected(settings, beside), beside.name)
    except TransferError:
        raise
    except ArchiveError:
        return
    with closing(transport):
        whole.fetch(transport, file.with_name(file.name + SIGNATURE), step)


def _refuse_page(file: Path, name: str) -> None:
    """A server that wants something first, a login for example, often sends a page instead of what was asked for."""
    with file.open("rb") as stream:
        if stream.read(64).lstrip().startswith(b"<"):
            raise ArchiveError(f"{name} is a web page, not an archive", hint="Open it in a browser to see what it says")


def _told(source: RemoteSource) -> str:
    fetched = f"{source.fetched / 1e6:.1f} MB fetched"
    return f"{fetched}, {source.spared / 1e6:.1f} MB were here" if source.spared else fetched


def _usable(file_name: str) -> str:
    """A name that a file can have."""
    return file_name.replace("\0", "")[-_LONGEST_NAME:].lstrip(".") or "archive"
