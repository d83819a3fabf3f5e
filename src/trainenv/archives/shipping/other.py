"""A file in whatever place fsspec knows: an object store, a cloud, another archive, the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.transport import Interrupted
from trainenv.errors import ArchiveError, UsageError

T = TypeVar("T")

_LANES = 4
_BLOCK = 4 << 20


class OtherFile:
    """The file at ``place``; who one is there is what the plug-in's own settings say.

    Raises ``UsageError`` for an address that no installed plug-in knows.
    """

    ranged = True

    def __init__(self, place: Address) -> None:
        self.name = place.name
        self._system, self._path = file_system(place)
        # A file system that is not asynchronous need not bear several threads.
        self.lanes = _LANES if self._system.async_impl else 1
        about = guarded(lambda: self._system.info(self._path), self.name)
        if about.get("type") == "directory":
            raise ArchiveError(f"{self.name} is a folder", hint="Name the archive in it")
        size = about.get("size")
        self.size = size if isinstance(size, int) else None
        self.ranged = self.size is not None
        marks = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created", "generation")
        self.identity = " ".join(str(about[mark]) for mark in marks if about.get(mark))

    def blocks(self, start: int, length: int | None) -> Iterator[bytes]:
        if length is None:
            yield from self._all_from(start)
            return
        end = start + length
        while start < end:
            begin, stop = start, min(start + _BLOCK, end)
            block = guarded(lambda: self._system.cat_file(self._path, begin, stop), self.name)  # noqa: B023
            if not block:
                return
            yield bytes(block)
            start += len(block)

    def close(self) -> None: ...

    def _all_from(self, start: int) -> Iterator[bytes]:
        with guarded(lambda: self._system.open(self._path, "rb"), self.name) as file:
            while block := guarded(lambda: file.read(_BLOCK), self.name):
                yield block[start:]
                start = max(0, start - len(block))


def file_system(place: Address) -> tuple[Any, str]:
    """fsspec's file system for ``place``, and the path in it."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(place.text)
    except ImportError as error:
        raise UsageError(
            f"{place.name} can't be reached", cause=_words(error), hint="Install it beside trainenv"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{place.name} can't be reached", cause=_words(error), hint="Known are http(s), ssh, file and fsspec's"
        ) from None
    except Exception as error:
        raise ArchiveError(
            f"{place.name} can't be reached", cause=_words(error), hint="See whether it is there"
        ) from None
    return system, path


def guarded(act: Callable[[], T], name: str) -> T:
    """What ``act`` gives; plug-ins raise what they like, and of most of it nobody can say whether it will pass."""
    try:
        return act()
    except FileNotFoundError:
        raise ArchiveError(f"{name} is not there", hint="See whether the address is right") from None
    except PermissionError as error:
        raise ArchiveError(f"{name} can't be used", cause=_words(error) or "permission denied") from None
    except (NotImplementedError, IsADirectoryError, NotADirectoryError) as error:
        raise ArchiveError(f"{name} can't be used", cause=_words(error)) from None
    except Exception as error:
        raise Interrupted(_words(error)) from None


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
