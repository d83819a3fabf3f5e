"""The Python packages that conda brings, so that uv takes them as given.

conda's ``pytorch`` brings what PyPI calls ``torch``. Nobody needs a table of such names: the metadata in
conda's packages tells them, and what each of them needs. uv is told by wheels that hold this metadata
and nothing else, so it knows also those versions that no index has.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from trainenv.environments.records import Distribution, canonical_name, conda_name, conda_records
from trainenv.sharing import make_folder

if TYPE_CHECKING:
    from email.message import Message

    from packaging.version import Version
    from rattler import RepoDataRecord

FOLDER = "given"
"""Where in the cache the wheels for uv lie."""

_FORMAT = 1
"""Another one for other wheels of the same packages."""

_METADATA = re.compile(r"(?:.*/)?site-packages/[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PURL = re.compile(r"pkg:pypi/([^@?#]+)(?:@([^?#]+))?")
_IN_SITE_PACKAGES = re.compile(r"(?:.*/)?site-packages/")


@dataclass(frozen=True)
class Given:
    """A distribution that conda's package ``owner`` brings: its ``name`` and ``version`` as PyPI has them.

    ``requires`` are requirements with their markers, ``extras`` the names that these may speak of.
    """

    name: str
    version: str
    owner: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return canonical_name(self.name)


AllGiven = Mapping[str, Given]
"""By canonical name."""


def of_prefix(prefix: Path) -> dict[str, Given]:
    """What the conda packages of ``prefix`` bring."""
    found: dict[str, Given] = {}
    for record in conda_records(prefix):
        for item in _of_package(record.content, prefix, record.files):
            found.setdefault(item.key, item)
    return found


def of_distributions(distributions: Iterable[Distribution]) -> dict[str, Given]:
    """The same of PyPI packages that are installed and came from an index."""
    found = {
        each.key: _metadata(each.prefix / each.folder / "METADATA") for each in distributions if each.direct_url is None
    }
    return {key: _given(metadata, "") for key, metadata in found.items() if metadata is not None}


def of_records(records: Iterable[RepoDataRecord], packages: Path, prefix: Path) -> dict[str, Given]:
    """What conda packages will bring that need not be installed yet.

    They are looked for in the cache ``packages`` and in ``prefix``. Of one that is in neither only its
    record and its name tell.
    """
    there = {record.path.stem: record for record in conda_records(prefix)}
    found: dict[str, Given] = {}
    for record in records:
        content = json.loads(record.to_json())
        stem = f"{record.name.normalized}-{record.version}-{record.build}"
        folder, files = packages / stem, _listed(packages / stem)
        if not files and stem in there:
            folder, files = prefix, there[stem].files
        for item in _of_package(content, folder, files):
            found.setdefault(item.key, item)
    return found


def _listed(package: Path) -> list[str]:
    """The files of an unpacked conda package."""
    try:
        return [str(entry["_path"]) for entry in json.loads((package / "info" / "paths.json").read_bytes())["paths"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _of_package(content: Mapping[str, Any], folder: Path, files: Sequence[str]) -> Iterator[Given]:
    """What a package with record ``content`` and its ``files`` under ``folder`` brings; no files are not known ones."""
    owner = str(content["name"])
    described = [path for path in files if "site-packages/" in path and _METADATA.fullmatch(path)]
    if described:
        for path in described:
            if (metadata := _metadata(folder / path)) is not None:
                yield _given(metadata, owner)
        return
    if not needs_python(content) or (files and not any(map(_IN_SITE_PACKAGES.match, files))):
        return
    named = [match for match in map(_PURL.match, map(str, content.get("purls") or ())) if match]
    for match in named:
        version = unquote(match[2] or str(content["version"]))
        if _NAME.fullmatch(unquote(match[1])) and _parsed(version):
            yield Given(unquote(match[1]), version, owner)
    if not named and _NAME.fullmatch(owner) and _parsed(str(content["version"])):
        yield Given(owner, str(content["version"]), owner)


def needs_python(content: Mapping[str, Any]) -> bool:
    """Whether the conda package with the record ``content`` depends on Python."""
    return any(conda_name(str(spec)) == "python" for spec in content.get("depends") or ())


def _metadata(file: Path) -> Message | None:
    from email.parser import HeaderParser

    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            found = HeaderParser().parse(stream, headersonly=True)
    except OSError:
        return None
    return found if _NAME.fullmatch(str(found["Name"]).strip()) and _parsed(str(found["Version"])) else None


def _given(metadata: Message, owner: str) -> Given:
    return Given(
        str(metadata["Name"]).strip(),
        str(metadata["Version"]).strip(),
        owner,
        tuple(map(str, metadata.get_all("Requires-Dist", []))),
        tuple(extra for extra in map(str, metadata.get_all("Provides-Extra", [])) if _NAME.fullmatch(extra)),
    )


def _parsed(version: str) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version.strip())
    except InvalidVersion:
        return None


def constraints(given: AllGiven, wheels: Path) -> list[str]:
    """Lines of a constraint file that make uv take the wheels in folder ``wheels`` for ``given``."""
    return [f"{item.key} @ {(wheels / _file_name(item)).as_uri()}" for item in given.values()]


def write_wheels(given: AllGiven, cache_dir: Path) -> Path:
    """The folder with a wheel for each of ``given``, made if it is not there; the same ones give the same folder."""
    described = [(item.name, item.version, item.requires, item.extras) for _, item in sorted(given.items())]
    import zipfile

    digest = hashlib.sha256(json.dumps([_FORMAT, described]).encode()).hexdigest()[:32]
    folder = cache_dir / FOLDER / digest
    if folder.is_dir():
        return folder
    contents = {_file_name(item): _contents(item, given) for item in given.values()}
    beside = folder.with_name(f".{digest}.{os.urandom(4).hex()}")
    make_folder(beside)
    for name, members in contents.items():
        with zipfile.ZipFile(beside / name, "w") as wheel:
            for path, text in members.items():
                wheel.writestr(zipfile.ZipInfo(path), text)
    try:
        os.rename(beside, folder)
    except OSError:
        # Somebody else was faster.
        for file in beside.iterdir():
            file.unlink()
        with suppress(OSError):
            beside.rmdir()
    return folder


def _stem(item: Given) -> str:
    return f"{item.key.replace('-', '_')}-{_parsed(item.version)}"


def _file_name(item: Given) -> str:
    return f"{_stem(item)}-py3-none-any.whl"


def _contents(item: Given, given: AllGiven) -> dict[str, str]:
    info = f"{_stem(item)}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {item.name}", f"Version: {item.version}"]
    lines += [f"Provides-Extra: {extra}" for extra in item.extras]
    lines += [f"Requires-Dist: {line}" for line in map(_settled, item.requires, [given] * len(item.requires)) if line]
    return {
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: trainenv\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }


def _settled(text: str, given: AllGiven) -> str | None:
    """A requirement as uv shall see it: between its own packages conda has decided which versions fit.

    A recipe often allows more than the metadata that it ships. None for what no tool can read.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    requirement.url = None
    other = given.get(canonical_name(requirement.name))
    if other is not None and not requirement.specifier.contains(other.version, prereleases=True):
        requirement.specifier = SpecifierSet()
    return str(requirement)
