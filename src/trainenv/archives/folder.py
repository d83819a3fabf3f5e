"""An archive that is a folder: its members as they are in the tar, with the manifest among them.

The folder can be copied by any means, put into a container image, or made an environment where it lies with
``bin/conda-unpack``; after that it is no archive any more.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trainenv.archives.manifest import LONGEST, MANIFEST_FILE, MANIFEST_SUM_FILE, PREFIX_FILE, Manifest
from trainenv.archives.members import File
from trainenv.archives.sources import damaged, unreadable
from trainenv.archives.windows import BLOCK
from trainenv.errors import ArchiveError


class FolderWriter:
    """Writes members below the empty folder ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self._folders: list[tuple[str, int, int]] = []

    def member(
        self, path: str, kind: str, mode: int, mtime: int, size: int = 0, target: str = "", blocks: Iterable[bytes] = ()
    ) -> None:
        place = self._root + "/" + path
        if kind == "folder":
            self._folders.append((place, mode, mtime))
            os.mkdir(place, 0o700)
        elif kind == "link":
            os.symlink(target, place)
            os.utime(place, (mtime, mtime), follow_symlinks=False)
        else:
            self._write(place, mode, mtime, blocks)

    def end_package(self) -> None: ...

    def finish(self, manifest: bytes) -> None:
        digest = hashlib.sha256(manifest).hexdigest()
        for path, content in (
            (MANIFEST_FILE, manifest),
            (MANIFEST_SUM_FILE, f"{digest}  {os.path.basename(MANIFEST_FILE)}\n".encode()),
        ):
            self._write(f"{self._root}/{path}", 0o644, 0, [content])
        for place, mode, mtime in reversed(self._folders):
            os.chmod(place, mode)
            os.utime(place, (mtime, mtime))

    def close(self) -> None: ...

    def _write(self, place: str, mode: int, mtime: int, blocks: Iterable[bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(place, flags, 0o600), "wb", buffering=0) as file:
            for block in blocks:
                view = memoryview(block)
                while view:
                    view = view[file.write(view) :]
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), (mtime, mtime))


class Folder:
    """An archive in the folder ``path``, in the place of a ``ByteSource``: it has no bytes of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = os.fspath(path)
        self.size = 0

    def read(self, start: int, length: int) -> bytes:
        raise damaged(self.name, "it is a folder")

    def expect(self, parts: Sequence[tuple[int, int]]) -> None: ...

    def close(self) -> None: ...

    def manifest(self) -> bytes:
        """The JSON of its manifest. Raises ``ArchiveError``."""
        try:
            with (self.path / MANIFEST_FILE).open("rb") as file:
                document = file.read(LONGEST + 1)
            said = (self.path / MANIFEST_SUM_FILE).read_text()
            prefix = self.path / PREFIX_FILE
            held = prefix.read_text(encoding="utf-8").rstrip("\n") if prefix.exists() else None
        except FileNotFoundError:
            raise ArchiveError(
                f"{self.name} is not a trainenv archive",
                cause="this folder has no manifest",
                hint="`trainenv pack --format folder` makes one",
            ) from None
        except OSError as error:
            raise unreadable(error.filename or self.name, error) from None
        except ValueError as error:
            raise damaged(self.name, str(error)) from None
        if held is not None:
            raise ArchiveError(
                f"{self.name} is no archive any more",
                cause=f"it was made an environment with the prefix {held}",
                hint=f"Pack it as that: `trainenv pack -p {shlex.quote(self.name)}`",
            )
        if len(document) > LONGEST or said.split()[:1] != [hashlib.sha256(document).hexdigest()]:
            raise damaged(self.name, "its manifest has not the recorded sha256")
        return document


class FolderReader:
    """Reads members in whatever order they are asked for; see ``reading.Reader``.

    Modes and times are not compared, as copying may change them: an unpacker writes those of the manifest.
    """

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self._name = folder.name
        self._root = os.fspath(folder.path)
        self._known = {file.path for file in manifest.files} | {MANIFEST_FILE, MANIFEST_SUM_FILE}

    def header(self, file: File) -> None:
        place = f"{self._root}/{file.path}"
        try:
            mode = os.lstat(place).st_mode
            target = os.readlink(place) if stat.S_ISLNK(mode) else ""
        except OSError as error:
            raise damaged(self._name, f"{file.path!r}: {error.strerror or error}") from None
        kind = "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "link" if target else "device"
        if (kind, target) != (file.kind, file.target):
            raise damaged(self._name, f"{file.path!r} is not what the manifest says")

    def content(self, file: File) -> bytes:
        return b"".join(self.blocks(file))

    def blocks(self, file: File) -> Iterator[bytes]:
        digest = hashlib.sha256()
        held, size = b"", 0
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with os.fdopen(os.open(f"{self._root}/{file.path}", flags), "rb", buffering=0) as stream:
                while size <= file.size and (block := stream.read(BLOCK)):
                    digest.update(block)
                    size += len(block)
                    if held:
                        yield held
                    held = block
        except OSError as error:
            raise damaged(self._name, f"{file.path!r}: {error.strerror or error}") from None
        if size != file.size or digest.hexdigest() != file.sha256:
            raise damaged(self._name, f"{file.path!r} has not the sha256 that the manifest records")
        yield held

    def end(self) -> None:
        """Nothing may be there that the manifest lacks, but for bytecode that Python has put there."""
        for folder, folders, files in os.walk(self._root):
            below = "" if folder == self._root else os.path.relpath(folder, self._root) + "/"
            for name in folders + files:
                path = below + name
                if path not in self._known and name != "__pycache__" and not path.endswith(".pyc"):
                    raise damaged(self._name, f"it has {path!r}, which its manifest lacks")

    def close(self) -> None: ...
