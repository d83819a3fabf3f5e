"""What a machine has, held against what an archive needs."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainenv.archives.manifest import HostNeeds, Manifest
from trainenv.archives.sources import next_step
from trainenv.environments.libraries import system_libraries
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import Reporter

_LONGEST_PATH = 4095
_MEAN_SLACK = 2048
"""Bytes by which a file takes more on disk than its size, about: half a block."""

_LEVEL_FLAGS = (
    ("x86_64_v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86_64_v3", {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}),
    ("x86_64_v4", {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}),
)

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Host:
    """What of a machine matters to an environment; ``None`` and empty where there is no such thing.

    ``glibcxx`` and ``cxxabi`` are the newest symbol versions of its libstdc++, ``cpu`` is a level such
    as ``"x86_64_v3"``, ``cuda`` the newest CUDA that its driver speaks, ``free_bytes`` the space where
    its environments lie, ``libraries`` the names of its shared libraries.
    """

    name: str
    machine: str
    glibc: str | None = None
    glibcxx: str | None = None
    cxxabi: str | None = None
    cpu: str | None = None
    cuda: str | None = None
    free_bytes: int | None = None
    libraries: frozenset[str] = field(default_factory=frozenset)

    def to_json(self) -> dict[str, Any]:
        """As ``doctor --json`` prints it under ``host``."""
        return {**asdict(self), "libraries": sorted(self.libraries)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Host:
        """``ValueError`` if ``values`` is nothing that ``to_json`` made."""
        texts = ("name", "machine", "glibc", "glibcxx", "cxxabi", "cpu", "cuda")
        known = {name: values.get(name) for name in texts}
        libraries, free = values.get("libraries"), values.get("free_bytes")
        if not isinstance(known["name"], str) or not isinstance(known["machine"], str):
            raise ValueError("it names no machine")
        if any(value is not None and not isinstance(value, str) for value in known.values()):
            raise ValueError("it has a version that is no text")
        if not isinstance(libraries, list) or not all(isinstance(name, str) for name in libraries):
            raise ValueError("it has no list of libraries")
        if free is not None and type(free) is not int:
            raise ValueError("its free_bytes is no number")
        return cls(**known, free_bytes=free, libraries=frozenset(libraries))  # type: ignore[arg-type]


@dataclass(frozen=True)
class HostCheck:
    """One need held against a machine. ``error``: it can't run there; ``warning``: a part of it can't."""

    name: str
    needs: str
    has: str
    state: State
    needed_by: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        by = f" ({self.needed_by})" if self.needed_by else ""
        return f"it needs {self.name} {self.needs}{by} and this machine has {self.has}"


def this_host(folder: Path) -> Host:
    """The machine this runs on, whose environments lie in ``folder``."""
    libraries = system_libraries()
    glibcxx, cxxabi = _libstdcxx_versions(libraries.get("libstdc++.so.6"))
    return Host(
        platform.node(),
        platform.machine(),
        glibc=_glibc(),
        glibcxx=glibcxx,
        cxxabi=cxxabi,
        cpu=_cpu_level(),
        cuda=_cuda(),
        free_bytes=shutil.disk_usage(_nearest(folder)).free,
        libraries=frozenset(libraries),
    )


def read_host(file: Path) -> Host:
    """Another machine, out of what ``trainenv doctor --json`` printed there. Raises ``UsageError``."""
    try:
        values = json.loads(file.read_bytes())
        return Host.from_json(values["host"])
    except OSError as error:
        raise UsageError(f"{file} can't be read", cause=error.strerror or str(error), hint=next_step(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{file} describes no machine", hint="Make it there with `trainenv doctor --json > FILE`"
        ) from None


def host_checks(
    manifest: Manifest, host: Host, *, new_bytes: int | None = None, target_prefix: str | None = None
) -> list[HostCheck]:
    """Each need of an archive beside what ``host`` has.

    ``new_bytes`` is what will be written there, by default all of it; ``target_prefix`` the prefix it
    will have there, to see whether paths become too long.
    """
    needs = manifest.host_needs
    checks = list(_processor(needs, host))
    if needs.machine in (None, host.machine):
        checks += _versions(needs, host)
        checks += [
            HostCheck("library", library, "it" if library in host.libraries else "none of that name", state, path)
            for library, path in needs.libraries.items()
            for state in _warn_unless(library in host.libraries)
        ]
    if needs.cuda is not None:
        fits = host.cuda is not None and _numbers(host.cuda) >= _numbers(needs.cuda)
        has = f"one for CUDA {host.cuda}" if host.cuda else "none"
        checks += [
            HostCheck("a GPU driver for CUDA", needs.cuda, has, state, needs.cuda_needed_by or "")
            for state in _warn_unless(fits)
        ]
    if host.free_bytes is not None:
        wanted = (manifest.files.bytes if new_bytes is None else new_bytes) + _MEAN_SLACK * len(manifest.files)
        state: State = "ok" if wanted <= host.free_bytes else "error"
        checks.append(
            HostCheck("disk space of", f"{_megabytes(wanted)} MB", f"{_megabytes(host.free_bytes)} MB left", state)
        )
    if target_prefix is not None and manifest.files:
        files = manifest.files
        places = [len(os.fsencode(f"{target_prefix}/{place}")) for place in files.places]
        length = max(
            places[place] + len(os.fsencode(name)) for name, place in zip(files.names, files.folders, strict=True)
        )
        checks.append(
            HostCheck(
                "paths of", f"{length} bytes", f"at most {_LONGEST_PATH}", "ok" if length <= _LONGEST_PATH else "error"
            )
        )
    return checks


def require_host(
    archive: str,
    manifest: Manifest,
    folder: Path,
    reporter: Reporter,
    *,
    new_bytes: int | None = None,
    target_prefix: str | None = None,
) -> None:
    """Raise ``ArchiveError`` if this machine can't run the environment; tell what of it won't work."""
    checks = host_checks(manifest, this_host(folder), new_bytes=new_bytes, target_prefix=target_prefix)
    if errors := [str(check) for check in checks if check.state == "error"]:
        raise ArchiveError(
            f"{archive} can't be used here",
            cause="; ".join(errors),
            hint="Nothing was unpacked; `trainenv inspect` shows all that it needs",
        )
    for check in checks:
        if check.state == "warning":
            reporter.notice(f"a part of it may not work here: {check}")


def _processor(needs: HostNeeds, host: Host) -> Iterator[HostCheck]:
    if needs.machine is not None:
        yield HostCheck("processor", needs.machine, host.machine, "ok" if needs.machine == host.machine else "error")
    if needs.cpu is not None:
        fits = host.cpu is not None and host.cpu >= needs.cpu
        has = host.cpu or "a lower one"
        yield HostCheck("processor level", needs.cpu, has, "ok" if fits else "error", needs.cpu_needed_by or "")


def _versions(needs: HostNeeds, host: Host) -> list[HostCheck]:
    """glibc must be there, as the interpreter itself needs it; libstdc++ only some packages need."""
    rows = (
        ("glibc", needs.glibc, needs.glibc_needed_by, host.glibc, "error"),
        ("libstdc++ with GLIBCXX", needs.glibcxx, needs.glibcxx_needed_by, host.glibcxx, "warning"),
        ("libstdc++ with CXXABI", needs.cxxabi, needs.cxxabi_needed_by, host.cxxabi, "warning"),
    )
    return [
        HostCheck(
            name,
            wanted,
            present or "none",
            "ok" if present is not None and _numbers(present) >= _numbers(wanted) else lacking,  # type: ignore[arg-type]
            by or "",
        )
        for name, wanted, by, present, lacking in rows
        if wanted is not None
    ]


def _warn_unless(fits: bool) -> tuple[State]:
    return ("ok" if fits else "warning",)


def _glibc() -> str | None:
    """The version of this machine's glibc, as ``"2.36"``; ``None`` with another C library."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    return name.rpartition(" ")[2] if name else None


def _libstdcxx_versions(library: str | None) -> tuple[str | None, str | None]:
    """The newest GLIBCXX and CXXABI versions that the file ``library`` offers."""
    if library is None:
        return None, None
    try:
        content = Path(library).read_bytes()
    except OSError:
        return None, None

    def newest(symbol: bytes) -> str | None:
        found = re.findall(symbol + rb"_(\d+(?:\.\d+)+)\0", content)
        return max((version.decode() for version in found), key=_numbers, default=None)

    return newest(b"GLIBCXX"), newest(b"CXXABI")


def _cpu_level() -> str | None:
    """The highest x86-64 level of this machine's processor; ``None`` below v2 and on others."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    level = None
    for name, wanted in _LEVEL_FLAGS:
        if not wanted <= flags:
            break
        level = name
    return level


def _cuda() -> str | None:
    """The newest CUDA version that this machine's driver speaks, asked as conda does, and overridden so."""
    override = os.environ.get("CONDA_OVERRIDE_CUDA")
    if override is not None:
        return override.strip() or None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int(0)
        if driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value <= 0:
            return None
    except (OSError, AttributeError):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _nearest(folder: Path) -> Path:
    """``folder``, or the nearest folder upward that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)
