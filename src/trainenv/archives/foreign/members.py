"""What may be in an archive of another program, and what is refused by name before it is written."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainenv.archives.checks import check_path
from trainenv.errors import ArchiveError

WRITTEN_TWICE = frozenset(("bin/activate", "bin/activate.fish", "bin/deactivate", "bin/conda-unpack"))
"""conda-pack adds these to environments that may have them already; the later one counts, as with tar."""

_HARMLESS_BYTES = 256 << 20
_HIGHEST_RATIO = 200
"""What unpacks to more than the harmless bytes and this multiple of itself is a bomb; real archives have 3 to 10."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. ``kind`` is ``"file"``, ``"folder"``, ``"link"``, ``"hardlink"`` or ``"device"`` for all else.

    ``mode`` has twelve bits. ``blocks`` reads the content of a file, once, before the next member is asked for.
    """

    path: str
    kind: str
    mode: int
    mtime: int
    size: int = 0
    target: str = ""
    blocks: Callable[[], Iterator[bytes]] = lambda: iter(())


class Limits:
    """How much may come out of an archive of ``packed`` bytes. Raises ``ArchiveError`` for more."""

    def __init__(self, archive: Path, packed: int, free: int | None = None) -> None:
        self._archive = archive
        self._most = _HARMLESS_BYTES + _HIGHEST_RATIO * packed
        self._free = free
        self._unpacked = 0

    def check(self, unpacked: int) -> None:
        """``unpacked`` bytes have come out of the archive until now."""
        if unpacked > self._most:
            raise ArchiveError(
                f"{self._archive} is refused",
                cause=f"it unpacks to more than {_HIGHEST_RATIO} times its own size, as no environment does",
                hint="Nothing was unpacked",
            )

    def count(self, size: int) -> None:
        """``size`` more bytes are to be written."""
        self._unpacked += size
        self.check(self._unpacked)
        if self._free is not None and self._unpacked > self._free:
            raise ArchiveError(
                f"{self._archive} can't be unpacked here",
                cause=f"it takes more than the {self._free // 1_000_000} MB that the disk has left",
                hint="Free some space, or set envs_dir in trainenv.toml to a larger disk; nothing was unpacked",
            )


class Rules:
    """Lets pass, one by one, the members of ``archive`` that can do no harm; ``kinds`` are theirs by path."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self.kinds: dict[str, str] = {}

    def passed(self, member: Member) -> Member:
        """``member``. Raises ``ArchiveError`` that names it and says why it is refused."""
        try:
            self._check(member)
        except ValueError as error:
            raise ArchiveError(f"{self._archive} is refused", cause=str(error), hint="Nothing was unpacked") from None
        self._enter(member)
        return member

    def _check(self, member: Member) -> None:
        path = member.path
        check_path(path)
        if member.kind == "device":
            raise ValueError(f"{path!r} is neither file, link nor folder")
        if member.kind == "file" and member.mode & (stat.S_ISUID | stat.S_ISGID):
            raise ValueError(f"{path!r} would run with the rights of its owner")
        if member.size < 0:
            raise ValueError(f"{path!r} has an impossible size")
        former = self.kinds.get(path)
        if former is not None and not (former == member.kind == "folder") and not _may_come_twice(path, former, member):
            raise ValueError(f"it has {path!r} twice")
        parent = path.rpartition("/")[0]
        while parent and self.kinds.get(parent) != "folder":
            if parent in self.kinds:
                raise ValueError(f"{path!r} lies below {parent!r}, which is no folder")
            parent = parent.rpartition("/")[0]
        if member.kind == "hardlink":
            check_path(member.target)
            if self.kinds.get(member.target) != "file":
                raise ValueError(f"{path!r} is a hard link to {member.target!r}, which is no file before it")

    def _enter(self, member: Member) -> None:
        self.kinds[member.path] = "file" if member.kind == "hardlink" else member.kind
        parent = member.path.rpartition("/")[0]
        while parent and parent not in self.kinds:
            self.kinds[parent] = "folder"
            parent = parent.rpartition("/")[0]


def _may_come_twice(path: str, former: str, member: Member) -> bool:
    own = any(path == name or path.endswith(f"/{name}") for name in WRITTEN_TWICE)
    return own and former == "file" and member.kind == "file"


def settled_link(path: str, target: str, kinds: dict[str, str], prefixes: tuple[str, ...]) -> str:
    """What the symlink at ``path`` shall hold: its target, relative, without a way through other links.

    A target inside one of ``prefixes``, where the environment lay before, is one inside it. Raises ``ValueError``
    for one that leads out of the environment.
    """
    here = path.split("/")[:-1]
    for prefix in prefixes:
        if target == prefix or target.startswith(f"{prefix}/"):
            inside = target[len(prefix) :].strip("/")
            target = "/".join([".."] * len(here) + ([inside] if inside else [])) or "."
            break
    if target.startswith("/") or "\0" in target or not target:
        raise ValueError(f"the link {path!r} leads out of the environment, to {target!r}")
    place = list(here)
    for part in target.split("/"):
        if part == "..":
            if not place:
                raise ValueError(f"the link {path!r} leads out of the environment, to {target!r}")
            if kinds.get("/".join(place)) == "link":
                raise ValueError(f"the link {path!r} leads to {target!r}, through another link and up again")
            place.pop()
        elif part not in ("", "."):
            place.append(part)
    shared = 0
    while shared < min(len(here), len(place)) and here[shared] == place[shared]:
        shared += 1
    return "/".join([".."] * (len(here) - shared) + place[shared:]) or "."
