"""A folder that is conda channel and PyPI index at once, for machines that reach no other.

::

    linux-64/repodata.json, python-3.11.7-….conda     the conda channel is the folder itself
    noarch/repodata.json, …
    wheels/numpy-2.1.0-….whl                           files of PyPI packages
    simple/index.html, simple/numpy/index.html         the index over them (PEP 503)

It works from a disk (``file://``) and behind any web server. Mirroring into it again adds to it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
import urllib.error
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import HeaderParser
from html import escape
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from trainenv.channels import digests
from trainenv.channels.access import RETRIES, Access
from trainenv.errors import ChannelError
from trainenv.progress import Reporter, Step

_ENTRY_KEYS = {
    "arch",
    "build",
    "build_number",
    "constrains",
    "depends",
    "extra_depends",
    "features",
    "flags",
    "license",
    "license_family",
    "md5",
    "name",
    "noarch",
    "platform",
    "python_site_packages_path",
    "sha256",
    "size",
    "subdir",
    "timestamp",
    "track_features",
    "version",
}
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class CondaFile:
    """One conda package. ``record`` is its JSON record, None where only the package itself tells."""

    subdir: str
    url: str
    sha256: str | None
    md5: str | None
    record: Mapping[str, Any] | None


@dataclass(frozen=True)
class PypiFile:
    """One wheel or sdist of a PyPI package; ``sha256`` is None where no lock knows it."""

    name: str
    url: str
    sha256: str | None


@dataclass(frozen=True)
class Mirror:
    """What a mirror folder got. ``fetched`` of the files were not there before, and had ``bytes``."""

    folder: Path
    conda: int
    pypi: int
    fetched: int
    bytes: int

    @property
    def index_url(self) -> str:
        """The PyPI index of the folder, for ``index-url`` of pip's settings."""
        return f"{self.folder.as_uri()}/simple"

    def to_json(self) -> dict[str, object]:
        return {
            "folder": str(self.folder),
            "channel": self.folder.as_uri(),
            "index_url": self.index_url,
            "conda": self.conda,
            "pypi": self.pypi,
            "fetched": self.fetched,
            "bytes": self.bytes,
        }


def mirror(
    conda: Sequence[CondaFile], pypi: Sequence[PypiFile], folder: Path, access: Access, reporter: Reporter
) -> Mirror:
    """Copy all files, each checked against its hash, into ``folder`` and write its indexes.

    Raises ``ChannelError`` naming the first file that can't be had. What was copied until then stays,
    is not named by any index, and is not copied again.
    """
    fetched, size = 0, 0
    places = [(item, folder / item.subdir / _file_name(item.url)) for item in conda]
    files = [(item, folder / "wheels" / _file_name(item.url)) for item in pypi]
    try:
        with _locked(folder), reporter.step("mirror", total=len(places) + len(files), unit="files") as step:
            for package, place in places:
                md5 = package.md5 if package.sha256 is None else None
                done = _provide(package.url, place, access, step, sha256=package.sha256, md5=md5)
                fetched, size = fetched + (done > 0), size + done
            for item, place in files:
                done = _provide(item.url, place, access, step, sha256=item.sha256)
                fetched, size = fetched + (done > 0), size + done
            _index_conda(folder, places)
            _index_pypi(folder)
    except OSError as error:
        raise ChannelError(
            f"the mirror in {folder} can't be written",
            cause=error.strerror or str(error),
            hint="Free space, or choose another folder with -o",
        ) from None
    return Mirror(folder, len(conda), len(pypi), fetched, size)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    for name in ("noarch", "wheels", "simple"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob("*/.partial-*"):
            leftover.unlink()
        yield


def _file_name(url: str) -> str:
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ChannelError(f"{url} does not name a file", hint="Lock the environment again")
    return name


def _provide(url: str, place: Path, access: Access, step: Step, *, sha256: str | None, md5: str | None = None) -> int:
    """Have the file of ``url`` at ``place``; returns how many bytes were copied, 0 if it was there."""
    step.detail(place.name)
    known = sha256 or md5
    kind = "sha256" if sha256 or not md5 else "md5"
    if place.is_file():
        if known is None or digests.of_file(place, kind) == known:
            step.advance()
            return 0
        if place.stat().st_size and _is_indexed(place):
            raise ChannelError(
                f"{place} is another file than {access.public(url)}",
                cause=f"its {kind} differs",
                hint="Mirror the two into different folders, or remove the file if it is damaged",
            )
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".partial-{place.name}")
    try:
        _copy(url, partial, access)
        if known is not None and (found := digests.of_file(partial, kind)) != known:
            raise ChannelError(
                f"{access.public(url)} is not what the lock says",
                cause=f"its {kind} is {found}, not {known}",
                hint="The file was changed at its source: lock the environment again",
            )
        size = partial.stat().st_size
        os.replace(partial, place)
    finally:
        partial.unlink(missing_ok=True)
    step.advance()
    return size


def _copy(url: str, target: Path, access: Access) -> None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            with open(unquote(parts.path), "rb") as source, target.open("wb") as out:
                _pour(source, out)
        except FileNotFoundError:
            raise ChannelError(
                f"{unquote(parts.path)} is not there any more", hint="Lock the environment again"
            ) from None
        return
    if access.offline:
        raise ChannelError(f"{access.public(url)} can't be fetched", cause="trainenv is offline")
    reason = ""
    for attempt in range(RETRIES + 1):
        time.sleep(_WAIT_SECONDS * attempt)
        try:
            with (
                access.opener().open(access.request(url), timeout=access.read_timeout) as source,
                target.open("wb") as out,
            ):
                expected = source.headers.get("Content-Length")
                if _pour(source, out) == int(expected or -1) or expected is None:
                    return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            reason = f"HTTP status {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
    raise ChannelError(
        f"{access.public(url)} can't be fetched", cause=access.public(reason), hint="Try again; what was copied is kept"
    )


def _pour(source: IO[bytes], out: IO[bytes]) -> int:
    size = 0
    while block := source.read(1 << 20):
        out.write(block)
        size += len(block)
    return size


def _is_indexed(place: Path) -> bool:
    """Whether an index names the file; one that none names was cut off, or damaged before it counted."""
    if place.parent.name == "wheels":
        return any(f"/{quote(place.name)}#" in page.read_text() for page in place.parent.parent.glob("simple/*/*.html"))
    return place.name in _known(place.parent)


def _known(subdir: Path) -> dict[str, Any]:
    try:
        index = json.loads((subdir / "repodata.json").read_bytes())
        return {**index["packages"], **index["packages.conda"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _index_conda(folder: Path, places: Sequence[tuple[CondaFile, Path]]) -> None:
    entries: dict[Path, dict[str, Any]] = {folder / "noarch": {}}
    for package, place in places:
        record = package.record if package.record is not None else _record_of(place)
        entry = {key: value for key, value in record.items() if key in _ENTRY_KEYS and value is not None}
        entry |= {"sha256": digests.of_file(place, "sha256"), "size": place.stat().st_size, "subdir": package.subdir}
        entries.setdefault(place.parent, {})[place.name] = entry
    for subdir, new in entries.items():
        merged = {**_known(subdir), **new}
        index = {
            "info": {"subdir": subdir.name},
            "packages": {name: merged[name] for name in sorted(merged) if name.endswith(".tar.bz2")},
            "packages.conda": {name: merged[name] for name in sorted(merged) if name.endswith(".conda")},
            "repodata_version": 1,
        }
        _write(subdir / "repodata.json", json.dumps(index, indent=1, sort_keys=True))


def _record_of(place: Path) -> dict[str, Any]:
    import asyncio

    from rattler import RepoDataRecord

    async def read() -> RepoDataRecord:
        return await RepoDataRecord.from_package_archive(place)

    found: dict[str, Any] = json.loads(asyncio.run(read()).to_json())
    return found


def _index_pypi(folder: Path) -> None:
    projects: dict[str, list[Path]] = {}
    for file in sorted((folder / "wheels").iterdir()):
        if not file.name.startswith("."):
            projects.setdefault(_project(file.name), []).append(file)
    for name, files in projects.items():
        links = "".join(f"<a {_attributes(file)}>{escape(file.name)}</a><br>\n" for file in files)
        _write(folder / "simple" / name / "index.html", _page(name, links))
    links = "".join(f'<a href="{quote(name)}/">{escape(name)}</a><br>\n' for name in sorted(projects))
    _write(folder / "simple" / "index.html", _page("Index", links))


def _project(file_name: str) -> str:
    """The normalised project of a wheel or sdist: wheels split at ``-``, in sdists the version is last."""
    name = file_name.split("-", 1)[0] if file_name.endswith(".whl") else file_name.rpartition("-")[0]
    return re.sub(r"[-_.]+", "-", name or file_name).lower()


def _attributes(file: Path) -> str:
    attributes = f'href="../../wheels/{quote(file.name)}#sha256={digests.of_file(file, "sha256")}"'
    if requires := _requires_python(file):
        attributes += f' data-requires-python="{escape(requires)}"'
    return attributes


def _requires_python(file: Path) -> str | None:
    if file.suffix != ".whl":
        return None
    try:
        with zipfile.ZipFile(file) as wheel:
            name = next(name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            metadata = HeaderParser().parsestr(wheel.read(name).decode("utf-8", "replace"), headersonly=True)
            return metadata["Requires-Python"]
    except (zipfile.BadZipFile, StopIteration, KeyError):
        raise ChannelError(f"{file} is not a wheel", hint="Remove it and mirror again") from None


def _page(title: str, links: str) -> str:
    return (
        '<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="1.0">'
        f"<title>{escape(title)}</title></head>\n<body>\n{links}</body></html>\n"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".partial-{path.name}")
    beside.write_text(text)
    os.replace(beside, path)
