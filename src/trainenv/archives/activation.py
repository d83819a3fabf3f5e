"""``bin/activate`` and ``bin/deactivate`` of an archive, for machines without trainenv.

The texts are in ``activate.sh``, ``deactivate.sh`` and ``activate.fish`` beside this file. Like ``conda-unpack`` they
are no part of the environment: trainenv doesn't unpack them, and packs none that it finds.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

_TEXTS = {
    "bin/activate": "activate.sh",
    "bin/activate.fish": "activate.fish",
    "bin/deactivate": "deactivate.sh",
}

TOOLS = frozenset(_TEXTS)

_MARK = b"# This file was made by trainenv."


@lru_cache(maxsize=1)
def tools() -> dict[str, bytes]:
    """The scripts, by path: the same for every archive of this trainenv."""
    folder = resources.files("trainenv.archives")
    return {path: folder.joinpath(name).read_bytes() for path, name in _TEXTS.items()}


def is_our_tool(file: Path) -> bool:
    """Whether ``file`` came out of an archive, and not with a package. Raises ``OSError``."""
    if not file.is_file():
        return False
    with file.open("rb", buffering=0) as stream:
        return stream.read(len(_MARK)) == _MARK
