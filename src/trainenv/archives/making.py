"""An archive in the making, whatever its format."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from trainenv.archives import formats
from trainenv.archives.appearing import appearing, appearing_folder
from trainenv.archives.folder import FolderWriter
from trainenv.archives.formats import Form
from trainenv.archives.image import ImageFile
from trainenv.archives.manifest import Manifest
from trainenv.archives.self_extracting import Payload
from trainenv.archives.writing import MemberWriter, TarWriter, sink
from trainenv.environments.sizes import size_of


class Making:
    """Members go to ``writer``; ``finish`` closes the archive with its manifest and returns its size."""

    def __init__(self, writer: MemberWriter, close: Callable[[Manifest], int]) -> None:
        self.writer = writer
        self._close = close

    def finish(self, manifest: Manifest) -> int:
        self.writer.finish(manifest.to_json())
        return self._close(manifest)


@contextmanager
def making(output: Path, form: Form, latest_mtime: Callable[[], int]) -> Iterator[Making]:
    """A new archive that gets the name ``output`` when the block ends well.

    ``latest_mtime`` gives the time of the newest file. Raises ``ArchiveError`` if ``output`` is there, or is being
    written by another.
    """
    if form.format == formats.FOLDER:
        with appearing_folder(output) as folder:
            yield Making(FolderWriter(folder), lambda _: size_of([folder]).apparent)
        return
    with appearing(output) as file:
        script = Payload(file) if form.self_extracting else None
        frames = (
            ImageFile(form, file, latest_mtime()) if form.format == formats.SQUASHFS else sink(form, script or file)
        )
        del latest_mtime  # It knows all files of the prefix.

        def close(manifest: Manifest) -> int:
            if script is not None:
                script.put_script(form, manifest)
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2)
            return file.seek(0, os.SEEK_END)

        with closing(TarWriter(frames)) as writer:
            yield Making(writer, close)
