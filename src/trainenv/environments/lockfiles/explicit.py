"""``@EXPLICIT``: a list of conda packages by URL, as ``conda list --explicit`` prints it.

::

    # platform: linux-64
    @EXPLICIT
    https://conda.example.org/channel/noarch/tzdata-2024a-h0c530f3_0.conda#sha256:HEX

The part after ``#`` may also be ``HEX`` alone: an md5 of 32 or a sha256 of 64 digits.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from trainenv.channels.target import Target, this_platform
from trainenv.environments.locked import LockedConda, LockedEnvironment, file_url
from trainenv.environments.lockfiles.platform import refuse_unless_for
from trainenv.errors import SpecificationError

_PLATFORM = re.compile(r"^#\s*platform:\s*(\S+)", re.MULTILINE)
_HASH = re.compile(r"(?:(?:md5:)?(?P<md5>[0-9a-fA-F]{32})|(?:sha256:)?(?P<sha256>[0-9a-fA-F]{64}))\Z")


def platforms(file: Path, text: str) -> list[str]:
    """The platform that its head names."""
    return sorted({match[1] for match in _PLATFORM.finditer(text)})


def read(file: Path, text: str, platform: str | None = None) -> LockedEnvironment:
    """The packages in the ``@EXPLICIT`` list ``text`` for ``platform``, by default this machine.

    Raises ``SpecificationError`` naming the line.
    """
    here = platform or this_platform()
    for match in _PLATFORM.finditer(text):
        refuse_unless_for(here, [match[1]], str(file))
    packages: list[LockedConda] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith(("#", "@")):
            packages.append(_package(file, number, line))
    if not packages:
        raise SpecificationError(f"{file} lists no packages", hint="Name the file that does")
    for package in packages:
        if package.subdir != "noarch":
            refuse_unless_for(here, [package.subdir], str(file))
    channels = tuple(dict.fromkeys(item.channel for item in packages))
    halves = frozenset({"conda"})
    return LockedEnvironment(str(file), channels, tuple(packages), halves=halves, target=Target(here))


def _package(file: Path, number: int, line: str) -> LockedConda:
    url, _, digest = line.partition("#")
    match = _HASH.match(digest)
    if digest and not match:
        raise SpecificationError(
            f"{file} line {number} has no valid hash", cause=f"{digest!r} is neither md5 nor sha256"
        )
    try:
        if "://" not in url:
            url = file_url(os.path.normpath(file.absolute().parent / Path(url).expanduser()))
        found = match.groupdict() if match else {}
        hashes = {kind: value.lower() for kind, value in found.items() if value}
        return LockedConda.from_url(url, hashes.get("sha256"), hashes.get("md5"))
    except (ValueError, RuntimeError) as error:
        raise SpecificationError(f"{file} line {number} is not understood", cause=str(error)) from None


def dump(locked: LockedEnvironment) -> str:
    """The conda half of ``locked``; PyPI packages have no place in this format."""
    lines = [f"# platform: {locked.target.subdir}", "@EXPLICIT"]
    for package in locked.conda:
        digest = f"#sha256:{package.sha256}" if package.sha256 else f"#{package.md5}" if package.md5 else ""
        lines.append(f"{package.url}{digest}")
    return "\n".join(lines) + "\n"
