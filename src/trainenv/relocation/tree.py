"""Finds and rewrites a prefix in a whole tree of files."""

from __future__ import annotations

import glob
import mmap
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.errors import RelocationError
from trainenv.relocation.rewrite import (
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    moved_link,
    rewrite,
    room,
    with_source_size,
)
from trainenv.relocation.search import checked_prefix, find, holds, needles

if TYPE_CHECKING:
    from trainenv.progress import Reporter
    from trainenv.relocation.rewrite import Data

_LARGE = 64 * 1024 * 1024
"""Files over this size are searched in pieces, and mapped instead of read when there is something."""
_CHUNK = 16 * 1024 * 1024


class PrefixTooLongError(NoRoomError, RelocationError):
    """Binaries of the tree have no room for the new prefix. Nothing has been written."""

    def __init__(self, error: NoRoomError, longest: int) -> None:
        NoRoomError.__init__(self, error.path, error.needed, error.room)
        RelocationError.__init__(
            self,
            "The prefix is too long for this environment",
            cause=str(error),
            hint=f"Choose a prefix of at most {longest} characters",
        )


def find_in_tree(
    root: Path,
    prefix: str,
    *,
    paths: Iterable[str] | None = None,
    placeholder_lengths: Mapping[str, int] | None = None,
    recorded: Mapping[str, Occurrences] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Occurrences]:
    """The occurrences of ``prefix`` in the regular files under ``root``, by path relative to ``root``.

    ``paths`` limits the search; what is no regular file or not there holds nothing. ``placeholder_lengths``
    are by path, in bytes, as conda packages record them. ``recorded`` are occurrences of ``prefix`` that are known from
    earlier, by path: where still true they count, as they say how it is spelled where all spellings are the same.
    """
    _check(prefix)
    lengths = placeholder_lengths or {}
    known = recorded or {}
    found: dict[str, Occurrences] = {}
    for path in _watched(_files(root, paths), "search", reporter):
        with _data(root, path, needles(prefix, path)) as data:
            if data is not None:
                occurrences = find(data, prefix, path, placeholder_length=lengths.get(path))
                if occurrences is not None:
                    found[path] = _as_recorded(data, occurrences, known.get(path), prefix, path)
    return found


def _as_recorded(data: Data, found: Occurrences, known: Occurrences | None, prefix: str, path: str) -> Occurrences:
    """``known`` if it is about the same places as ``found``, and true of ``data``."""
    if known is None or (known.kind, known.offsets) != (found.kind, found.offsets):
        return found
    try:
        return known if rewrite(data, known, prefix, prefix, path)[0] == data[:] else found
    except (MismatchError, NoRoomError):
        return found


def relocate_tree(
    root: Path,
    old: str,
    new: str,
    *,
    paths: Iterable[str] | None = None,
    placeholder_lengths: Mapping[str, int] | None = None,
    recorded: Mapping[str, Occurrences] | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Occurrences]:
    """Make every file and symlink under ``root`` (or only ``paths``) that names ``old`` name ``new``.

    Returns the occurrences of ``new`` by path; ``recorded`` as for ``find_in_tree``. A file is written
    beside itself and renamed, with its mode, times and extended attributes, so that other hard links to it
    keep what they have. A ``.pyc`` stays valid although its source gets another size.

    Raises ``PrefixTooLongError`` before anything is written if a binary has no room for ``new``.
    """
    _check(new)
    selected = None if paths is None else list(paths)
    found = find_in_tree(
        root, old, paths=selected, placeholder_lengths=placeholder_lengths, recorded=recorded, reporter=reporter
    )
    _check_room(found, new)
    if old == new:
        return found
    moved: dict[str, Occurrences] = {}
    resized: dict[str, tuple[int, int]] = {}
    for path in _watched(sorted(found, key=lambda path: path.endswith(".pyc")), "relocate", reporter):
        before = _read(root, path)
        after, moved[path] = rewrite(before, found[path], old, new, path)
        if path in resized:
            after = with_source_size(after, *resized.pop(path))
        _replace(root, path, before, after)
        if path.endswith(".py") and len(after) != len(before):
            resized.update(dict.fromkeys(_compiled(root, path), (len(before), len(after))))
    for path, sizes in resized.items():
        before = _read(root, path)
        _replace(root, path, before, with_source_size(before, *sizes))
    for path in _links(root, selected):
        target = moved_link(os.readlink(root / path), old, new)
        if target is not None:
            _replace_link(root / path, target)
    return dict(sorted(moved.items()))


def leftovers(root: Path, prefixes: Sequence[str]) -> list[tuple[str, str]]:
    """Which files and symlinks under ``root`` still name one of ``prefixes``: ``(path, prefix)``.

    What can't be rewritten, as in a zip file, counts as well.
    """
    for prefix in prefixes:
        _check(prefix)
    left: list[tuple[str, str]] = []
    for path in _files(root, None):
        wanted = [needle for prefix in prefixes for needle in needles(prefix, path)]
        with _data(root, path, wanted) as data:
            if data is not None:
                left += ((path, prefix) for prefix in prefixes if holds(data, prefix, path))
    for path in _links(root, None):
        target = os.readlink(root / path)
        left += ((path, prefix) for prefix in prefixes if moved_link(target, prefix, "") is not None)
    return sorted(left)


def _check(prefix: str) -> None:
    try:
        checked_prefix(prefix)
    except ValueError as error:
        raise RelocationError(str(error), hint="Give an absolute path") from None


def _check_room(found: Mapping[str, Occurrences], new: str) -> None:
    for path, occurrences in found.items():
        try:
            check_room(occurrences, new, path)
        except NoRoomError as error:
            limits = [limit for o in found.values() if (limit := room(o)) is not None]
            raise PrefixTooLongError(error, max(0, min(limits))) from None


def _files(root: Path, paths: Iterable[str] | None) -> Iterator[str]:
    """Regular files, as paths relative to ``root``."""
    if paths is None:
        return (path for path, is_link in _walk(root) if not is_link)
    return (path for path in paths if (root / path).is_file() and not (root / path).is_symlink())


def _links(root: Path, paths: Iterable[str] | None) -> Iterator[str]:
    """Symlinks, as paths relative to ``root``."""
    if paths is None:
        return (path for path, is_link in _walk(root) if is_link)
    return (path for path in paths if (root / path).is_symlink())


def _walk(root: Path) -> Iterator[tuple[str, bool]]:
    """All regular files and symlinks, and which of the two each is."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with _explained(folder or str(root)), os.scandir(root / folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                yield path, True
            elif entry.is_dir():
                folders.append(path)
            elif entry.is_file():
                yield path, False


@contextmanager
def _data(root: Path, path: str, wanted: Sequence[bytes]) -> Iterator[Data | None]:
    """The bytes of a file that may hold a needle; ``None`` if it can't, or is gone."""
    with _explained(path), ExitStack() as stack:
        try:
            file = stack.enter_context(open(f"{root}/{path}", "rb", buffering=0))
        except FileNotFoundError:
            yield None
            return
        if os.fstat(file.fileno()).st_size <= _LARGE:
            data = file.read()
            is_candidate = data[:2] == b"#!" or any(needle in data for needle in wanted)
            yield data if is_candidate else None
        elif _is_in_chunks(file, wanted):
            yield stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        else:
            yield None


def _is_in_chunks(file: FileIO, wanted: Sequence[bytes]) -> bool:
    overlap = max(map(len, wanted)) - 1
    end = b""
    while chunk := file.read(_CHUNK):
        window = end + chunk
        if any(needle in window for needle in wanted):
            return True
        end = window[-overlap:]
    return False


def _read(root: Path, path: str) -> bytes:
    with _explained(path):
        return (root / path).read_bytes()


def _replace(root: Path, path: str, before: bytes, after: bytes) -> None:
    """Put a new file in the place of the one that holds ``before``; all but its bytes stays."""
    if after == before:
        return
    file = root / path
    beside = file.with_name(f".relocated-{os.getpid()}")
    with _explained(path):
        try:
            beside.write_bytes(after)
            shutil.copystat(file, beside)
            beside.replace(file)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _replace_link(link: Path, target: str) -> None:
    beside = link.with_name(f".relocated-{os.getpid()}")
    with _explained(str(link)):
        beside.symlink_to(target)
        beside.replace(link)


def _compiled(root: Path, source: str) -> list[str]:
    """The ``.pyc`` files of a ``.py`` file."""
    file = Path(source)
    beside = file.with_suffix(".pyc")
    cached = sorted((root / file.parent / "__pycache__").glob(f"{glob.escape(file.stem)}.*.pyc"))
    return [
        *([str(beside)] if (root / beside).is_file() else []),
        *(str(path.relative_to(root)) for path in cached),
    ]


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the operating system's refusals into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise RelocationError(f"{path} can't be relocated", cause=error.strerror or str(error)) from None


def _watched(paths: Iterable[str], name: str, reporter: Reporter | None) -> Iterator[str]:
    """``paths``, counted as a step while they are worked on."""
    if reporter is None:
        yield from paths
        return
    with reporter.step(name, total=len(paths) if isinstance(paths, Sized) else None, unit="files") as step:
        for path in paths:
            yield path
            step.advance()
