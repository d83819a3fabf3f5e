"""A method's code: one hash of it, and a copy that outlives changes to the method's folder.

The copy is ``code.tar.gz`` in the folder of each task, an ordinary archive that is kept once for all
tasks with the same code (see ``kept``). What lies beside the code as data is not copied: it stands in
the archive as a symlink to where it is. Standard library only.

Code is every file of up to 1 MiB. Where that comes to over 1,000 files or 16 MiB it is only what looks
like code by its name, and of that the smallest files. Hidden files, ``__pycache__`` and what can't
be read are left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainenv.errors import TaskError
from trainenv.training import kept

FILE = "code.tar.gz"

_LARGEST_FILE = 1 << 20
_LARGEST_ALL = 16 << 20
_MOST_FILES = 1000
_LARGEST_ARCHIVE = 1 << 30
_LOOKS_LIKE_CODE = re.compile(
    r"(?:[^.]+|.*\.(?:bash|c|cc|cfg|conf|cpp|cu|cuh|cxx|h|hpp|ini|ipynb|j2|jinja2?|jl|js|json|lock|lua|md|proto|pxd|pyi?|pyx"
    r"|r|rst|sh|sql|template|toml|ts|txt|ya?ml))",
    re.IGNORECASE,
)
_EXTENT = re.compile(r"(\d+) files, (\d+) bytes")
"""The comment of a symlink in the archive."""


@dataclass(frozen=True)
class Part:
    """A file of code, or a file or folder of data (then ``content`` is None), by its path in the method's folder.

    Of data only how many ``files`` and bytes (``size``) it is counts, and ``target`` is where it lies.
    """

    path: str
    size: int
    files: int = 1
    executable: bool = False
    content: bytes | None = field(default=None, repr=False)
    target: str = field(default="", compare=False)

    @cached_property
    def mark(self) -> str:
        """What tells it from another version of it."""
        digest = "" if self.content is None else hashlib.sha256(self.content).hexdigest()
        return f"{self.files} {self.size} {'x' if self.executable else '-'} {digest}"


@dataclass(frozen=True)
class Code:
    """All parts, by path."""

    parts: tuple[Part, ...]

    @cached_property
    def sha256(self) -> str:
        """One hash over the code and the names and sizes of the data, the same wherever the folder lies."""
        total = hashlib.sha256()
        for part in self.parts:
            total.update(f"{part.path}\0{part.mark}\0".encode(errors="surrogateescape"))
        return total.hexdigest()

    def differences(self, other: Code) -> list[str]:
        """The paths that only one of the two has, or has otherwise than the other."""
        here = {part.path: part.mark for part in self.parts}
        there = {part.path: part.mark for part in other.parts}
        return sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path))


def read(folder: Path) -> Code:
    """The code in ``folder`` as it is now."""
    found = sorted(_walk(str(folder)))
    chosen = _code_among(found)
    parts: dict[str, Part] = {}
    with_code = {parent for path in chosen for parent in _parents(path)}
    for path, size, executable in found:
        if path in chosen:
            try:
                content = (folder / path).read_bytes()
            except OSError:
                continue
            parts[path] = Part(path, len(content), executable=executable, content=content)
            continue
        place = next((parent for parent in _parents(path) if parent not in with_code), path)
        former = parts.get(place, Part(place, 0, files=0))
        target = former.target or os.path.realpath(folder / place)
        parts[place] = Part(place, former.size + size, files=former.files + 1, target=target)
    return Code(tuple(parts[path] for path in sorted(parts)))


def keep(tasks_dir: Path, code: Code) -> Path:
    """The file in which ``code`` is kept for all tasks; made if it is not there. Raises ``OSError``."""
    # The same names and sizes of data in another place are other data.
    places = "\0".join(part.target for part in code.parts if part.content is None)
    name = hashlib.sha256(f"{code.sha256}{places}".encode(errors="surrogateescape")).hexdigest()
    return kept.keep(tasks_dir, f"code-{name}.tar.gz", lambda: packed(code))


def packed(code: Code) -> bytes:
    """``code`` as a ``.tar.gz``: the same code in the same place gives the same bytes."""
    import gzip
    import tarfile

    whole = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=whole, mode="wb", compresslevel=3, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for part in code.parts:
            member = tarfile.TarInfo(part.path)
            if part.content is None:
                member.type, member.linkname = tarfile.SYMTYPE, part.target
                member.pax_headers = {"comment": f"{part.files} files, {part.size} bytes"}
                tar.addfile(member)
            else:
                member.size, member.mode = part.size, 0o755 if part.executable else 0o644
                tar.addfile(member, io.BytesIO(part.content))
    return whole.getvalue()


def unpacked(archive: Path) -> Code:
    """The code in a task's ``code.tar.gz``. Raises ``TaskError`` if it is missing, damaged or something else."""
    import gzip
    import tarfile
    import zlib

    parts = []
    try:
        with gzip.open(archive) as stream:
            whole = stream.read(_LARGEST_ARCHIVE)
            if stream.read(1):
                raise TaskError(f"{archive} is no copy of a method's code", cause="it is too large")
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            for member in tar:
                if not _is_inside(member.name) or not (member.isfile() or member.issym()):
                    raise TaskError(f"{archive} is no copy of a method's code", cause=f"it holds {member.name!r}")
                if member.issym():
                    extent = _EXTENT.fullmatch(member.pax_headers.get("comment", ""))
                    files, size = map(int, extent.groups()) if extent else (0, 0)
                    parts.append(Part(member.name, size, files=files, target=member.linkname))
                    continue
                file = tar.extractfile(member)
                content = file.read() if file else b""
                executable = bool(member.mode & stat.S_IXUSR)
                parts.append(Part(member.name, member.size, executable=executable, content=content))
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise TaskError(f"the task's code can't be read from {archive}", cause=str(error)) from None
    return Code(tuple(parts))


def write(code: Code, folder: Path) -> None:
    """Put ``code`` into the new ``folder``, with links to the data beside it. Raises ``OSError``."""
    for part in code.parts:
        target = folder / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.content is None:
            target.symlink_to(part.target)
        else:
            target.write_bytes(part.content)
            target.chmod(0o755 if part.executable else 0o644)


def _parents(path: str) -> list[str]:
    """The folders that ``path`` lies in, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _is_inside(path: str) -> bool:
    return bool(path) and not os.path.isabs(path) and os.path.normpath(path) == path and not path.startswith("..")


def _code_among(found: Iterable[tuple[str, int, bool]]) -> set[str]:
    """Which of the files (path, size, executable) are code."""
    small = [(path, size) for path, size, _ in found if size <= _LARGEST_FILE]
    if len(small) > _MOST_FILES or sum(size for _, size in small) > _LARGEST_ALL:
        small = [(path, size) for path, size in small if _LOOKS_LIKE_CODE.fullmatch(os.path.basename(path))]
    chosen: set[str] = set()
    total = 0
    for path, size in sorted(small, key=lambda item: (item[1], item[0]))[:_MOST_FILES]:
        total += size
        if total > _LARGEST_ALL:
            break
        chosen.add(path)
    return chosen


def _walk(folder: str, inside: str = "") -> Iterator[tuple[str, int, bool]]:
    """Path, size and whether it can be executed, of each readable file; a link to a folder counts as data."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        path = f"{inside}{entry.name}"
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{path}/")
                continue
            status = entry.stat()
        except OSError:  # It vanished, or is a link that leads nowhere.
            continue
        if stat.S_ISDIR(status.st_mode):
            yield path, _LARGEST_FILE + 1, False
        elif stat.S_ISREG(status.st_mode) and os.access(entry.path, os.R_OK):
            yield path, status.st_size, bool(status.st_mode & stat.S_IXUSR)
