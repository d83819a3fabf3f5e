"""An environment pinned to the file: what every lock says, whatever format it is written in.

A ``LockedEnvironment`` is read from a prefix (``of_prefix``) or from a lock (``lockfiles``), and
written as any of the formats that ``export`` knows. It names each file and its hash; nothing is
left to a solver.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from trainenv.channels.target import Target
from trainenv.credentials import without_credentials
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    Distribution,
    Package,
    channel_name,
    conda_records,
    pypi_distributions,
    read_note,
)
from trainenv.errors import SpecificationError

if TYPE_CHECKING:
    from rattler import PrefixRecord, RepoDataRecord

_FILES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""How files end that pip installs; what ends otherwise is a folder."""

_HOST_BUILD = re.compile(r"_host_[0-9a-f]{8}\Z")


@dataclass(frozen=True)
class LockedConda:
    """One conda package. ``record`` is None where the lock knows the URL only (``@EXPLICIT``).

    ``sha256`` and ``md5`` are hexadecimal, of the package file; a lock need not have both.
    """

    name: str
    version: str
    build: str
    subdir: str
    url: str
    sha256: str | None = None
    md5: str | None = None
    record: RepoDataRecord | None = None

    @classmethod
    def from_url(cls, url: str, sha256: str | None = None, md5: str | None = None) -> LockedConda:
        """What a package's URL tells by itself. Raises ``ValueError`` for one that is no conda package's."""
        match = re.search(r"/([^/]+)/([^/]+)-([^/-]+)-([^/-]+)\.(?:conda|tar\.bz2)\Z", urlsplit(url).path)
        if not match:
            raise ValueError(f"{without_credentials(url)} is not the address of a conda package")
        subdir, name, version, build = map(unquote, match.groups())
        return cls(name, version, build, subdir, url, sha256, md5)

    @classmethod
    def from_record(cls, record: RepoDataRecord) -> LockedConda:
        """A package whose whole record is known."""
        return cls(
            record.name.normalized,
            str(record.version),
            str(record.build),
            record.subdir,
            record.url,
            record.sha256.hex() if record.sha256 else None,
            record.md5.hex() if record.md5 else None,
            record,
        )

    @property
    def file_name(self) -> str:
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def channel(self) -> str:
        """The URL of its channel, ending in ``/``."""
        return self.url.rsplit("/", 2)[0] + "/"

    @property
    def is_from_host(self) -> bool:
        """Whether a machine's own interpreter was packaged into it (see ``channels.host``)."""
        return bool(_HOST_BUILD.search(self.build))


@dataclass(frozen=True)
class LockedWheel:
    """One PyPI package of a lock, as a wheel, an sdist, a folder or a checkout.

    ``location`` is a URL: of a file, of a folder (``file://``), or ``git+URL@COMMIT``; empty where
    nobody knows it. ``direct`` says that it was asked for by this URL, not by its name. ``size`` is that of
    the file in bytes, where it is known.
    """

    name: str
    version: str
    location: str
    sha256: str | None = None
    direct: bool = False
    editable: bool = False
    size: int | None = field(default=None, compare=False)

    @property
    def requirement(self) -> str:
        """The line in pip's format that asks for exactly this."""
        if self.editable:
            return f"-e {self.location}"
        if self.direct:
            return f"{self.name} @ {self.location}"
        return f"{self.name}=={self.version}"

    @property
    def is_vcs(self) -> bool:
        return bool(re.match(r"(git|hg|svn|bzr)\+", self.location))

    @property
    def is_folder(self) -> bool:
        path = self.location.partition("#")[0]
        return self.direct and path.startswith("file:") and not path.endswith(_FILES)

    @property
    def is_source(self) -> bool:
        """Whether it has to be built before it is installed."""
        return not urlsplit(self.location).path.endswith(".whl")

    @property
    def is_exact(self) -> bool:
        """Whether it says which file, by its hash, or which checkout or folder."""
        return bool(self.location) and (self.sha256 is not None or self.is_vcs or self.is_folder)


class WheelChoices(Protocol):
    """The PyPI packages of a lock that serves several Pythons or platforms."""

    @property
    def requires_python(self) -> str | None:
        """A version specifier such as ``>=3.10``, None for any."""

    def for_python(self, version: str) -> tuple[LockedWheel, ...]:
        """The files for this machine and Python ``version``. Raises ``SpecificationError``."""


@dataclass(frozen=True)
class LockedEnvironment:
    """Exactly these packages. ``source`` says for messages where that stands.

    ``channels`` are URLs in order of priority. ``halves`` says what the lock speaks of: ``@EXPLICIT``
    of ``"conda"`` packages only, ``pylock.toml`` of ``"pypi"`` packages only. ``target`` is the machine that
    they were chosen for.
    """

    source: str
    channels: tuple[str, ...] = ()
    conda: tuple[LockedConda, ...] = ()
    wheels: tuple[LockedWheel, ...] = ()
    choices: WheelChoices | None = None
    halves: frozenset[str] = frozenset({"conda", "pypi"})
    target: Target = field(default_factory=Target)

    @property
    def python(self) -> str | None:
        """The version of the Python among its conda packages."""
        return next((package.version for package in self.conda if package.name == "python"), None)

    def wheels_for(self, python: str) -> tuple[LockedWheel, ...]:
        """The PyPI packages for Python ``python``."""
        return self.choices.for_python(python) if self.choices else self.wheels

    def packages(self, python: str | None = None) -> list[Package]:
        """What an environment made of it lists, by name; ``python`` is needed where ``conda`` has none."""
        found = [Package(item.name, item.version, item.build, channel_name(item.channel)) for item in self.conda]
        python = self.python or python
        wheels = self.wheels_for(python) if python else self.wheels
        found += [Package(wheel.name, wheel.version, "pypi", "pypi") for wheel in wheels]
        return sorted(found, key=lambda package: package.name)

    def merged(self, other: LockedEnvironment) -> LockedEnvironment:
        """Both together, where one has the conda half and the other the PyPI half."""
        if self.halves & other.halves:
            raise SpecificationError(
                f"{self.source} and {other.source} lock the same half of an environment",
                hint="Give one of them; @EXPLICIT and pylock.toml go together",
            )
        return LockedEnvironment(
            f"{self.source} and {other.source}",
            self.channels + tuple(url for url in other.channels if url not in self.channels),
            self.conda or other.conda,
            self.wheels or other.wheels,
            self.choices or other.choices,
            self.halves | other.halves,
            self.target.over(other.target),
        )


def of_prefix(prefix: Path, channels: Sequence[str] = ()) -> LockedEnvironment:
    """What is installed in ``prefix``, each package with the file that it came from.

    ``channels`` are the URLs of its channels where they are known, else its records tell. No URL holds
    a password. A PyPI
    package that another tool installed has no ``location`` unless it was installed by a URL.
    """
    from rattler import PrefixRecord

    from trainenv.environments.lockfiles import pylock

    records = conda_records(prefix)
    conda = tuple(_installed_conda(PrefixRecord.from_path(record.path)) for record in records)
    noted = {wheel.name: wheel for wheel in pylock.read_own(prefix)}
    wheels = tuple(_installed_wheel(found, noted.get(found.key)) for found in pypi_distributions(prefix, records))
    return LockedEnvironment(
        str(prefix),
        tuple(without_credentials(url) for url in channels) or tuple(dict.fromkeys(item.channel for item in conda)),
        conda,
        wheels,
        target=replace(Target.of_note(read_note(prefix, ENVIRONMENT_NOTE)), exclude_newer=None),
    )


def _installed_conda(record: PrefixRecord) -> LockedConda:
    record.url = without_credentials(record.url)
    record.channel = without_credentials(record.channel or record.url.rsplit("/", 2)[0])
    return LockedConda.from_record(record)


def _installed_wheel(found: Distribution, noted: LockedWheel | None) -> LockedWheel:
    if noted is not None and noted.version and not same_version(noted.version, found.version):
        noted = None
    sha256 = noted.sha256 if noted else None
    if origin := found.direct_url:
        return replace(_direct_wheel(found, origin), sha256=sha256 or _archive_hash(origin))
    if noted is None:
        return LockedWheel(found.key, found.version, "")
    return LockedWheel(found.key, found.version, without_credentials(noted.location), sha256)


def _direct_wheel(found: Distribution, origin: dict[str, Any]) -> LockedWheel:
    location = without_credentials(str(origin.get("url", "")))
    subdirectory = origin.get("subdirectory")
    if vcs := origin.get("vcs_info"):
        location = f"{vcs.get('vcs', 'git')}+{location}@{vcs.get('commit_id', '')}"
    if subdirectory:
        location += f"#subdirectory={subdirectory}"
    editable = bool((origin.get("dir_info") or {}).get("editable"))
    return LockedWheel(found.key, found.version, location, direct=True, editable=editable)


def _archive_hash(origin: dict[str, Any]) -> str | None:
    hashes = (origin.get("archive_info") or {}).get("hashes") or {}
    return hashes.get("sha256")


def same_version(one: str, other: str) -> bool:
    """Whether two versions of PyPI packages are the same, however they are written (``1.0``, ``1.00``)."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def is_prerelease(version: str) -> bool:
    """Whether a PyPI package of ``version`` came before its release."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False


def file_url(path: str | os.PathLike[str]) -> str:
    """The ``file://`` URL of an absolute path as uv and pixi write it: a lock read back gives the same bytes."""
    return "file://" + quote(os.fspath(path), safe="/!$&'()*+,:;=@[]^|~")


def local_path(url: str) -> Path | None:
    """The path that a ``file://`` URL means, None for any other."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
