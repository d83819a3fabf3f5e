"""What an archive says about itself: its packages, what it needs of a host, and all its files."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from trainenv.archives import columns
from trainenv.archives.members import Files
from trainenv.sizes import human_size

FORMAT_VERSION = 2
"""Of the manifest and of the file that it is in."""

LONGEST = 128 << 20
"""A manifest that claims to have more bytes is refused before it is unpacked."""

_MOST_VALUES = 1 << 24
_RELOCATION_VERSION = 1
_BLOCK = 1 << 18

RECORDS_DIR = "conda-meta/trainenv"
"""Where an environment keeps what trainenv knows of it."""

RELOCATION_FILE = f"{RECORDS_DIR}/relocation.json"
"""Which files hold the prefix, and where: an archive's last member; it stays in the environment."""

PREFIX_FILE = f"{RECORDS_DIR}/prefix"
"""One line: the prefix that the files hold now. Absent right after ``tar -xf``: the placeholder."""

JOURNAL_FILE = f"{RECORDS_DIR}/moving"
"""There while ``bin/conda-unpack`` is at work: the prefixes that a file may hold by then."""

MANIFEST_FILE = f"{RECORDS_DIR}/manifest.json"
"""The manifest of an archive that is a folder, which is no member itself."""

MANIFEST_SUM_FILE = f"{MANIFEST_FILE}.sha256"
"""Its sha256, as ``sha256sum`` writes it."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION_NUMBER = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}")


@dataclass(frozen=True)
class Package:
    """One package. ``build`` is ``"pypi"`` for what came as a wheel."""

    name: str
    version: str
    build: str


@dataclass(frozen=True)
class HostNeeds:
    """What the environment needs of a machine, each with the file or package that needs it.

    ``machine`` is as ``"x86_64"``, ``None`` without any ELF file. The versions are the least that will
    do: of glibc, of the symbols of libstdc++ (``None`` if the environment has its own), of the
    processor (``"x86_64_v3"``), of the CUDA that a GPU's driver speaks. ``libraries`` are the shared
    libraries that the machine must have, by name.
    """

    machine: str | None = None
    glibc: str | None = None
    glibc_needed_by: str | None = None
    glibcxx: str | None = None
    glibcxx_needed_by: str | None = None
    cxxabi: str | None = None
    cxxabi_needed_by: str | None = None
    cpu: str | None = None
    cpu_needed_by: str | None = None
    cuda: str | None = None
    cuda_needed_by: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The needs that there are."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class Against:
    """What a delta builds on: the ``names`` of the environments that have what is absent from it.

    ``sha256`` is that of the full sha256 of all absent files, each with a newline, in their order.
    """

    names: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that an archive holds, in the order of its members.

    ``left_out`` is how many files that its packages' records name it lacks by wish. ``against`` is there
    for a delta, which some of its ``files`` are absent from.
    """

    name: str
    platform: str
    python: str | None
    created_by: str
    packages: tuple[Package, ...]
    host_needs: HostNeeds
    files: Files
    left_out: int = 0
    against: Against | None = None

    def to_json(self) -> bytes:
        """Compact and in a fixed order: the same manifest gives the same bytes."""
        document = {
            "version": FORMAT_VERSION,
            "name": self.name,
            "platform": self.platform,
            "python": self.python,
            "created_by": self.created_by,
            "packages": [vars(package) for package in self.packages],
            "host_needs": self.host_needs.to_json(),
            **({"left_out": self.left_out} if self.left_out else {}),
            **({"against": vars(self.against)} if self.against is not None else {}),
        }
        content = io.BytesIO()
        content.write(f'{columns.compact(document)[:-1]},"files":'.encode())
        content.writelines(piece.encode() for piece in columns.encoded(self.files))
        content.write(b"}")
        return content.getvalue()


@dataclass(frozen=True)
class LeftOut:
    """What was left out by wish: how many ``files``, and their bytes, by what they are."""

    files: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "bytes": dict(self.bytes)}

    def __str__(self) -> str:
        parts = ", ".join(f"{kind} {human_size(size)}" for kind, size in self.bytes.items())
        return f"{self.files} file{'s' * (self.files != 1)} ({parts})"


@dataclass(frozen=True)
class Archive:
    """An archive. ``bytes`` is the size of the file itself, ``not_packed`` what packing it left out.

    ``address`` is set for one that does not lie on this machine.
    """

    path: Path
    manifest: Manifest
    bytes: int
    not_packed: LeftOut | None = None
    address: str | None = None

    @property
    def name(self) -> str:
        """The name of the environment that was packed."""
        return self.manifest.name

    @property
    def platform(self) -> str:
        """The conda platform, such as ``"linux-64"``."""
        return self.manifest.platform

    @property
    def python(self) -> str | None:
        """The version of its interpreter; ``None`` if it has none."""
        return self.manifest.python

    @property
    def files(self) -> int:
        """How many files, links and folders it has."""
        return len(self.manifest.files)

    @property
    def host_needs(self) -> HostNeeds:
        """What a machine must have to run it."""
        return self.manifest.host_needs

    def to_json(self) -> dict[str, Any]:
        """What ``inspect --json`` prints."""
        return {
            "name": self.name,
            "path": self.address or str(self.path),
            "platform": self.platform,
            "python": self.python,
            "files": self.files,
            "bytes": self.bytes,
            "unpacked_bytes": self.manifest.files.bytes,
            "host_needs": vars(self.host_needs),
            "left_out": self.manifest.left_out,
            "absent": self.manifest.files.absent_count,
            "against": None if self.manifest.against is None else list(self.manifest.against.names),
            **({"not_packed": self.not_packed.to_json()} if self.not_packed is not None else {}),
            "packages": [vars(package) for package in self.manifest.packages],
        }


def relocation_json(placeholder: str, files: Files) -> Iterator[bytes]:
    """The content of ``RELOCATION_FILE``, in blocks: the manifest's facts, for who has only the tree."""
    # The slash is escaped so that no search for the placeholder finds it here.
    spelled = json.dumps(placeholder).replace("/", "\\u002f")
    block = bytearray(f'{{"version":{_RELOCATION_VERSION},"placeholder":{spelled},"files":{{'.encode())
    separator = "\n"
    for number in sorted(files.occurrences, key=files.path):
        about = f'"sha256":"{files.sha256(number)}","size":{files.sizes[number]}}}'
        entry = f"{json.dumps(files.path(number))}:{files.occurrences[number][:-1]},{about}"
        block += f"{separator}{entry}".encode()
        separator = ",\n"
        if len(block) >= _BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block) + b"\n}}\n"


def parse(document: bytes) -> Manifest:
    """The manifest that ``document`` holds. ``ValueError`` says what is wrong with it.

    Types are checked here; whether paths, sizes and positions make sense is for ``checks``.
    """
    if sum(map(document.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ValueError("it has impossibly many values")
    try:
        values = json.loads(document, object_pairs_hook=columns.made_of)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({error})") from None
    if not isinstance(values, dict) or values.get("version") != FORMAT_VERSION:
        raise ValueError("it is of no known version")
    return Manifest(
        name=_of(values, "name", str),
        platform=_of(values, "platform", str),
        python=_optional_text(values, "python"),
        created_by=_of(values, "created_by", str),
        packages=tuple(
            Package(_of(entry, "name", str), _of(entry, "version", str), _of(entry, "build", str))
            for entry in _of(values, "packages", list)
        ),
        host_needs=_host_needs(_of(values, "host_needs", dict)),
        files=columns.decoded(values.get("files")),
        left_out=_count(values.get("left_out", 0)),
        against=_against(values["against"]) if "against" in values else None,
    )


def _host_needs(values: Mapping[str, Any]) -> HostNeeds:
    """Needs of a kind that this trainenv does not know are passed over."""
    libraries = values.get("libraries", {})
    if not isinstance(libraries, dict) or not all(isinstance(path, str) for path in libraries.values()):
        raise ValueError("its libraries are wrong")
    texts = [each.name for each in fields(HostNeeds) if each.name != "libraries"]
    known = {name: _optional_text(values, name) for name in texts}
    for name in ("glibc", "glibcxx", "cxxabi", "cuda"):
        if (version := known[name]) is not None and not _VERSION_NUMBER.fullmatch(version):
            raise ValueError(f"its {name} is no version")
    return HostNeeds(**known, libraries=libraries)


def _against(values: Any) -> Against:
    names, digest = _of(values, "names", list), _of(values, "sha256", str)
    if not all(isinstance(name, str) for name in names) or not _SHA256.fullmatch(digest):
        raise ValueError("what it builds on is wrong")
    return Against(tuple(names), digest)


def _of(values: Any, name: str, kind: type) -> Any:
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"its {name} is missing or wrong")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("its left_out is no number of files")
    return value


def _optional_text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} is wrong")
    return value
