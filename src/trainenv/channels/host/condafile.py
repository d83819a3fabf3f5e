"""Writing a ``.conda`` file: a zip of two zstd-compressed tars, ``pkg-`` and ``info-``.

Written here and not by conda-package-streaming's builder, because that one stamps the zip with the
time of day and stages the whole content in a temporary file: the same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.channels.host.buildinfo import PLACEHOLDER
from trainenv.channels.host.contents import Entry

COMPRESSION_LEVEL = 3
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """A conda package to be: ``index`` is its ``info/index.json``, ``more_info`` its other info files."""

    index: dict[str, Any]
    entries: tuple[Entry, ...]
    more_info: dict[str, Any]

    @property
    def file_name(self) -> str:
        return "{name}-{version}-{build}.conda".format(**self.index)

    @property
    def subdir(self) -> str:
        return str(self.index["subdir"])


def content_hash(entries: Iterable[Entry], more: object) -> str:
    """Eight hex digits that name this content, for a build string: other content, other name.

    Package caches know packages by their names, so one name must never mean two contents.
    """
    digest = hashlib.sha256(json.dumps(more, sort_keys=True).encode())
    for entry in sorted(entries, key=lambda entry: entry.path):
        own = hashlib.sha256(entry.data).hexdigest()
        digest.update(f"{entry.path}\0{entry.link}\0{entry.executable}\0{entry.placeholder}\0{own}\n".encode())
    return digest.hexdigest()[:8]


def write(package: Package, folder: Path) -> dict[str, Any]:
    """Write ``package`` into ``folder``, complete or not at all; returns its record in repodata.json."""
    import zstandard

    target = folder / package.file_name
    temporary = folder / f".building-{os.getpid()}-{package.file_name}"
    stem = package.file_name.removesuffix(".conda")
    stamp = int(package.index["timestamp"]) // 1000
    info = {"index.json": package.index, "paths.json": _paths(package.entries), **package.more_info}
    info_entries = [Entry(f"info/{name}", _text(value)) for name, value in sorted(info.items())]
    with open(temporary, "wb") as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_member("metadata.json"), json.dumps({"conda_pkg_format_version": 2}))
            for part, entries in (("pkg", package.entries), ("info", info_entries)):
                compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, threads=2)
                with (
                    archive.open(_member(f"{part}-{stem}.tar.zst"), "w") as member,
                    compressor.stream_writer(member, closefd=False) as stream,
                    tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
                ):
                    for entry in sorted(entries, key=lambda entry: entry.path):
                        tar.addfile(_header(entry, stamp), io.BytesIO(entry.data))
        out.flush()
        os.fsync(out.fileno())
    record = {**package.index, **_digests(temporary)}
    os.replace(temporary, target)
    return record


def _text(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _ZIP_EPOCH)
    member.external_attr = 0o100644 << 16
    return member


def _header(entry: Entry, stamp: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.path)
    header.mtime = stamp
    header.mode = 0o755 if entry.executable else 0o644
    if entry.link is not None:
        header.type = tarfile.SYMTYPE
        header.linkname = entry.link
        header.mode = 0o777
    else:
        header.size = len(entry.data)
    return header


def _paths(entries: Iterable[Entry]) -> dict[str, Any]:
    by_path = {entry.path: entry for entry in entries}
    paths = []
    for path, entry in sorted(by_path.items()):
        content = entry
        if entry.link is not None:
            content = by_path[os.path.normpath(os.path.join(os.path.dirname(path), entry.link))]
        described: dict[str, Any] = {
            "_path": path,
            "path_type": "hardlink" if entry.link is None else "softlink",
            "sha256": hashlib.sha256(content.data).hexdigest(),
            "size_in_bytes": len(content.data),
        }
        if entry.placeholder:
            described |= {"file_mode": "text", "prefix_placeholder": PLACEHOLDER}
        paths.append(described)
    return {"paths": paths, "paths_version": 1}


def _digests(path: Path) -> dict[str, Any]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            md5.update(block)
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest(), "size": path.stat().st_size}
