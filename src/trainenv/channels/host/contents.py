"""Which files of an installed interpreter make up the conda package ``python``.

Only what is the interpreter's own, by name: a prefix such as ``/usr`` or ``/usr/local`` holds much
else, and in any prefix ``site-packages`` belongs to the packages in it. Left out are tests, bytecode,
static libraries, and symbolic links that lead out of the standard library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainenv.channels.host import elf
from trainenv.channels.host.interpreters import Interpreter, Layout
from trainenv.errors import InterpreterError

SYSTEM_PREFIXES = ("/", "/usr", "/usr/local")
"""Prefixes that an interpreter shares with the rest of the system."""

_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"}
_SKIPPED_FILES = re.compile(
    r"""(EXTERNALLY-MANAGED | sitecustomize\.py | usercustomize\.py | .*\.(a|o|pyc|pyo)
        | (_test|_ctypes_test|_xxtest|xxlimited)[^/]*\.so)\Z""",
    re.VERBOSE,
)
_SITE_PACKAGES_README = b"Packages installed into this environment live in this folder.\n"


@dataclass(frozen=True)
class Entry:
    """One file of a package: ``data``, or ``link`` if it is a symbolic link (relative target).

    ``path`` is relative to the prefix. ``placeholder`` says that ``data`` is a text that holds the
    prefix placeholder. ``origin`` is the file of this machine that ``data`` came from unchanged.
    """

    path: str
    data: bytes = b""
    link: str | None = None
    executable: bool = False
    placeholder: bool = False
    origin: Path | None = None


def collect(interpreter: Interpreter, layout: Layout) -> dict[str, Entry]:
    """The files of ``interpreter`` as they are on this machine, by their path in the package."""
    entries: dict[str, Entry] = {}
    for entry in _all(interpreter, layout):
        entries.setdefault(entry.path, entry)
    return entries


def _all(interpreter: Interpreter, layout: Layout) -> Iterator[Entry]:
    short = interpreter.short_version
    yield from _programs(interpreter.executable, short)
    yield from _tree(layout.stdlib, f"lib/python{short}")
    yield Entry(f"lib/python{short}/site-packages/README.txt", _SITE_PACKAGES_README)
    yield from _headers(interpreter, layout)
    yield from _libraries(interpreter, layout)
    yield from _package_config(interpreter, layout)


def _programs(executable: Path, short: str) -> Iterator[Entry]:
    yield _file(executable, f"bin/python{short}")
    yield Entry("bin/python3", link=f"python{short}")
    yield Entry("bin/python", link=f"python{short}")
    for name, aliases in (
        (f"python{short}-config", ("python3-config", "python-config")),
        (f"pydoc{short}", ("pydoc3", "pydoc")),
        (f"idle{short}", ("idle3", "idle")),
        (f"2to3-{short}", ("2to3",)),
    ):
        if (executable.parent / name).is_file():
            yield _file(executable.parent / name, f"bin/{name}")
            yield from (Entry(f"bin/{alias}", link=name) for alias in aliases)


def _headers(interpreter: Interpreter, layout: Layout) -> Iterator[Entry]:
    """The C headers, if they are there (on Debian they come with python3-dev).

    Debian keeps ``pyconfig.h`` in a folder per architecture and has a stub in its place.
    """
    folder = f"include/python{interpreter.short_version}"
    real_config = interpreter.prefix / "include" / layout.multiarch / layout.include.name / "pyconfig.h"
    if layout.multiarch and real_config.is_file():
        yield _file(real_config, f"{folder}/pyconfig.h")
    yield from _tree(layout.include, folder)


def _libraries(interpreter: Interpreter, layout: Layout) -> Iterator[Entry]:
    """``libpython`` where the interpreter needs it; from a prefix of its own, all that it needs.

    Such a prefix (uv's, for example) may bring Tcl and Tk, with the scripts that these read.
    """
    lib = interpreter.prefix / "lib"
    if str(interpreter.prefix) in SYSTEM_PREFIXES:
        folders = [lib, lib / layout.multiarch, interpreter.prefix / "lib64"]
        for name in elf.needed(interpreter.executable.read_bytes()):
            if name.startswith("libpython"):
                yield _file(_first(folders, name), f"lib/{name}")
                link = name.split(".so")[0] + ".so"
                if link != name:
                    yield Entry(f"lib/{link}", link=name)
        return
    modules = sorted((layout.stdlib / "lib-dynload").glob("*.so"))
    waiting = [interpreter.executable, *modules]
    waiting += sorted(lib.glob(f"libpython{interpreter.short_version}*.so.*")) + sorted(lib.glob("libpython3.so"))
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        data = path.read_bytes()
        if path.parent == lib and path.name not in seen:
            seen.add(path.name)
            yield _file(path, f"lib/{path.name}")
            link = path.name.split(".so")[0] + ".so"
            if link != path.name and (lib / link).is_symlink():
                yield Entry(f"lib/{link}", link=path.name)
        waiting += [lib / name for name in elf.needed(data) if name not in seen and (lib / name).is_file()]
    for pattern in ("tcl*", "tk*", "itcl*", "thread*"):
        for folder in sorted(lib.glob(pattern)):
            if "libtcl" in " ".join(seen) and folder.is_dir():
                yield from _tree(folder, f"lib/{folder.name}")


def _first(folders: list[Path], name: str) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise InterpreterError(f"the library {name} was not found in {folders[0]}")


def _package_config(interpreter: Interpreter, layout: Layout) -> Iterator[Entry]:
    short = interpreter.short_version
    lib = interpreter.prefix / "lib"
    for folder in (lib / "pkgconfig", lib / layout.multiarch / "pkgconfig"):
        for suffix in ("", "-embed"):
            path = folder / f"python-{short}{suffix}.pc"
            if path.is_file():
                yield _file(path, f"lib/pkgconfig/{path.name}")
                yield Entry(f"lib/pkgconfig/python3{suffix}.pc", link=path.name)


def _tree(root: Path, target: str) -> Iterator[Entry]:
    real_root = root.resolve()
    for folder, names, files in os.walk(real_root):
        names[:] = sorted(name for name in names if name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            if _SKIPPED_FILES.match(name):
                continue
            if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(real_root)):
                continue
            yield _file(path, f"{target}/{path.relative_to(real_root).as_posix()}")


def _file(path: Path, target: str) -> Entry:
    try:
        executable = bool(path.stat().st_mode & 0o100)
        return Entry(target, path.read_bytes(), executable=executable, origin=path)
    except OSError as error:
        raise InterpreterError(f"{path} can't be read", cause=error.strerror or str(error)) from None
