"""An interpreter as conda packages: ``python``, and ``pip`` and ``setuptools`` for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from trainenv.channels.host import buildinfo, contents, debian, distributions, elf, trial
from trainenv.channels.host.condafile import Package, content_hash
from trainenv.channels.host.contents import Entry
from trainenv.channels.host.distributions import Distribution
from trainenv.channels.host.interpreters import Interpreter, Layout
from trainenv.errors import InterpreterError
from trainenv.progress import Step

NO_SETUPTOOLS = Version("3.12")
"""From this version on ensurepip installs no setuptools."""

_LICENSES = {"pip": "MIT", "setuptools": "MIT", "python": "PSF-2.0"}


def packages_of(
    interpreter: Interpreter, scratch: Path, cache_dir: Path, step: Step
) -> tuple[list[Package], list[str]]:
    """The packages of ``interpreter``, and the names of distributions that no place had.

    As conda has it, ``python`` depends on exactly the pip and setuptools made with it, and they on a
    Python of its minor version. ``scratch`` is a folder to try the result in. Raises
    ``InterpreterError`` with the reason if the interpreter can't be made relocatable.
    """
    layout = interpreter.layout
    if layout is None:
        raise InterpreterError(f"{interpreter} can't be packaged", cause=interpreter.unusable or "")
    stamp = int(interpreter.executable.stat().st_mtime) * 1000
    step.detail("pip and setuptools")
    looked_up = {name: distributions.find(name, interpreter, layout, cache_dir) for name in ("pip", "setuptools")}
    found = [distribution for distribution in looked_up.values() if distribution is not None]
    missing = [name for name, distribution in looked_up.items() if distribution is None]
    step.detail("files")
    entries = relocatable(interpreter, layout, found)
    step.detail("trial in another prefix")
    trial.check(interpreter, entries, scratch)
    libraries = [_noarch(distribution, interpreter, stamp) for distribution in found]
    return [_python(interpreter, layout, entries, libraries, stamp), *libraries], missing


def relocatable(interpreter: Interpreter, layout: Layout, found: list[Distribution]) -> list[Entry]:
    """The interpreter's files such that they work in any prefix, once the placeholder is replaced."""
    entries = contents.collect(interpreter, layout)
    if layout.debian:
        bundled = ("pip", "setuptools") if Version(interpreter.short_version) < NO_SETUPTOOLS else ("pip",)
        wheels = {one.wheel_name: one.wheel() for one in found if one.name in bundled}
        entries = debian.undone(entries, interpreter.short_version, layout.frozen_site, wheels)
    entries = buildinfo.with_placeholder(entries, str(interpreter.prefix), layout.multiarch)
    own_libraries = {Path(path).name for path in entries if path.startswith("lib/lib")}
    for path, entry in entries.items():
        if entry.link is None and elf.is_elf(entry.data):
            rpath = elf.own_rpath(entry.data, path, own_libraries, interpreter.prefix)
            if rpath is not None:
                entries[path] = replace(entry, data=elf.with_rpath(entry.data, rpath), origin=None)
    return sorted(entries.values(), key=lambda entry: entry.path)


def _python(
    interpreter: Interpreter, layout: Layout, entries: list[Entry], libraries: list[Package], stamp: int
) -> Package:
    glibc = elf.glibc_needed([entry.data for entry in entries if elf.is_elf(entry.data)])
    depends = [f"__glibc >={glibc},<3.0.a0"]
    depends += ["{name} {version} {build}".format(**library.index) for library in libraries]
    index: dict[str, Any] = {
        "name": "python",
        "version": interpreter.version,
        "build": f"0_host_{content_hash(entries, depends)}",
        "build_number": 0,
        "depends": sorted(depends),
        "subdir": layout.subdir,
        "arch": "x86_64" if layout.subdir == "linux-64" else "aarch64",
        "platform": "linux",
        "license": _LICENSES["python"],
        "timestamp": stamp,
        "python_site_packages_path": f"lib/python{interpreter.short_version}/site-packages",
    }
    about = {
        "summary": f"CPython {interpreter.version} of this machine, made relocatable by trainenv",
        "description": f"Made from {interpreter.executable}",
        "license": _LICENSES["python"],
        "extra": {
            "interpreter": str(interpreter.executable),
            "source": interpreter.source,
            "debian_patches_undone": layout.debian,
        },
    }
    return Package(index, tuple(entries), {"about.json": about, "files": _file_list(entries)})


def _noarch(distribution: Distribution, interpreter: Interpreter, stamp: int) -> Package:
    major, minor = interpreter.short_version.split(".")
    oldest = interpreter.version if Version(interpreter.version).is_prerelease else interpreter.short_version
    depends = [f"python >={oldest},<{major}.{int(minor) + 1}.0a0"]
    points = list(distribution.entry_points)
    if distribution.name == "pip":
        target = "pip._internal.cli.main:main"
        points = [f"{script} = {target}" for script in ("pip", f"pip{major}", f"pip{major}.{minor}")]
    entries = [Entry(f"site-packages/{path}", data) for path, data in sorted(distribution.recorded("conda").items())]
    index: dict[str, Any] = {
        "name": distribution.name,
        "version": distribution.version,
        "build": f"py{major}{minor}_host_{content_hash(entries, [depends, points])}",
        "build_number": 0,
        "depends": depends,
        "subdir": "noarch",
        "noarch": "python",
        "arch": None,
        "platform": None,
        "license": _LICENSES[distribution.name],
        "timestamp": stamp,
    }
    link = {"noarch": {"type": "python", "entry_points": points}, "package_metadata_version": 1}
    about = {"summary": f"{distribution.name} for the host channel's Python {major}.{minor}"}
    return Package(index, tuple(entries), {"about.json": about, "link.json": link, "files": _file_list(entries)})


def _file_list(entries: list[Entry]) -> str:
    return "".join(f"{entry.path}\n" for entry in entries)
