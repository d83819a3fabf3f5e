"""Small conda channels made by the tests, and servers that behave badly."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


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
    prefix_files: Mapping[str, str] | None = None,
) -> Path:
    """Put a noarch package into ``channel``.

    ``files`` are contents by path; in ``prefix_files`` every ``@PREFIX@`` becomes the prefix.
    """
    placeholder = "/placeholder" + "_placehold" * 20
    contents = {path: text.encode() for path, text in (files or {}).items()}
    patched = {path: text.replace("@PREFIX@", placeholder).encode() for path, text in (prefix_files or {}).items()}
    stem = f"{name}-{version}-0"
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends)}
    index |= {"subdir": "noarch", "noarch": "generic"}
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        | ({"prefix_placeholder": placeholder, "file_mode": "text"} if path in patched else {})
        for path, data in sorted({**contents, **patched}.items())
    ]
    members = {**contents, **patched}
    members["info/index.json"] = json.dumps(index).encode()
    members["info/paths.json"] = json.dumps({"paths": paths, "paths_version": 1}).encode()
    members["info/files"] = "".join(f"{entry['_path']}\n" for entry in paths).encode()
    file = channel / "noarch" / f"{stem}.tar.bz2"
    with tarfile.open(file, "w:bz2") as tar:
        for path, data in members.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(member, io.BytesIO(data))
    raw = file.read_bytes()
    known = json.loads((channel / "noarch" / "repodata.json").read_text())["packages"]
    known[file.name] = index | {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "md5": hashlib.md5(raw).hexdigest(),
        "size": len(raw),
    }
    _write_index(channel / "noarch", known)
    return file


def _write_index(folder: Path, packages: Mapping[str, object]) -> None:
    content = {"info": {"subdir": folder.name}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
    (folder / "repodata.json").write_text(json.dumps(content))


@contextlib.contextmanager
def served(folder: Path, status: int | None = None) -> Iterator[str]:
    """``folder`` over http on loopback; with ``status`` every answer is that one. Gives the URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def send_head(self) -> io.BytesIO | None:  # type: ignore[override]
            if status is not None:
                self.send_error(status)
                return None
            return super().send_head()  # type: ignore[return-value]

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


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
) -> Path:
    """A small pure wheel in ``folder``; ``scripts`` are console scripts, ``module:function`` by name."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members = dict(files if files is not None else {f"{name}/__init__.py": f"version = {version!r}\n"})
    members[f"{info}/METADATA"] = metadata + "".join(f"Requires-Dist: {line}\n" for line in requires)
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
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
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        for path, text in members.items():
            wheel.writestr(path, text)
    return file
