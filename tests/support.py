"""Small conda channels made by the tests, and servers that behave badly."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import hashlib
import http.server
import io
import itertools
import json
import os
import socket
import ssl
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PLACEHOLDER = "/placeholder" + "_placehold" * 20
"""The prefix that packages of ``add_package`` are built with."""


def make_channel(folder: Path) -> Path:
    """An empty indexed channel."""
    for subdir in ("noarch", "linux-64"):
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        _write_index(folder / subdir, {})
    return folder


def add_package(
    channel: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    depends: Sequence[str] = (),
    constrains: Sequence[str] = (),
    prefix_files: Mapping[str, str] | None = None,
    programs: Mapping[str, bytes] | None = None,
    entry_points: Sequence[str] = (),
    subdir: str = "noarch",
    day: str | None = None,
) -> Path:
    """Put a package into ``channel``, for all platforms unless ``subdir`` names one; ``day`` is when it was made.

    ``files`` are contents by path; in ``prefix_files`` every ``@PREFIX@`` becomes the prefix, in the binary
    ``programs`` every ``PLACEHOLDER``. With ``entry_points`` it is a package for any Python, its files those of
    ``site-packages``.
    """
    placeholder = PLACEHOLDER
    contents = {path: text.encode() for path, text in (files or {}).items()}
    patched = {path: text.replace("@PREFIX@", placeholder).encode() for path, text in (prefix_files or {}).items()}
    modes = dict.fromkeys(patched, "text") | dict.fromkeys(programs or {}, "binary")
    patched |= programs or {}
    stem = f"{name}-{version}-0"
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends)}
    kind = "python" if entry_points else "generic"
    index |= {"subdir": subdir, "constrains": list(constrains)} | ({"noarch": kind} if subdir == "noarch" else {})
    if day is not None:
        made = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.timezone.utc)
        index["timestamp"] = int(made.timestamp() * 1000)
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        | ({"prefix_placeholder": placeholder, "file_mode": modes[path]} if path in patched else {})
        for path, data in sorted({**contents, **patched}.items())
    ]
    members = {**contents, **patched}
    members["info/index.json"] = json.dumps(index).encode()
    members["info/paths.json"] = json.dumps({"paths": paths, "paths_version": 1}).encode()
    if entry_points:
        link = {"noarch": {"type": "python", "entry_points": list(entry_points)}, "package_metadata_version": 1}
        members["info/link.json"] = json.dumps(link).encode()
    members["info/files"] = "".join(f"{entry['_path']}\n" for entry in paths).encode()
    if not (channel / subdir).is_dir():
        (channel / subdir).mkdir()
        _write_index(channel / subdir, {})
    file = channel / subdir / f"{stem}.tar.bz2"
    with tarfile.open(file, "w:bz2") as tar:
        for path, data in members.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(member, io.BytesIO(data))
    raw = file.read_bytes()
    known = json.loads((channel / subdir / "repodata.json").read_text())["packages"]
    known[file.name] = index | {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "md5": hashlib.md5(raw).hexdigest(),
        "size": len(raw),
    }
    _write_index(channel / subdir, known)
    return file


def _write_index(folder: Path, packages: Mapping[str, object]) -> None:
    content = {"info": {"subdir": folder.name}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
    (folder / "repodata.json").write_text(json.dumps(content))


@contextlib.contextmanager
def running(handler: type[http.server.BaseHTTPRequestHandler], certificate: Path | None = None) -> Iterator[str]:
    """A server on loopback that answers by ``handler``, over https with ``certificate``. Gives the URL."""

    class QuietServer(http.server.ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: object) -> None: ...

    server = QuietServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def served(folder: Path, status: int | None = None) -> Iterator[str]:
    """``folder`` over http on loopback; with ``status`` every answer is that one. Gives the URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def send_head(self) -> io.BytesIO | None:
            if status is not None:
                self.send_error(status)
                return None
            return super().send_head()  # type: ignore[return-value]

        def log_message(self, *_: object) -> None: ...

    with running(Handler) as url:
        yield url


@contextlib.contextmanager
def dropping_packets() -> Iterator[str]:
    """An address on loopback where new connections get no answer at all: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


@contextlib.contextmanager
def accepting_in_silence() -> Iterator[str]:
    """A server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusing() -> str:
    """An address on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
) -> Path:
    """A small wheel in ``folder``; ``scripts`` are console scripts, ``module:function`` by name.

    ``tag`` says for which Python and platform it is, by default for all.
    """
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members = dict(files if files is not None else {f"{name}/__init__.py": f"version = {version!r}\n"})
    members[f"{info}/METADATA"] = metadata + "".join(f"Requires-Dist: {line}\n" for line in requires)
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
    members[f"{info}/WHEEL"] += f"Tag: {tag}\n"
    if scripts:
        lines = "".join(f"{key} = {value}\n" for key, value in scripts.items())
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text.encode())}\n"
        for path, text in members.items()
    )
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        for path, text in members.items():
            wheel.writestr(path, text)
    return file


@dataclasses.dataclass
class Server:
    """A server that keeps what it was asked: ``(path, Authorization header)``, in order."""

    url: str
    requests: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def host(self) -> str:
        return self.url.split("://", 1)[1]

    def address(self, user: str, password: str) -> str:
        """The URL with a user and his password in it."""
        return self.url.replace("://", f"://{user}:{password}@")


@contextlib.contextmanager
def guarded(
    folder: Path,
    *,
    login: tuple[str, str] | None = None,
    bearer: str | None = None,
    token: str | None = None,
    certificate: Path | None = None,
    bytes_per_second: int | None = None,
    drops: int = 0,
    stalls: str | None = None,
    flipped: str | None = None,
) -> Iterator[Server]:
    """``folder`` over http, or over https with ``certificate``, for those who know a secret.

    ``login`` is a user and password, ``token`` stands first in the path (``/t/TOKEN/``). The first
    ``drops`` downloads of a package break off in the middle; those of files whose name ends in ``stalls``
    stop there, and the connection stays open. A byte of every file whose name ends in ``flipped`` is wrong.
    """
    basic = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}" if login else None
    wanted = basic or (f"Bearer {bearer}" if bearer else None)
    left = [drops]
    guard = threading.Lock()
    closing = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            authorization = self.headers.get("Authorization", "")
            server_side.requests.append((self.path, authorization))
            path = self.path
            if token is not None:
                if not path.startswith(f"/t/{token}/"):
                    return self._refuse()
                path = path.removeprefix(f"/t/{token}")
            if wanted is not None and authorization != wanted:
                return self._refuse()
            file = folder / path.partition("?")[0].lstrip("/")
            if file.is_dir():
                file = file / "index.html"
            if not file.is_file():
                return self.send_error(404)
            data = bytearray(file.read_bytes())
            if flipped and file.name.endswith(flipped):
                data[len(data) // 2] ^= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", self.guess_type(str(file)))
            self.end_headers()
            if body:
                self._send(file, bytes(data))
            return None

        def _refuse(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, file: Path, data: bytes) -> None:
            with guard:
                broken = file.suffix in (".bz2", ".conda", ".whl") and left[0] > 0
                left[0] -= broken
            if broken:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if stalls and file.name.endswith(stalls):
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                closing.wait()
                self.close_connection = True
                return
            step = max(1, (bytes_per_second or len(data) * 20 or 1) // 20)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                if bytes_per_second:
                    self.wfile.flush()
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None: ...

    with running(Handler, certificate) as url:
        server_side = Server(url)
        try:
            yield server_side
        finally:
            closing.set()


@contextlib.contextmanager
def proxy(login: tuple[str, str] | None = None) -> Iterator[Server]:
    """A forward proxy for http on loopback; ``requests`` are the URLs that went through it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._pass_on()

        def do_GET(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            server_side.requests.append((self.path, self.headers.get("Proxy-Authorization", "")))
            if login and not self.headers.get("Proxy-Authorization"):
                self.send_error(407)
                return
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            request = urllib.request.Request(self.path, method=self.command)
            if authorization := self.headers.get("Authorization"):
                request.add_header("Authorization", authorization)
            try:
                with direct.open(request, timeout=10) as answer:
                    data, kind = answer.read(), answer.headers["Content-Type"]
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with running(Handler) as url:
        server_side = Server(url)
        yield server_side


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate authority of its own and a server certificate, with its key, for 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=tests"
        " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    both = folder / "server.pem"
    both.write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())
    return folder / "ca.pem", both


def _files_under(place: Path) -> Iterator[Path]:
    """``place`` itself, or every file and link under it, but for folders that vanish meanwhile."""
    if not place.is_dir():
        yield place
        return

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for folder, folders, files in os.walk(place, onerror=failed):
        yield from (Path(folder, name) for name in files)
        yield from (link for name in folders if (link := Path(folder, name)).is_symlink())


def holders_of_secret(secret: str, *places: Path) -> list[str]:
    """Every file under ``places`` that holds ``secret``, plainly or packed in zstd, in its bytes, name or link."""
    import zstandard

    needles = {secret.encode(), urllib.parse.quote(secret, safe="").encode()}
    found = []
    for file in itertools.chain.from_iterable(map(_files_under, places)):
        try:
            data = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        except FileNotFoundError:  # Tests beside this one work in the same cache.
            continue
        if file.name.endswith(".zst") and not file.is_symlink():
            data += zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        if any(needle in data + os.fsencode(file.name) for needle in needles):
            found.append(str(file))
    return found
