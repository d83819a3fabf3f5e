"""The machine and the versions that the numbers belong to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bench import PEERS, conda_pack, cores


@dataclass(frozen=True)
class Machine:
    """What numbers depend on. ``memory`` in bytes; ``versions`` by program, ``"missing"`` where there is none."""

    processor: str
    cores: int
    memory: int
    system: str
    kernel: str
    file_system: str
    versions: dict[str, str]

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def sentence(self) -> str:
        """The machine in one line."""
        return (
            f"{self.processor}, {self.cores} cores, {self.memory / 2**30:.0f} GiB memory, {self.file_system}, "
            f"{self.system}, Linux {self.kernel}"
        )


def describe(folder: Path, peers: Mapping[str, str]) -> Machine:
    """This machine, with the file system that ``folder`` lies on."""
    return Machine(
        processor=_line_of("/proc/cpuinfo", "model name", ":") or platform.machine(),
        cores=cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=(_line_of("/etc/os-release", "PRETTY_NAME", "=") or platform.system()).strip('"'),
        kernel=platform.release(),
        file_system=_file_system(folder),
        versions=_versions(peers),
    )


def _versions(peers: Mapping[str, str]) -> dict[str, str]:
    found = {"trainenv": importlib.metadata.version("trainenv"), "python": platform.python_version()}
    programs = {"conda-pack": conda_pack()} | {name: peers.get(name) for name in PEERS}
    programs |= {name: shutil.which(name) for name in ("tar", "zstd", "gzip")}
    return found | {name: _version(program) if program else "missing" for name, program in programs.items()}


def _version(program: str) -> str:
    """The first word with a digit and a point in it that ``PROGRAM --version`` prints."""
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    words = (word.strip(",*v") for word in printed.split())
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")


def _line_of(file: str, key: str, separator: str) -> str:
    """The value after ``separator`` in the first line of ``file`` that begins with ``key``."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(separator)[2].strip() for line in lines if line.startswith(key)), "")


def _file_system(folder: Path) -> str:
    """The type of the file system that ``folder`` lies on: that of the longest mount point above it."""
    best, kind = "", "unknown file system"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind
