"""``pixi.lock``: the lock that trainenv keeps beside each environment, as py-rattler writes it.

PyPI packages asked for by a URL have ``direct+`` before it, as pixi itself writes them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.channels.target import Target, this_platform
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel, file_url
from trainenv.environments.lockfiles.platform import refuse_unless_for
from trainenv.environments.lockfiles.yaml import load_mapping
from trainenv.environments.records import canonical_name
from trainenv.errors import SpecificationError

if TYPE_CHECKING:
    from rattler.lock import Environment, LockedPackage, PypiLockedPackage

_DIRECT = "direct+"


def platforms(file: Path, text: str) -> list[str]:
    """The platforms that the default environment is for."""
    load_mapping(file, text)
    return sorted(str(platform.subdir) for platform in _default_environment(file, text).platforms())


def _default_environment(file: Path, text: str) -> Environment:
    from rattler import LockFile

    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lock", encoding="utf-8") as copy:
            copy.write(text)  # ``file`` may be a pipe, and empty by now.
            copy.flush()
            lock = LockFile.from_path(Path(copy.name))
        environment = lock.default_environment()
        names = [name for name, _ in lock.environments()]
    except Exception as error:  # py-rattler has no error class of its own for this
        raise SpecificationError(f"{file} is not a valid pixi.lock", cause=str(error)) from None
    if environment is None or "default" not in names:
        raise SpecificationError(f"{file} has no environment 'default'", cause=f"it has {', '.join(names) or 'none'}")
    return environment


def read(file: Path, text: str, platform: str | None = None) -> LockedEnvironment:
    """The default environment of a ``pixi.lock`` of version 3 to 7, for ``platform``, by default this machine."""
    from rattler import Channel

    content = load_mapping(file, text)
    environment = _default_environment(file, text)
    here = platform or this_platform()
    platforms = {str(platform.subdir): platform for platform in environment.platforms()}
    refuse_unless_for(here, platforms, str(file))
    entries = content.get("packages") or []
    editable = {_absolute(file, _place(entry)) for entry in entries if entry.get("editable")}
    conda: list[LockedConda] = []
    wheels: list[LockedWheel] = []
    for package in environment.packages(platforms[here]) or []:
        _add(file, package, editable, conda, wheels)
    channels = tuple(Channel(str(channel)).base_url for channel in environment.channels())
    target = replace(Target.of_stated(platforms[here].virtual_packages), platform=here)
    return LockedEnvironment(str(file), channels, tuple(conda), tuple(wheels), target=target)


def _add(
    file: Path, package: LockedPackage, editable: set[str], conda: list[LockedConda], wheels: list[LockedWheel]
) -> None:
    from rattler.lock import CondaLockedBinaryPackage, PypiLockedPackage

    if isinstance(package, CondaLockedBinaryPackage):
        record = package.repo_data_record()
        url = _absolute(file, record.url or package.location)
        record.url = url
        conda.append(LockedConda.from_record(record))
    elif isinstance(package, PypiLockedPackage):
        wheels.append(_wheel(file, package, editable))
    else:
        raise SpecificationError(
            f"{file} builds {package.name} from source",
            hint="Publish it to a channel and lock again; only built packages can be installed",
        )


def _wheel(file: Path, package: PypiLockedPackage, editable: set[str]) -> LockedWheel:
    location = _absolute(file, package.location.removeprefix(_DIRECT))
    wheel = LockedWheel(
        canonical_name(package.name),
        package.version or "",
        _with_commit(location),
        direct=True,
        editable=location in editable,
    )
    if wheel.is_vcs or wheel.is_folder:
        return wheel
    return replace(wheel, sha256=_sha256(package), direct=package.location.startswith(_DIRECT))


def _with_commit(location: str) -> str:
    """``git+URL?rev=…#COMMIT``, as pixi writes it, in pip's form: ``git+URL@COMMIT``."""
    match = re.fullmatch(r"(git\+[^?#]+)(?:\?([^#]*))?#([0-9a-f]{40})", location)
    if match is None:
        return location
    subdirectory = re.search(r"(?:\A|&)(subdirectory=[^&]+)", match[2] or "")
    return f"{match[1]}@{match[3]}" + (f"#{subdirectory[1]}" if subdirectory else "")


def _sha256(package: PypiLockedPackage) -> str | None:
    try:
        digest = package.hashes.sha256 if package.hashes else None
    except AttributeError:  # what py-rattler answers for an entry without hashes
        return None
    return digest.hex() if digest else None


def _place(entry: Mapping[str, Any]) -> str:
    """Where the PyPI package of an entry is, as versions 6 and 7, 5 and 4 have it."""
    return str(entry.get("pypi") or entry.get("path") or entry.get("url"))


def _absolute(file: Path, location: str) -> str:
    """``location`` as a URL; paths in a lock begin at its folder."""
    if "://" in location:
        return location
    return file_url(os.path.normpath(file.absolute().parent / location))


def dump(*every: LockedEnvironment) -> str:
    """An environment for one or several platforms as text; the same packages give the same bytes.

    All conda packages must have a record. The channels are those of the first platform.
    """
    from rattler import LockFile, LockPlatform
    from rattler.lock import LockChannel

    platforms = [LockPlatform(each.target.subdir, virtual_packages=each.target.stated()) for each in every]
    lock = LockFile(platforms)
    lock.set_channels("default", [LockChannel(url) for url in every[0].channels])
    for locked, platform in zip(every, platforms, strict=True):
        for package in locked.conda:
            if package.record is None:
                raise SpecificationError(f"{locked.source} has no record of {package.name}")
            lock.add_conda_package("default", platform, package.record)
        for wheel in locked.wheels:
            lock.add_pypi_package("default", platform, wheel.name, wheel.version, _location(wheel))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pixi.lock")
        lock.to_path(path)
        text = path.read_text()
    wheels = [wheel for locked in every for wheel in locked.wheels]
    return _with_more(text, wheels) if wheels else text


def _location(wheel: LockedWheel) -> str:
    return f"{_DIRECT}{wheel.location}" if wheel.direct and wheel.sha256 else wheel.location


_PYPI_ENTRY = re.compile(r"- pypi: (?P<location>.*)\n  name: (?P<name>.*)\n")


def _with_more(text: str, wheels: Sequence[LockedWheel]) -> str:
    """py-rattler takes neither sha256 nor ``editable`` of PyPI packages, but reads what stands in the file.

    Each entry begins with ``- `` in the first column and has them put at its end: to read and write a large lock
    as YAML takes half a second.
    """
    named = {wheel.name: wheel for wheel in wheels}
    placed = {(wheel.name, _location(wheel)): wheel for wheel in wheels}
    head, start, entries = text.partition("\npackages:\n")
    found = []
    for entry in re.split(r"^(?=- )", entries, flags=re.MULTILINE):
        found.append(entry)
        if match := _PYPI_ENTRY.match(entry):
            name = _scalar(match["name"])
            wheel = placed.get((name, _scalar(match["location"]))) or named[name]
            found += [f"  sha256: {_written(wheel.sha256)}\n"] if wheel.sha256 else []
            found += ["  editable: true\n"] if wheel.editable else []
    return "".join((head, start, *found))


def _scalar(text: str) -> str:
    """A text as it stands in YAML, read."""
    if not text.startswith(("'", '"')):
        return text
    from ruamel.yaml import YAML

    return str(YAML(typ="safe", pure=True).load(text))


def _written(digest: str) -> str:
    """Hexadecimal ``digest`` as YAML has it: in quotes where it could be read as a number."""
    return f"'{digest}'" if re.fullmatch(r"\d+(e\d+)?", digest) else digest
