"""Which ELF files of a prefix ask for a shared library that neither the prefix nor this machine has.

A library is looked for as the dynamic linker does: RPATH and RUNPATH, then the folders of the
system. What lies elsewhere in the prefix counts as found too: wheels load libraries by hand before
the modules that need them.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.relocation import needs
from trainenv.relocation.elf import rpaths

if TYPE_CHECKING:
    from trainenv.relocation.rewrite import Data

_OF_THE_DRIVER = re.compile(
    r"lib(cuda|nvcuvid|nvidia-\w+|nvoptix|amdhip64|hsa-runtime64|rocm\w*|drm_amdgpu|ze_loader|habana\w*)(-[\w.]+)?\.so(\.|\Z)"
)
"""Libraries that come with a GPU's driver: a machine without that GPU is no broken environment."""
_EXTENSION = re.compile(r"\.(cpython-\w+|abi3)[\w-]*\.so\Z")
_OPTIONAL_MODULES = re.compile(r"/lib-dynload/_tkinter\.")
"""Part of every Python, usable only on machines with a desktop."""


@dataclass(frozen=True)
class MissingLibrary:
    """``library`` is what ``path``, relative to the prefix, asks for in vain.

    ``why_bearable`` is empty where that keeps ``path`` from being used, else why it may be so.
    """

    path: str
    library: str
    why_bearable: str = ""

    def __str__(self) -> str:
        line = f"{self.path} needs the library {self.library}, which is not there"
        return f"{line} ({self.why_bearable})" if self.why_bearable else line


@dataclass(frozen=True)
class ElfFile:
    """What matters of one ELF file; ``search`` are its RPATH and RUNPATH folders as they stand in it."""

    path: str
    libraries: tuple[str, ...]
    search: tuple[str, ...] = field(default=())


def read_elf(path: str, data: Data) -> ElfFile | None:
    """The ELF file with bytes ``data``; None if it is none, or none for this machine."""
    asks = needs(data)
    if asks is None or asks.machine != platform.machine() or not asks.libraries:
        return None
    search = [folder for _, text in rpaths(data) for folder in os.fsdecode(text).split(":") if folder]
    return ElfFile(path, asks.libraries, tuple(search))


def missing(
    prefix: Path, files: Iterable[ElfFile], present: Iterable[str], carried: Sequence[str] = ()
) -> list[MissingLibrary]:
    """What the ELF ``files`` of ``prefix`` ask for in vain.

    ``present`` are the paths of all files and links of the prefix; ``carried`` are prefixes that
    absolute search paths may name in place of ``prefix`` (see ``visible_as``). A library that
    nothing needs, and that is no extension module, is a plug-in: what it lacks is bearable.
    """
    return [
        wanted
        for file, wanted in _outside(files, present)
        if not _on_search_path(prefix, file, wanted.library, carried)
        and wanted.library not in system_libraries()
        and not os.path.exists(wanted.library)
    ]


def outside(files: Iterable[ElfFile], present: Iterable[str]) -> list[MissingLibrary]:
    """What the ELF ``files`` of a prefix ask for that is not among its ``present`` files and links."""
    return [wanted for _, wanted in _outside(files, present)]


def _outside(files: Iterable[ElfFile], present: Iterable[str]) -> Iterator[tuple[ElfFile, MissingLibrary]]:
    files = list(files)
    needed = {os.path.basename(library) for file in files for library in file.libraries}
    names = needed.intersection(map(os.path.basename, present))
    for file in files:
        for library in file.libraries:
            if os.path.basename(library) not in names:
                yield file, MissingLibrary(file.path, library, _bearable(file.path, library, needed))


def _bearable(path: str, library: str, needed: set[str]) -> str:
    if _OF_THE_DRIVER.match(library):
        return "it comes with the driver of a GPU"
    if _OPTIONAL_MODULES.search(path):
        return "it is for machines with a desktop"
    folder, name = os.path.split(path)
    if folder != "bin" and not _EXTENSION.search(name) and "lib-dynload" not in folder and name not in needed:
        return "nothing here needs that file"
    return ""


def _on_search_path(prefix: Path, file: ElfFile, library: str, carried: Sequence[str]) -> bool:
    origin = os.path.dirname(f"{prefix}/{file.path}")
    for folder in file.search:
        here = re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, folder)
        for other in carried:
            if here == other or here.startswith(f"{other}/"):
                here = f"{prefix}{here[len(other) :]}"
        if os.path.exists(os.path.join(here, library)):
            return True
    return False


@cache
def system_libraries() -> Mapping[str, str]:
    """The shared libraries that this machine's dynamic linker finds: names and where they lie."""
    found: dict[str, str] = {}
    own = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    _list_into(found, own)
    with suppress(OSError):
        listed = subprocess.run(
            [_ldconfig(), "-p"], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
        ).stdout
        for match in re.finditer(r"^\t(\S+) \(.* => (.*)$", listed, re.MULTILINE):
            found.setdefault(match[1], match[2])
    for root in (Path("/"), Path("/usr")):
        places = [root / "lib", root / "lib64", *root.glob("lib/*-linux-gnu*"), *root.glob("lib/*-linux-musl*")]
        _list_into(found, places)
    return found


def _list_into(found: dict[str, str], folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            for name in os.listdir(folder):
                if ".so" in name:
                    found.setdefault(name, f"{folder}/{name}")


def _ldconfig() -> str:
    """Where it lies: not on the PATH of an ordinary user."""
    return next((path for path in ("/sbin/ldconfig", "/usr/sbin/ldconfig") if os.path.exists(path)), "ldconfig")
