"""A squashfs image becomes an environment without being unpacked.

All of it is checked, and the few files that hold the prefix are laid over it with the prefix of their place. Cached
bytecode keeps the placeholder that it was packed with: Python names the source anew as it loads it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from trainenv import locks, settings_file
from trainenv.archives import footer
from trainenv.archives.checks import checked
from trainenv.archives.hosts import require_host
from trainenv.archives.image import ImageReader, check_pieces
from trainenv.archives.inventory import source_of
from trainenv.archives.manifest import RECORDS_DIR, Manifest
from trainenv.archives.members import File, Files
from trainenv.archives.placing import Placement, Writer, placement
from trainenv.archives.sources import LocalFile
from trainenv.archives.windows import in_memory
from trainenv.environments import mounts
from trainenv.environments.content_index import ContentIndex, identity
from trainenv.environments.mounts import Mount
from trainenv.environments.staging import prefix_to_carry, require, sweep
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import Reporter
from trainenv.settings import Settings, checked_name
from trainenv.sharing import group_of, make_folder, open_tree


def mount_environment(
    settings: Settings,
    image: Path,
    *,
    name: str | None = None,
    prefix: str | None = None,
    confirm: Callable[[], None] = lambda: None,
    reporter: Reporter,
) -> str:
    """Mount ``image`` as environment ``name`` (default: its own); returns its name.

    See ``unpack_environment`` for ``prefix`` and ``confirm``. The image has to stay where it is. Raises
    ``ArchiveError``
    for one that is damaged, hostile or not for this machine, ``MountError`` where nothing can be mounted.
    """
    image = Path(os.path.realpath(image))
    with closing(LocalFile(image)) as source:
        ending = footer.read(source)
        if ending is None or ending.form != footer.IMAGE:
            raise UsageError(
                f"{image} can't be mounted",
                cause="it is no squashfs image of trainenv",
                hint="Make one with `trainenv pack --format squashfs`, or unpack it without --mount",
            )
        with reporter.step("check the image"), ThreadPoolExecutor(1, thread_name_prefix="check") as aside:
            bytes_checked = aside.submit(_check_bytes, settings, source, ending)
            manifest = checked(source.name, ending.manifest, [])
            reader = ImageReader(source, manifest, ending)
            reader.headers(manifest.files)
            bytes_checked.result()
        name = checked_name(name or manifest.name, "environment")
        target = settings.prefix_of(name)
        placed = placement(manifest, prefix_to_carry(settings, name, prefix))
        over = _laid_over(manifest, placed)
        room = sum(file.size for file in over)
        require_host(source.name, manifest, target, reporter, new_bytes=room, target_prefix=placed.prefix)
        with locks.exclusive(settings, name):
            sweep(settings)
            require(settings, name, exists=False)
            mounts.release(target)
            folder = mounts.folder_of(target)
            make_folder(folder)
            try:
                with reporter.step("mount"):
                    _write(source.name, reader, manifest, over, placed, folder / "relocated")
                    if (group := group_of(folder)) is not None:
                        open_tree(folder / "relocated", group)
                    confirm()
                    status = os.stat(image)
                    digest = hashlib.sha256(ending.index).hexdigest()
                    sizes = status.st_size, status.st_mtime_ns, ending.body
                    make_folder(target)
                    about = manifest.python, manifest.files.bytes, len(manifest.packages)
                    mounts.note(target, Mount(str(image), *sizes, digest, *about))
                    mounts.ensure(target)
                    _prove(image, target)
                    settings_file.add_mount(settings, name, str(image))
            except BaseException:
                mounts.release(target)
                raise
            finally:
                reader.close()
    return name


def _check_bytes(settings: Settings, source: LocalFile, ending: footer.Ending) -> None:
    """Every byte of the image is as it was packed: it is hashed now, or was once and has not been written to since."""
    digest = hashlib.sha256(b"image " + ending.index).hexdigest()
    with ContentIndex(settings.cache_dir) as index:
        before = source.status()
        if index.sha256(before) != digest:
            check_pieces(source, ending)
            if identity(source.status()) == identity(before):
                index.note(before, digest)


def _laid_over(manifest: Manifest, placed: Placement) -> list[File]:
    """The files that the prefix changes in a way that matters."""
    files = manifest.files
    paths = set(map(files.path, range(len(files))))
    found = []
    for number, name in enumerate(files.names):
        source = source_of(files.path(number)) if name.endswith(".pyc") else None
        if source in placed.resized or (number in files.occurrences and source not in paths):
            found.append(files[number])
    return [file for file in found if not file.is_tool]


def _write(
    archive: str, reader: ImageReader, manifest: Manifest, files: list[File], placed: Placement, root: Path
) -> None:
    """Write ``files`` as ``placed`` below the new folder ``root``, which is the lowest of their folders as well."""
    needed = {RECORDS_DIR}
    for file in [*files, File(f"{RECORDS_DIR}/prefix", "file", 0, 0)]:
        parent = file.path.rpartition("/")[0]
        while parent:
            needed.add(parent)
            parent = parent.rpartition("/")[0]
    folders = [folder for folder in manifest.files.of_kind("folder") if folder.path in needed]
    root.mkdir()
    writer = Writer(archive, root, placed)
    try:
        for folder in folders:
            writer.folder(folder)
        for file in files:
            reader.header(file)
            if in_memory(file.path, file.size):
                writer.whole(file, reader.content(file))
            else:
                writer.streamed(file, reader.blocks(file))
        writer.finish(Files((*folders, *files)))
    except OSError as error:
        raise writer.failed(error) from None


def _prove(image: Path, prefix: Path) -> None:
    """The interpreter starts."""
    python = prefix / "bin" / "python"
    if not os.path.lexists(python):
        return
    try:
        done = subprocess.run([python, "-ISc", ""], capture_output=True, text=True, check=False)
        said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}" if done.returncode else ""
    except OSError as error:
        said = error.strerror or str(error)
    if said:
        raise ArchiveError(
            f"{image} gives no environment that works", cause=f"bin/python: {said}", hint="Nothing is mounted"
        )
