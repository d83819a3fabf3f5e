"""Reads the little of an ELF file that moving it needs: library search paths and what it asks of a machine.

A reader of its own, as it is asked for every shared library of an environment: it touches the program
headers and the dynamic section and nothing else, which is over ten times quicker than a general one.
"""

from __future__ import annotations

import os
import posixpath
import re
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trainenv.relocation.rewrite import Data

    Read = Callable[[int, int], bytes]
    """``read(offset, size)``: the file's bytes there, fewer at its end."""

MAGIC = b"\x7fELF"

_MACHINES = {
    3: "i686",
    21: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_MOST = 64 * 1024 * 1024
"""Bytes read at once, whatever a damaged file says of its sizes."""
_DAMAGED = (struct.error, ValueError, OverflowError, OSError)
_VERSIONED = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)+)\Z")


class Needs(NamedTuple):
    """What an ELF file asks of the machine it runs on.

    ``machine`` is spelled as by ``platform.machine()``. ``glibc`` is the newest glibc whose symbols
    it uses, as ``(2, 17)``, and ``None`` without any; ``glibcxx`` and ``cxxabi`` the same for
    libstdc++. ``libraries`` are its ``DT_NEEDED`` names.
    """

    machine: str
    glibc: tuple[int, ...] | None
    libraries: tuple[str, ...]
    glibcxx: tuple[int, ...] | None = None
    cxxabi: tuple[int, ...] | None = None


class _Dynamic(NamedTuple):
    """The dynamic section: its entries, the string table's bytes and offset, byte order, and a map."""

    entries: list[tuple[int, int]]
    strings: bytes
    strings_offset: int
    order: str
    offset_of: Callable[[int], int | None]


def rpaths(data: Data) -> list[tuple[int, bytes]]:
    """The RPATH and RUNPATH strings of an ELF file, as ``(offset in the file, string)``."""
    try:
        dynamic = _dynamic(_reader(data))
    except _DAMAGED:
        return []
    if dynamic is None:
        return []
    found = {value for tag, value in dynamic.entries if tag in (_DT_RPATH, _DT_RUNPATH)}
    return [(dynamic.strings_offset + start, _string(dynamic.strings, start)) for start in sorted(found)]


def origin_relative(rpath: str, prefix: str, path: str) -> str:
    """``rpath`` with its folders inside ``prefix`` as seen from the file ``path`` of that prefix.

    >>> origin_relative("/opt/a/lib:/usr/lib", "/opt/a", "bin/tool")
    '$ORIGIN/../lib:/usr/lib'
    """

    def relative(folder: str) -> str:
        if folder != prefix and not folder.startswith(prefix + "/"):
            return folder
        way = posixpath.relpath(folder[len(prefix) :].strip("/") or ".", posixpath.dirname(path) or ".")
        return "$ORIGIN" if way == "." else f"$ORIGIN/{way}"

    return ":".join(relative(folder) for folder in rpath.split(":"))


def needs(source: Data | str | os.PathLike[str]) -> Needs | None:
    """What the ELF file, given by its bytes or its path, asks of a machine; ``None`` if it is none."""
    if not isinstance(source, str | os.PathLike):
        return _needs(_reader(source))
    with open(source, "rb", buffering=0) as file:
        return _needs(lambda offset, size: os.pread(file.fileno(), min(size, _MOST), offset))


def _needs(read: Read) -> Needs | None:
    head = read(0, 20)
    if len(head) < 20 or head[:4] != MAGIC:
        return None
    number = struct.unpack_from(_order(head) + "H", head, 18)[0]
    machine = _MACHINES.get(number, f"elf-{number}")
    try:
        dynamic = _dynamic(read)
        if dynamic is None:
            return Needs(machine, None, ())
        newest: dict[str, tuple[int, ...]] = {}
        for name in _version_needs(read, dynamic):
            if match := _VERSIONED.match(name):
                version = tuple(map(int, match[2].split(".")))
                newest[match[1]] = max(version, newest.get(match[1], version))
    except _DAMAGED:
        return Needs(machine, None, ())
    libraries = tuple(
        _string(dynamic.strings, value).decode(errors="replace") for tag, value in dynamic.entries if tag == _DT_NEEDED
    )
    return Needs(machine, newest.get("GLIBC"), libraries, newest.get("GLIBCXX"), newest.get("CXXABI"))


def _reader(data: Data) -> Read:
    return lambda offset, size: data[offset : offset + min(size, _MOST)]


def _order(head: bytes) -> str:
    return ">" if head[5] == 2 else "<"


def _dynamic(read: Read) -> _Dynamic | None:
    """The dynamic section, or ``None`` where there is none (an object file, a static program)."""
    head = read(0, 64)
    if len(head) < 64 or head[:4] != MAGIC:
        return None
    wide, order = head[4] == 2, _order(head)
    if wide:
        table, size, count = (
            struct.unpack_from(order + form, head, at)[0] for form, at in (("Q", 32), ("H", 54), ("H", 56))
        )
    else:
        table, size, count = (
            struct.unpack_from(order + form, head, at)[0] for form, at in (("I", 28), ("H", 42), ("H", 44))
        )
    headers = read(table, size * count)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    for at in range(0, size * count, size or 1):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(order + "IIQQQQ", headers, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(order + "IIIII", headers, at)
        if kind == _PT_LOAD:
            loads.append((address, length, offset))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, length)
    if dynamic is None:
        return None

    def offset_of(address: int) -> int | None:
        return next((o + address - a for a, length, o in loads if a <= address < a + length), None)

    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    section = read(*dynamic)
    entries: list[tuple[int, int]] = []
    for at in range(0, len(section) - entry.size + 1, entry.size):
        tag, value = entry.unpack_from(section, at)
        if tag == 0:
            break
        entries.append((tag, value))
    values = dict(entries)
    strings_offset = offset_of(values.get(_DT_STRTAB, -1))
    if strings_offset is None:
        return None
    strings = read(strings_offset, values.get(_DT_STRSZ, 0))
    return _Dynamic(entries, strings, strings_offset, order, offset_of)


def _version_needs(read: Read, dynamic: _Dynamic) -> Iterator[str]:
    """The symbol versions that the file asks of its libraries: ``GLIBC_2.17``, ``CXXABI_1.3``."""
    values = dict(dynamic.entries)
    at = dynamic.offset_of(values.get(_DT_VERNEED, -1))
    if at is None:
        return
    for _ in range(values.get(_DT_VERNEEDNUM, 0)):
        _, count, _, auxiliary, following = struct.unpack(dynamic.order + "HHIII", read(at, 16))
        inner = at + auxiliary
        for _ in range(count):
            _, _, _, name, inner_following = struct.unpack(dynamic.order + "IHHII", read(inner, 16))
            yield _string(dynamic.strings, name).decode(errors="replace")
            if inner_following == 0:
                break
            inner += inner_following
        if following == 0:
            break
        at += following


def _string(table: bytes, start: int) -> bytes:
    end = table.find(b"\0", start)
    return table[start : end if end >= 0 else len(table)]
