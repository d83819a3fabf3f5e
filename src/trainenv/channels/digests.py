"""The hash of a file, as channels and locks give it."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def of_file(file: Path, kind: str = "sha256") -> str:
    """The hash of ``file`` in hexadecimal; ``kind`` is ``sha256`` or ``md5``."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
