"""What an archive needs of a machine: gathered from its ELF files and its packages while it is packed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from trainenv.archives.manifest import HostNeeds, Package
from trainenv.environments.libraries import ElfFile, outside
from trainenv.relocation.elf import Needs

_OF_GLIBC = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|nsl|anl|mvec|thread_db|crypt|BrokenLocale))\.so\.\d+\Z"
)
_LIBSTDCXX = "lib/libstdc++.so.6"
_LOWER_BOUND = re.compile(r"(?:>=|==?)\s*(\d+(?:\.\d+)?)")
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?\Z")
_CUDA_BUILD = re.compile(r"\+cu(\d+)\d(?:\.|\Z)")
_LEVEL = re.compile(r"x86_64_v[234]\b")


class NeedsCollector:
    """Gathers the needs of one ELF file after another.

    Other machines' files lie in many packages (launchers, test data): the machine of ``bin/python``
    counts, else the commonest, and all else only of files for that machine.
    """

    def __init__(self) -> None:
        self._files: list[tuple[str, Needs]] = []

    def add(self, path: str, needs: Needs | None) -> None:
        """Count the file ``path``; ``needs`` is ``None`` if it is no ELF file."""
        if needs is not None:
            self._files.append((path, needs))

    def host_needs(
        self,
        present: Sequence[str] = (),
        packages: Iterable[Package] = (),
        virtual_packages: Iterable[tuple[str, str]] = (),
    ) -> HostNeeds:
        """What all files and packages together need.

        ``present`` are the paths of all files and links of the environment: what of the libraries it
        has itself is no need. ``virtual_packages`` are pairs of a conda dependency such as
        ``"__cuda >=12.4"`` and the package that has it.
        """
        virtual_packages = tuple(virtual_packages)
        cuda, cuda_by = _cuda(packages, virtual_packages)
        cpu, cpu_by = _cpu(virtual_packages)
        machine = self._machine()
        native = [(path, needs) for path, needs in self._files if needs.machine == machine]
        glibc, glibc_by = _highest((needs.glibc, path) for path, needs in native)
        own = _LIBSTDCXX in present
        glibcxx, glibcxx_by = (None, None) if own else _highest((needs.glibcxx, path) for path, needs in native)
        cxxabi, cxxabi_by = (None, None) if own else _highest((needs.cxxabi, path) for path, needs in native)
        return HostNeeds(
            machine,
            glibc,
            glibc_by,
            glibcxx=glibcxx,
            glibcxx_needed_by=glibcxx_by,
            cxxabi=cxxabi,
            cxxabi_needed_by=cxxabi_by,
            cpu=cpu,
            cpu_needed_by=cpu_by,
            cuda=cuda,
            cuda_needed_by=cuda_by,
            libraries=_libraries(native, present),
        )

    def _machine(self) -> str | None:
        machines = Counter(needs.machine for _, needs in self._files)
        of_python = [needs.machine for path, needs in self._files if path.startswith("bin/python")]
        commonest = min(machines, key=lambda machine: (-machines[machine], machine), default=None)
        return of_python[-1] if of_python else commonest


def _highest(versions: Iterable[tuple[tuple[int, ...] | None, str]]) -> tuple[str | None, str | None]:
    """The newest version in words, and the first file that asks for it."""
    best: tuple[tuple[int, ...], str] | None = None
    for version, path in versions:
        if version is not None and (best is None or version > best[0]):
            best = (version, path)
    return (".".join(map(str, best[0])), best[1]) if best else (None, None)


def _libraries(files: list[tuple[str, Needs]], present: Sequence[str]) -> dict[str, str]:
    """Shared libraries that must be on the machine, with the first file that asks for each.

    Those of glibc itself and of GPU drivers are left out, and those that only plug-ins want.
    """
    asking = (ElfFile(path, needs.libraries) for path, needs in files)
    wanted: dict[str, str] = {}
    for missing in outside(asking, present):
        if not missing.why_bearable and not _OF_GLIBC.match(missing.library):
            wanted.setdefault(missing.library, missing.path)
    return dict(sorted(wanted.items()))


def _cuda(packages: Iterable[Package], virtual_packages: Iterable[tuple[str, str]]) -> tuple[str | None, str | None]:
    """The least CUDA version that the driver must speak, and which package says so.

    A conda package names it. NVIDIA's wheels run with any driver of the same major version.
    """
    asked: list[tuple[tuple[int, ...], str]] = []
    for dependency, package in virtual_packages:
        if dependency.split()[0] == "__cuda":
            bound = _LOWER_BOUND.search(dependency)
            asked.append((_numbers(bound[1]) if bound else (1, 0), package))
    for package_ in packages:
        named = f"{package_.name} {package_.version}"
        if _CUDA_RUNTIME.match(package_.name) and package_.build == "pypi":
            asked.append(((int(re.split(r"\D", package_.version)[0] or 0), 0), named))
        elif (build := _CUDA_BUILD.search(package_.version)) is not None:
            asked.append(((int(build[1]), 0), named))
    return _highest(asked)


def _cpu(virtual_packages: Iterable[tuple[str, str]]) -> tuple[str | None, str | None]:
    """The x86-64 level, such as ``"x86_64_v3"``, that a package was compiled for."""
    levels = [
        (level[0], package)
        for dependency, package in virtual_packages
        if dependency.split()[0] == "__archspec" and (level := _LEVEL.search(dependency))
    ]
    return max(levels, key=lambda entry: entry[0], default=(None, None))


def _numbers(version: str) -> tuple[int, ...]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)
