"""What every file of a prefix should be by its records, and what it is.

One pass over the prefix reads each file once: its hash, forbidden prefixes and, of ELF files, what
they need. ``verify`` tells of what is found here, ``repair`` mends it.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from trainenv import relocation
from trainenv.environments import left_out, libraries
from trainenv.environments.records import (
    LINK_HASH,
    NOTES_DIR,
    CondaRecord,
    Distribution,
    distributions,
    pypi_distributions,
    read_note,
    readable_conda_records,
)
from trainenv.environments.relocated import NOTE, carried_prefix
from trainenv.progress import Step
from trainenv.relocation.search import holds

_MAPPED = 64 * 1024 * 1024
"""Files over this size are mapped, not read."""
_HASHED_ASIDE = 1 << 20
"""From this size on, a file is hashed in another thread while it is searched."""

CONDA, PYPI, NOTES = "conda", "pypi", "notes"


@dataclass(frozen=True)
class Damage:
    """One thing that is not as recorded. ``path`` is relative to the prefix.

    ``kind`` says whose it is: a conda package's, a PyPI package's, or trainenv's own notes; ``owner``
    is the package. ``what`` completes the sentence that begins with the path.
    """

    path: str
    kind: str
    owner: str
    what: str

    def __str__(self) -> str:
        return " of ".join(filter(None, (self.path, self.owner))) + f" {self.what}"


@dataclass(frozen=True)
class Expected:
    """One recorded file. ``sha256`` is hexadecimal, None where the record has none.

    ``canonical`` are the occurrences by which to undo the prefix before hashing. ``packaged`` is the
    hash before any prefix was written: a link has that of the file it leads to.
    """

    path: str
    kind: str
    owner: str
    is_link: bool
    sha256: str | None
    packaged: str | None = None
    canonical: relocation.Occurrences | None = None


@dataclass
class Inspection:
    """What one pass found. ``files`` were compared with their hash; ``unknown`` belong to no package.

    ``leftovers`` are ``(path, prefix)`` of files that hold a forbidden prefix.
    """

    files: int = 0
    damage: list[Damage] = field(default_factory=list)
    leftovers: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    elf: list[libraries.ElfFile] = field(default_factory=list)
    present: list[str] = field(default_factory=list)


def inspect(prefix: Path, *, banned: Sequence[str], step: Step, proven: Set[str] = frozenset()) -> Inspection:
    """Compare every file of ``prefix`` with its record and look for ``banned`` prefixes in it.

    Of ``proven`` files only their presence is looked at, and nothing of what they need is known afterwards.
    """
    records, unreadable = readable_conda_records(prefix)
    pypi = pypi_distributions(prefix, records)
    found = Inspection()
    for file, cause in unreadable.items():
        found.damage.append(Damage(f"conda-meta/{file.name}", CONDA, name_of(file.stem), f"can't be read: {cause}"))
    found.damage += _damaged_distributions(pypi)
    found.damage += _lost_packages(prefix, [*(record.path for record in records), *unreadable], pypi)
    expected = {item.path: item for item in expected_files(prefix, records, pypi)}
    paths = sorted(_walk(prefix))
    found.present = paths
    step.expect(len(paths))
    unpacked_without = left_out.paths(prefix, records, pypi)
    found.damage += _absent(prefix, expected, paths, unpacked_without)
    held = carried_prefix(prefix) or str(prefix)
    records_of_distributions = {f"{item.folder}/RECORD" for item in distributions(prefix)}
    with ThreadPoolExecutor(1) as aside:
        for path in paths:
            step.advance()
            item = expected.get(path)
            if item is None and not _is_known(path) and path not in records_of_distributions:
                found.unknown.append(path)
            if path in proven:
                found.files += item is not None and item.sha256 is not None
                continue
            try:
                _inspect(prefix, path, item, expected, held, banned, aside, found)
            except FileNotFoundError:
                continue  # Whatever runs in the environment may have removed it meanwhile.
            except OSError as error:
                kind, owner = (item.kind, item.owner) if item else (NOTES, "")
                found.damage.append(Damage(path, kind, owner, f"can't be read: {error.strerror}"))
    return found


def expected_files(prefix: Path, records: list[CondaRecord], pypi: list[Distribution]) -> Iterator[Expected]:
    """Every file that a record names; ``.pyc`` files, which Python makes anew, are left out."""
    relocated = read_note(prefix, NOTE).get("files", {})

    def item(path: str, kind: str, owner: str, is_link: bool, digest: str | None, packaged: str | None) -> Expected:
        note = relocated.get(path)
        if note is None:
            return Expected(path, kind, owner, is_link, digest, packaged)
        return Expected(path, kind, owner, False, note["sha256"], packaged, relocation.Occurrences.from_json(note))

    for record in records:
        entries = {entry["_path"]: entry for entry in record.paths}
        for path in record.files:
            entry = entries.get(path, {})
            digest = entry.get("sha256_in_prefix") or entry.get(LINK_HASH)
            if digest is None and not entry.get("prefix_placeholder"):
                digest = entry.get("sha256")
            is_link = entry.get("path_type") == "softlink"
            if not path.endswith(".pyc"):
                yield item(path, CONDA, record.name, is_link, digest, entry.get("sha256"))
    for distribution in pypi:
        for path, digest, _ in distribution.record():
            if not path.endswith(".pyc"):
                yield item(path, PYPI, distribution.key, False, _hexadecimal(digest), None)


def check(prefix: Path, item: Expected) -> str | None:
    """What is wrong with one file, None if nothing is. Links are only looked at, not followed far."""
    try:
        status = (prefix / item.path).lstat()
    except OSError:
        return "is missing"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    if item.is_link or item.sha256 is None:
        return None
    try:
        data = (prefix / item.path).read_bytes()
    except OSError as error:
        return f"can't be read: {error.strerror}"
    held = carried_prefix(prefix) or str(prefix)
    return None if _digest(data, item, held) == item.sha256 else _CHANGED


_CHANGED = "was changed: its sha256 differs from the record"


def _walk(prefix: Path) -> Iterator[str]:
    """Every file and link of ``prefix``, relative to it."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(f"{prefix}/{folder}"))
        except FileNotFoundError:
            continue
        for entry in entries:
            path = f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{path}/")
            else:
                yield path


def _is_known(path: str) -> bool:
    """What no package brings and every environment has: its records, and what tools and Python leave there."""
    return path.startswith("conda-meta/") or path.endswith(".pyc") or path == "CACHEDIR.TAG"


def _damaged_distributions(pypi: Iterable[Distribution]) -> Iterator[Damage]:
    for distribution in pypi:
        record = f"{distribution.folder}/RECORD"
        listed = {path for path, _, _ in distribution.record()}
        if not listed:
            yield Damage(record, PYPI, distribution.key, "is missing or empty")
        elif record not in listed or f"{distribution.folder}/METADATA" not in listed:
            yield Damage(record, PYPI, distribution.key, "is cut: it does not list itself")


def name_of(stem: str) -> str:
    """The name of the conda package ``NAME-VERSION-BUILD``."""
    return stem.rsplit("-", 2)[0]


_LOCKED_CONDA = re.compile(r"^ +- conda: \S*/(\S+)\.(?:conda|tar\.bz2)$", re.MULTILINE)
_LOCKED_PYPI = re.compile(r"^- pypi: .*\n  name: (\S+)$", re.MULTILINE)


def _lost_packages(prefix: Path, records: Iterable[Path], pypi: Iterable[Distribution]) -> Iterator[Damage]:
    """What the lock names and no record: somebody removed the record.

    A lock that is older than ``conda-meta/history`` says nothing: another tool changed the environment.
    """
    lock, history = prefix / NOTES_DIR / "pixi.lock", prefix / "conda-meta" / "history"
    if not history.is_file():
        yield Damage("conda-meta/history", NOTES, "", "is missing")
    try:
        text = lock.read_text(encoding="utf-8", errors="replace")
    except OSError:
        if (prefix / NOTES_DIR / "environment.json").is_file():
            yield Damage(f"{NOTES_DIR}/pixi.lock", NOTES, "", "is missing")
        return
    if history.is_file() and history.stat().st_mtime > lock.stat().st_mtime:
        return
    recorded = {path.stem for path in records}
    for stem in map(unquote, _LOCKED_CONDA.findall(text)):
        if stem not in recorded:
            yield Damage(f"conda-meta/{stem}.json", CONDA, name_of(stem), "is missing")
    installed = {distribution.key for distribution in pypi}
    for name in _LOCKED_PYPI.findall(text):
        if name not in installed:
            yield Damage("", PYPI, name, "is not installed, though the lock names it")


def _absent(
    prefix: Path, expected: dict[str, Expected], paths: Sequence[str], without: frozenset[str]
) -> Iterator[Damage]:
    """What a record names and nobody finds; not what an archive was made ``without``."""
    present = {*paths, *without}
    for item in expected.values():
        if item.path in present or os.path.normpath(item.path).startswith(".."):
            continue
        is_folder = (prefix / item.path).is_dir()
        if is_folder and item.is_link is False and item.sha256 is None and item.kind == CONDA:
            continue  # conda packages may list folders.
        yield Damage(item.path, item.kind, item.owner, "is a folder" if is_folder else "is missing")


def _inspect(
    prefix: Path,
    path: str,
    item: Expected | None,
    expected: dict[str, Expected],
    held: str,
    banned: Sequence[str],
    aside: ThreadPoolExecutor,
    found: Inspection,
) -> None:
    file = prefix / path
    status = file.lstat()
    if stat.S_ISLNK(status.st_mode):
        _inspect_link(prefix, path, item, expected, banned, found)
        return
    if not stat.S_ISREG(status.st_mode):
        return
    if item is not None and item.is_link:
        found.damage.append(Damage(path, item.kind, item.owner, "is not a link any more"))
    with ExitStack() as stack:
        stream = stack.enter_context(file.open("rb", buffering=0))
        data: bytes | mmap.mmap
        if status.st_size <= _MAPPED:
            data = stream.read()
        else:
            data = stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        digest: Future[str] | None = None
        if item is not None and item.sha256 is not None and not item.is_link:
            found.files += 1
            if len(data) >= _HASHED_ASIDE:
                digest = aside.submit(_digest, data, item, held)
            elif _digest(data, item, held) != item.sha256:
                found.damage.append(Damage(path, item.kind, item.owner, _CHANGED))
        try:
            found.leftovers += ((path, one) for one in banned if holds(data, one, path))
            is_program = data[:4] == b"\x7fELF"
            if is_program and (elf := libraries.read_elf(path, data)) is not None:
                found.elf.append(elf)
        finally:
            if digest is not None and item is not None and digest.result() != item.sha256:
                found.damage.append(Damage(path, item.kind, item.owner, _CHANGED))
        if path.startswith("bin/") and not status.st_mode & stat.S_IXUSR and _is_startable(data, prefix, held):
            kind, owner = (item.kind, item.owner) if item else (NOTES, "")
            found.damage.append(Damage(path, kind, owner, NOT_EXECUTABLE))


NOT_EXECUTABLE = "is not executable"


def _is_startable(data: bytes | mmap.mmap, prefix: Path, held: str) -> bool:
    """A program, or a script of an interpreter of the prefix."""
    head = bytes(data[:300])
    interpreters = tuple(f"#!{place}/bin/".encode() for place in (prefix, held))
    return head.startswith((b"\x7fELF", *interpreters)) or b"trainenv_script" in head


def _inspect_link(
    prefix: Path,
    path: str,
    item: Expected | None,
    expected: dict[str, Expected],
    banned: Iterable[str],
    found: Inspection,
) -> None:
    file = prefix / path
    target = os.readlink(file)
    found.leftovers += ((path, one) for one in banned if relocation.moved_link(target, one, "") is not None)
    if item is None:
        return
    if not file.exists():
        found.damage.append(Damage(path, item.kind, item.owner, "is a link to nothing"))
        return
    if not file.is_file():
        return
    if item.is_link:
        inside = os.path.relpath(os.path.realpath(file), os.path.realpath(prefix))
        led_to = expected.get(inside)
        holds_it = (
            item.packaged is None
            or hashlib.sha256(os.fsencode(target)).hexdigest() == item.sha256
            or (led_to is not None and led_to.packaged == item.packaged)
            or hashlib.sha256(file.read_bytes()).hexdigest() == item.packaged
        )
        if not holds_it:
            found.damage.append(Damage(path, item.kind, item.owner, f"is a link to another file, {target}"))
    elif item.sha256 is not None:
        found.files += 1
        held = carried_prefix(prefix) or str(prefix)
        if _digest(file.read_bytes(), item, held) != item.sha256:
            found.damage.append(Damage(path, item.kind, item.owner, _CHANGED))


def _digest(data: bytes | mmap.mmap, item: Expected, held: str) -> str:
    if item.canonical is None:
        return hashlib.sha256(data).hexdigest()
    try:
        occurrences = relocation.shifted(item.canonical, relocation.PLACEHOLDER, held)
        content, _ = relocation.rewrite(
            bytes(data), occurrences, held, relocation.PLACEHOLDER, item.path, portable=True
        )
    except (ValueError, IndexError, relocation.MismatchError, relocation.NoRoomError):
        return ""
    return hashlib.sha256(content).hexdigest()


def _hexadecimal(digest: str) -> str | None:
    """RECORD writes ``sha256=`` and URL-safe base64 without padding."""
    kind, _, value = digest.partition("=")
    if kind != "sha256":
        return None
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return "unreadable"
