"""An archive with a script before it that unpacks it: one file that needs neither trainenv nor Python beside it.

The script (``self_extracting.sh``) has a fixed size, so what follows it is an ordinary archive that begins at a known
place. Its payload is a ``.tar.gz`` unless asked otherwise, as every machine with a shell has ``tar`` and ``gzip``.
"""

from __future__ import annotations

import hashlib
import shlex
from importlib import resources
from typing import BinaryIO

from trainenv.archives.formats import Form
from trainenv.archives.manifest import Manifest
from trainenv.archives.sources import ByteSource, Part

SIZE = 16384
"""Bytes of the script."""

_BEGINS = b"#!/bin/sh\n# trainenv self-extracting archive\n"


class Payload:
    """What follows the script in ``file``: hashed while it is written. First of all it leaves room for the script."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        file.write(bytes(SIZE))

    def write(self, block: bytes, /) -> int:
        self._digest.update(block)
        self._size += len(block)
        return self._file.write(block)

    def put_script(self, form: Form, manifest: Manifest) -> None:
        """Write the script that fits to what has been written."""
        end = self._file.tell()
        self._file.seek(0)
        self._file.write(_script(form, manifest, self._size, self._digest.hexdigest()))
        self._file.seek(end)


def payload_of(source: ByteSource) -> ByteSource:
    """The archive in ``source`` if that is a script with one, else ``source`` itself."""
    if source.size > SIZE and source.read(0, len(_BEGINS)) == _BEGINS:
        return Part(source, SIZE)
    return source


def _script(form: Form, manifest: Manifest, size: int, digest: str) -> bytes:
    values = {
        "NAME": manifest.name,
        "FORMAT": form.format.name,
        "PYTHON": manifest.python or "",
        "PLATFORM": manifest.platform,
        "MACHINE": manifest.host_needs.machine or "",
        "GLIBC": manifest.host_needs.glibc or "",
        "FILES": str(len(manifest.files)),
        "KILOBYTES": str(-(-manifest.files.bytes // 1024)),
        "SIZE": str(size),
        "SHA256": digest,
    }
    text = resources.files("trainenv.archives").joinpath("self_extracting.sh").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", shlex.quote(value))
    return text.encode().ljust(SIZE, b"\n")
