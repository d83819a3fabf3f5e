"""Make an environment from a lock: exactly these files, nothing solved.

The steps that ``build`` takes for a lock in place of its own: the conda records instead of a solve,
the PyPI packages instead of a resolution, and afterwards what a bare URL did not say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.channels import conda, digests
from trainenv.credentials import without_credentials
from trainenv.environments import at_hand
from trainenv.environments.locked import LockedConda, LockedEnvironment, local_path, of_prefix
from trainenv.environments.lockfiles import pylock
from trainenv.environments.records import conda_name, conda_records, python_version, replace_file
from trainenv.errors import InstallError, InterpreterError, SpecificationError, listed
from trainenv.progress import Reporter
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_FROM_INDEX = (
    "arch",
    "build_number",
    "constrains",
    "depends",
    "features",
    "license",
    "license_family",
    "noarch",
    "platform",
    "python_site_packages_path",
    "timestamp",
    "track_features",
)
"""What a package says of itself and its URL does not."""


def require_alone(locked: LockedEnvironment, specs: Sequence[str], wants_pypi: bool) -> None:
    """Raise ``SpecificationError`` where a lock and other requests speak of the same half."""
    if ("conda" in locked.halves and specs) or ("pypi" in locked.halves and wants_pypi):
        raise SpecificationError(
            f"{locked.source} says exactly what to install; nothing can be added to it",
            hint="Create the environment from it, then `trainenv install` the rest",
        )


def require_pypi_only(locked: LockedEnvironment, wants_pypi: bool) -> None:
    """Raise ``SpecificationError`` where an existing environment can't take ``locked`` in."""
    if "conda" in locked.halves:
        raise SpecificationError(
            f"{locked.source} is the lock of a whole environment",
            hint=f"Create one from it: trainenv create -n NAME -f {locked.source}",
        )
    require_alone(locked, (), wants_pypi)


def sources(settings: Settings, locked: LockedEnvironment) -> list[conda.Source]:
    """The channels of a lock, under the names that people know.

    The host channel of a workspace or machine that is not there becomes the one of this workspace.
    """
    hosts = {package.channel for package in locked.conda if package.is_from_host}
    found = []
    for url in locked.channels:
        path = local_path(url)
        gone = path is not None and not path.is_dir() and url in hosts
        here = _host_url(settings) if gone else url
        here = without_credentials(here)
        found.append(conda.Source(known_name(settings, here), here))
    return found


def _host_url(settings: Settings) -> str:
    return (settings.cache_dir / conda.HOST).as_uri() + "/"


def known_name(settings: Settings, url: str) -> str:
    """The name of the channel at ``url`` that also another machine knows, else its URL."""
    from rattler import Channel

    if local_path(url) == settings.cache_dir / conda.HOST:
        return conda.HOST
    channel = Channel(url)
    if channel.name and Channel(channel.name).base_url == channel.base_url:
        return channel.name
    return url.rstrip("/")


def records(settings: Settings, locked: LockedEnvironment, reporter: Reporter) -> list[RepoDataRecord]:
    """What py-rattler shall install. Files on this machine are compared with the lock's hash.

    The records are free of secrets (see ``addresses``). Raises ``InstallError`` for a file that is missing or differs.
    """
    return [_record(_found_here(settings, locked, package, reporter)) for package in locked.conda]


def addresses(locked: LockedEnvironment) -> list[str]:
    """The web addresses in a lock, with the secrets that somebody may have left in them."""
    return [
        *locked.channels,
        *(package.channel for package in locked.conda),
        *(wheel.location for wheel in locked.wheels),
    ]


def _found_here(settings: Settings, locked: LockedEnvironment, package: LockedConda, reporter: Reporter) -> LockedConda:
    file = local_path(package.url)
    if file is None:
        return package
    if not file.is_file():
        own = _from_own_host(settings, locked, package, reporter) if package.is_from_host else None
        if own is None:
            raise _not_here(locked, package, file)
        file = own
    kind, expected = ("md5", package.md5) if package.md5 and not package.sha256 else ("sha256", package.sha256)
    if expected is not None and _digest(file, kind) != expected:
        raise InstallError(
            f"package {file} is not the one that {locked.source} means",
            cause=f"its {kind} hash differs",
            hint="Fetch the file anew, or make the lock again",
        )
    here = replace(package, url=file.as_uri())
    record = package.record or _record_in(file, here, locked.source)
    record.url, record.channel = here.url, here.channel
    return replace(here, record=record)


def _from_own_host(
    settings: Settings, locked: LockedEnvironment, package: LockedConda, reporter: Reporter
) -> Path | None:
    """The same package in this workspace's host channel: the same interpreter gives the same bytes."""
    from trainenv.channels import host

    file = settings.cache_dir / conda.HOST / package.subdir / package.file_name
    if not file.is_file() and locked.python:
        with suppress(InterpreterError):
            host.provide(settings.cache_dir, reporter, lambda version: version == locked.python)
    return file if file.is_file() else None


def _not_here(locked: LockedEnvironment, package: LockedConda, file: Path) -> InstallError:
    if not package.is_from_host:
        return InstallError(
            f"package {file}, which {locked.source} names, is not there",
            hint="Put its channel in place, or make the lock again",
        )
    return InstallError(
        f"{locked.source} names {package.file_name}, made from an interpreter of another machine",
        cause="no interpreter of this machine gives the same package",
        hint="On that machine use `trainenv pack`, or `trainenv env export --format environment.yml --no-builds`",
    )


def _digest(file: Path, kind: str) -> str:
    try:
        return digests.of_file(file, kind)
    except OSError as error:
        raise InstallError(f"package {file} can't be read", cause=error.strerror or str(error)) from None


def _record_in(file: Path, package: LockedConda, source: str) -> RepoDataRecord:
    """What the package ``file`` says of itself. Raises ``InstallError`` where its name says otherwise."""
    from rattler import RepoDataRecord

    try:
        record = asyncio.run(RepoDataRecord.from_package_archive(file))
    except Exception as error:  # py-rattler has no common class for its errors
        raise InstallError(f"package {file} can't be read", cause=str(error)) from None
    _require_same(package, [record.name.source, str(record.version), str(record.build)], source)
    return record


def _require_same(package: LockedConda, found: Sequence[str | None], source: str) -> None:
    if list(found) != [package.name, package.version, package.build]:
        raise InstallError(f"{package.file_name} in {source} holds another package", cause=" ".join(map(str, found)))


def _record(package: LockedConda) -> RepoDataRecord:
    """The record of ``package``, as far as it is known before the package is there."""
    from rattler import PackageRecord, RepoDataRecord
    from rattler.package import BuildString

    url, channel = without_credentials(package.url), without_credentials(package.channel)
    if package.record is not None:
        package.record.url, package.record.channel = url, channel
        return package.record
    known = PackageRecord(
        package.name,
        package.version,
        BuildString(package.build),
        0,
        package.subdir,
        sha256=bytes.fromhex(package.sha256) if package.sha256 else None,
        md5=bytes.fromhex(package.md5) if package.md5 else None,
    )
    return RepoDataRecord(known, package.file_name, url, channel)


def complete_records(prefix: Path, locked: LockedEnvironment) -> None:
    """Add to the records of packages known by URL what the packages say of themselves.

    A file on this machine was asked before: the cache may hold another channel's file of that name by now.
    Raises ``InstallError`` for a file that holds another package than its name says.
    """
    unknown = [package for package in locked.conda if package.record is None and local_path(package.url) is None]
    bare = {package.name: package for package in unknown}
    for record in conda_records(prefix):
        package = bare.get(record.name)
        if package is None:
            continue
        extracted = Path(str(record.content.get("extracted_package_dir")))
        try:
            index: dict[str, Any] = json.loads((extracted / "info" / "index.json").read_bytes())
        except (OSError, ValueError) as error:
            raise InstallError(
                f"package {package.file_name} has no readable info/index.json", cause=str(error)
            ) from None
        _require_same(package, [index.get(key) for key in ("name", "version", "build")], locked.source)
        more = {key: index[key] for key in _FROM_INDEX if index.get(key) is not None}
        replace_file(record.path, json.dumps({**record.content, **more}, indent=2).encode())


def roots(records: Sequence[RepoDataRecord]) -> list[str]:
    """What to note as asked for: python, and each package that no other one needs."""
    needed = {conda_name(spec) for record in records for spec in record.depends}
    names = [record.name.normalized for record in records]
    return [name for name in sorted(names) if name == "python" or name not in needed]


def write_pylock(prefix: Path, locked: LockedEnvironment, places: Sequence[Path]) -> bool:
    """Write the ``pylock.toml`` of ``prefix``: what it has already, and the PyPI packages of ``locked``.

    Files that one of the folders ``places`` has are taken from there (see ``at_hand``). Returns whether
    ``locked`` has any.
    """
    if not locked.wheels and not locked.choices:
        return False
    python = python_version(prefix)
    if python is None:
        raise SpecificationError(f"{locked.source} has PyPI packages but no python", hint="Name a python as well")
    wheels = {wheel.name: wheel for wheel in of_prefix(prefix).wheels if wheel.is_exact}
    for wheel in locked.wheels_for(python):
        public = replace(wheel, location=without_credentials(wheel.location))
        wheels[wheel.name] = at_hand.wheel(public, places)
    if vague := [wheel.name for wheel in wheels.values() if not wheel.is_exact]:
        raise SpecificationError(f"{locked.source} has no sha256 of {listed(vague)}", hint="Lock it again")
    replace_file(prefix / pylock.OWN, pylock.dump(wheels.values(), python).encode())
    return True
