"""What an archive needs of a machine, and what a machine lacks of that."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from pathlib import Path

from trainenv.archives.manifest import HostNeeds, Manifest
from trainenv.relocation.elf import Needs

_LONGEST_PATH = 4095
_MEAN_SLACK = 2048
"""Bytes by which a file takes more on disk than its size, about: half a block."""


class NeedsCollector:
    """Gathers the needs of one ELF file after another.

    Other machines' files lie in many packages (launchers, test data): the machine of ``bin/python``
    counts, else the commonest, and glibc only of files for that machine.
    """

    def __init__(self) -> None:
        self._machines: Counter[str] = Counter()
        self._of_python: str | None = None
        self._highest: dict[str, tuple[tuple[int, int], str]] = {}

    def add(self, path: str, needs: Needs | None) -> None:
        """Count the file ``path``; ``needs`` is ``None`` if it is no ELF file."""
        if needs is None:
            return
        self._machines[needs.machine] += 1
        if path.startswith("bin/python"):
            self._of_python = needs.machine
        if needs.glibc is not None:
            former = self._highest.get(needs.machine)
            if former is None or needs.glibc > former[0]:
                self._highest[needs.machine] = (needs.glibc, path)

    def host_needs(self) -> HostNeeds:
        """What all files together need."""
        if not self._machines:
            return HostNeeds()
        commonest = min(self._machines, key=lambda machine: (-self._machines[machine], machine))
        machine = self._of_python or commonest
        if machine not in self._highest:
            return HostNeeds(machine)
        glibc, path = self._highest[machine]
        return HostNeeds(machine, ".".join(map(str, glibc)), path)


def host_problems(manifest: Manifest, *, folder: Path | None = None, target_prefix: str | None = None) -> list[str]:
    """What keeps this machine from running the environment, in words; empty if nothing does.

    With ``folder``, where it is to be unpacked, also the space there; with ``target_prefix`` also
    whether paths become too long.
    """
    problems = []
    needs = manifest.host_needs
    if needs.machine is not None and needs.machine != platform.machine():
        problems.append(f"it is made for {needs.machine} and this machine is {platform.machine()}")
    elif needs.glibc is not None:
        present = _glibc()
        if present is None:
            problems.append(f"it needs glibc {needs.glibc} ({needs.glibc_needed_by}) and this machine has no glibc")
        elif _numbers(present) < _numbers(needs.glibc):
            problems.append(f"it needs glibc {needs.glibc} ({needs.glibc_needed_by}) and this machine has {present}")
    if folder is not None:
        wanted = manifest.unpacked_bytes + _MEAN_SLACK * len(manifest.files)
        free = shutil.disk_usage(_nearest(folder)).free
        if wanted > free:
            problems.append(f"it takes {_megabytes(wanted)} MB and {folder} has {_megabytes(free)} MB left")
    if target_prefix is not None and manifest.files:
        longest = max((file.path for file in manifest.files), key=lambda path: len(os.fsencode(path)))
        if len(os.fsencode(f"{target_prefix}/{longest}")) > _LONGEST_PATH:
            problems.append(f"paths below {target_prefix[:60]}... become longer than {_LONGEST_PATH} bytes")
    return problems


def _glibc() -> str | None:
    """The version of this machine's glibc, as ``"2.36"``; ``None`` with another C library."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    return name.rpartition(" ")[2] if name else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _nearest(folder: Path) -> Path:
    """``folder``, or the nearest folder upward that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)
