"""A file on a web server, in parts where the server gives parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from trainenv.archives.shipping.transport import Interrupted, changed
from trainenv.channels.access import Access
from trainenv.channels.connections import Connections
from trainenv.credentials import without_credentials
from trainenv.errors import ArchiveError, ChannelError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

T = TypeVar("T")

LANES = 4
_BLOCK = 1 << 18
_FIRST = 1 << 16
"""Bytes of the first request, which is to find out what the server says of the file."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_LONGEST_WAIT = 60.0


class HttpFile:
    """``url`` may hold secrets; ``access`` must have learned it. Raises ``ArchiveError`` and ``Interrupted``."""

    def __init__(self, url: str, access: Access) -> None:
        self.name = without_credentials(url)
        self.lanes = LANES
        self._access = access
        if access.offline:
            raise ArchiveError(f"{self.name} can't be fetched", cause="trainenv is offline")
        self._connections = Connections(access, LANES)
        self._first: BaseHTTPResponse | None = None
        self.size: int | None
        answer = self._request(0, _FIRST)
        if answer.status == 416 and answer.headers.get("Content-Range") == "bytes */0":
            self.ranged, self.size = True, 0
        elif answer.status == 206:
            self.ranged, self.size = True, _range_of(answer)[2]
        else:
            self.ranged, self.size = False, _length_of(answer)
        self._etag, self._modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        self.identity = f"{self._etag or ''} {self._modified or ''}".strip()
        self.media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        self._first = answer

    def blocks(self, start: int, length: int | None) -> Iterator[bytes]:
        """Without ``ranged``, what is before ``start`` is read as well, and dropped."""
        if length == 0 or (self.size is not None and start >= self.size):
            return
        answer = self._first_again(start, length)
        if answer is None:
            answer = self._request(start, length) if self.ranged else self._request(0, None)
            self._check_same(answer, start)
        to_pass = start if answer.status == 200 else 0
        left = length
        try:
            while left is None or left > 0:
                block = self._guarded(lambda: answer.read(_BLOCK))
                if not block:
                    break
                if to_pass:
                    passed = min(to_pass, len(block))
                    to_pass, block = to_pass - passed, block[passed:]
                if left is not None:
                    block = block[:left]
                    left -= len(block)
                if block:
                    yield block
        finally:
            # One that was read to its end has given its connection back; closing it then does nothing.
            answer.close()

    def close(self) -> None:
        if self._first is not None:
            self._first.close()
        self._connections.close()

    def _first_again(self, start: int, length: int | None) -> BaseHTTPResponse | None:
        """The answer to the first request, once, if it has what is asked for."""
        fits = start == 0 and (not self.ranged or (length is not None and length <= _FIRST))
        answer = self._first if fits else None
        if answer is not None:
            self._first = None
        return answer

    def _request(self, start: int, length: int | None) -> BaseHTTPResponse:
        """The answer, of a status that means there is something to read."""
        if length is None:
            headers = {"Range": f"bytes={start}-"} if start else {}
        else:
            headers = {"Range": f"bytes={start}-{start + length - 1}"}
        answer = self._guarded(lambda: self._connections.get(self.name, headers))
        if answer.status in (200, 206) or (answer.status == 416 and start == 0):
            return answer
        answer.close()
        reason = f"HTTP status {answer.status} {answer.reason or ''}".strip()
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise Interrupted(reason, _retry_after(answer))
        if answer.status == 416:
            raise changed(self.name)
        hint = {
            401: "Give a login in netrc, in [credentials] of trainenv.toml or in the address",
            403: "See who may read it; a login is given in netrc or in [credentials] of trainenv.toml",
            404: "See whether the address is right",
            410: "See whether the address is right",
        }.get(answer.status, "")
        raise ArchiveError(f"{self.name} can't be fetched", cause=reason, hint=hint)

    def _check_same(self, answer: BaseHTTPResponse, start: int) -> None:
        """A server of several machines may give each its own ETag; then the time stays the same."""
        headers = answer.headers
        size = _length_of(answer)
        if answer.status == 206:
            begin, _, size = _range_of(answer)
            if begin != start:
                answer.close()
                raise ArchiveError(f"{self.name} can't be fetched", cause="the server sends other parts than asked for")
        other = headers.get("ETag") != self._etag and (
            self._modified is None or headers.get("Last-Modified") != self._modified
        )
        if size != self.size or other or (self.ranged and answer.status == 200):
            answer.close()
            raise changed(self.name)

    def _guarded(self, act: Callable[[], T]) -> T:
        """What ``act`` gives; the errors of the network in our words."""
        from urllib3 import exceptions

        try:
            return act()
        except exceptions.SSLError as error:
            if "CERTIFICATE" not in str(error).upper():
                raise Interrupted(_words(error)) from None
            raise ArchiveError(
                f"{self.name} can't be trusted",
                cause=self._access.public(_words(error)),
                hint="ssl_cert_file in trainenv.toml, or the variable SSL_CERT_FILE, names the roots to trust",
            ) from None
        except exceptions.ReadTimeoutError:
            raise Interrupted(f"nothing came for {self._access.read_timeout:g} s") from None
        except exceptions.ProtocolError:
            raise Interrupted("the connection broke off") from None
        except exceptions.HTTPError as error:
            raise Interrupted(self._access.public(_words(error))) from None
        except OSError as error:
            raise Interrupted(error.strerror or str(error)) from None
        except ChannelError as error:
            raise ArchiveError(error.message, cause=error.cause, hint=error.hint) from None


def _range_of(answer: BaseHTTPResponse) -> tuple[int, int, int]:
    """(first byte, last byte, bytes in all) of a partial answer."""
    found = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    if found is None:
        raise ArchiveError(
            "a server sends parts of a file and does not say which", hint="Fetch it with another program"
        )
    begin, end, size = map(int, found.groups())
    return begin, end, size


def _length_of(answer: BaseHTTPResponse) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _retry_after(answer: BaseHTTPResponse) -> float | None:
    given = answer.headers.get("Retry-After", "")
    if given.isdecimal():
        return min(float(given), _LONGEST_WAIT)
    with suppress(ValueError, TypeError):
        wait = (parsedate_to_datetime(given) - datetime.now(timezone.utc)).total_seconds()
        return max(0.0, min(wait, _LONGEST_WAIT))
    return None


def _words(error: Exception) -> str:
    """What the system said, without the names of the library's objects around it."""
    reason = getattr(error, "original_error", None) or error.__cause__ or error
    if isinstance(reason, OSError) and reason.strerror:
        return str(reason.strerror)
    text = str(reason.args[0]) if reason.args and isinstance(reason.args[0], str) else str(reason)
    return re.sub(r"^.*?object at 0x[0-9a-f]+>: |^\w+\([^)]*\): ", "", text)
