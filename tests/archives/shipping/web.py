"""A web server on loopback that gives parts of files, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import running


@dataclasses.dataclass
class Behaviour:
    """What the server does, to be changed while it runs.

    ``ranges``: it gives parts. ``drop_after``: bytes after which it cuts each of the next ``drops`` answers.
    ``statuses``: what it answers instead, one after the other. ``rate``: bytes a second of each answer.
    ``etag``: what it says of the content, ``None`` nothing. ``length``: what it says the size is.
    ``shift``: by how many bytes the parts lie elsewhere than asked for. ``silent_after``: bytes after which
    it says nothing more. ``redirect``: where it sends everybody. ``login``: the Authorization it wants.
    ``takes``: it takes files by PUT, and of each ``keeps`` as many bytes (None: all).
    """

    ranges: bool = True
    lengths: bool = True
    drop_after: int | None = None
    drops: int = 0
    statuses: list[int] = dataclasses.field(default_factory=list)
    rate: int | None = None
    etag: str | None = '"1"'
    length: int | None = None
    shift: int = 0
    silent_after: int | None = None
    redirect: str | None = None
    login: str | None = None
    media_type: str = "application/octet-stream"
    takes: bool = False
    keeps: int | None = None
    on_request: Callable[[int], None] = lambda number: None


@dataclasses.dataclass
class Web:
    """A running server. ``requests`` are (path, Range, Authorization), ``sent`` counts the bytes of all bodies."""

    url: str
    behaviour: Behaviour
    requests: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    sent: int = 0
    busy: int = 0
    busiest: int = 0

    @property
    def host(self) -> str:
        return self.url.split("://", 1)[1]


@contextlib.contextmanager
def serving(folder: Path, certificate: Path | None = None, **behaviour: object) -> Iterator[Web]:
    """``folder`` over http/1.1, or https with ``certificate``."""
    does = Behaviour(**behaviour)  # type: ignore[arg-type]
    guard = threading.Lock()
    ending = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with guard:
                web.requests.append((self.path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
                number = len(web.requests)
                web.busy += 1
                web.busiest = max(web.busiest, web.busy)
            try:
                does.on_request(number)
                self._answer()
            except OSError:
                self.close_connection = True
            finally:
                with guard:
                    web.busy -= 1

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            web.requests.append((self.path, "PUT", self.headers.get("Authorization", "")))
            if does.redirect is not None:
                self._say(307, {"Location": does.redirect + self.path})
            elif does.login is not None and self.headers.get("Authorization") != does.login:
                self._say(401, {})
            elif does.statuses:
                self._say(does.statuses.pop(0), {})
            elif not does.takes:
                self._say(405, {})
            else:
                (folder / self.path.lstrip("/")).write_bytes(content[: does.keeps])
                self._say(201, {})

        def _answer(self) -> None:
            if does.redirect is not None:
                self._say(302, {"Location": does.redirect + self.path})
                return
            if does.login is not None and self.headers.get("Authorization") != does.login:
                self._say(401, {"WWW-Authenticate": "Basic"})
                return
            if does.statuses:
                self._say(does.statuses.pop(0), {"Retry-After": "0"})
                return
            file = folder / self.path.partition("?")[0].lstrip("/")
            if not file.is_file():
                self._say(404, {})
                return
            held = file.stat().st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            headers = {"Content-Type": does.media_type}
            if does.etag is not None:
                headers["ETag"] = does.etag
            if asked is None or not does.ranges:
                self._say(200, headers, file.read_bytes())
                return
            begin, end = int(asked[1]), int(asked[2] or held - 1)
            size = held if does.length is None else does.length
            if begin >= size:
                self._say(416, {"Content-Range": f"bytes */{size}"})
                return
            begin, end = begin + does.shift, min(end, size - 1) + does.shift
            headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
            with file.open("rb") as stream:
                stream.seek(begin)
                self._say(206, headers, stream.read(end + 1 - begin), end + 1 - begin)

        def _say(self, status: int, headers: dict[str, str], data: bytes = b"", length: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if does.lengths or status != 200:
                self.send_header("Content-Length", str(len(data) if length is None else length))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            cut = None
            with guard:
                if does.drops > 0 and does.drop_after is not None and len(data) > does.drop_after:
                    does.drops -= 1
                    cut = does.drop_after
            if does.silent_after is not None and len(data) > does.silent_after:
                cut = does.silent_after
            step = max(1, (does.rate or len(data) * 50 or 50) // 50)
            whole = data if cut is None else data[:cut]
            for start in range(0, len(whole), step):
                self.wfile.write(whole[start : start + step])
                web.sent += len(whole[start : start + step])
                if does.rate:
                    self.wfile.flush()
                    time.sleep(0.02)
            if cut is not None:
                self.wfile.flush()
                if does.silent_after is not None:
                    ending.wait()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            if len(data) < (length or 0):
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    with running(Handler, certificate) as url:
        web = Web(url, does)
        try:
            yield web
        finally:
            ending.set()
