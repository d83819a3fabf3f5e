"""pip and setuptools for a packaged interpreter, from the nearest place that has them."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import InvalidVersion, Version

from trainenv.channels import pypi
from trainenv.channels.host import debian
from trainenv.channels.host.interpreters import Interpreter, Layout

DISTRIBUTION_WHEELS = Path("/usr/share/python-wheels")
"""Where Debian and Ubuntu keep the wheels of their ``python3-venv``."""

PIP_SECONDS = 30.0
"""How long the index may take to give pip, without which an environment is of little use."""

SETUPTOOLS_SECONDS = 10.0
"""How long the index may take to give setuptools to a Python that no longer ships it."""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Distribution:
    """A pure-Python distribution, as its wheel has it.

    ``files`` are contents by path relative to ``site-packages``; ``entry_points`` are the console
    scripts, like ``"pip = pip._internal.cli.main:main"``.
    """

    name: str
    version: str
    files: dict[str, bytes]
    entry_points: tuple[str, ...]

    def recorded(self, installer: str = "") -> dict[str, bytes]:
        """``files`` with a RECORD that fits them, and with INSTALLER if one is named."""
        info = next(path.split("/")[0] for path in self.files if path.endswith(".dist-info/METADATA"))
        files = {path: data for path, data in self.files.items() if path != f"{info}/RECORD"}
        if installer:
            files[f"{info}/INSTALLER"] = f"{installer}\n".encode()
        lines = io.StringIO()
        rows = csv.writer(lines, lineterminator="\n")
        for path, data in sorted(files.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.writerow([path, f"sha256={digest}", len(data)])
        rows.writerow([f"{info}/RECORD", "", ""])
        return {**files, f"{info}/RECORD": lines.getvalue().encode()}

    @property
    def wheel_name(self) -> str:
        return f"{self.name}-{self.version}-py3-none-any.whl"

    def wheel(self) -> bytes:
        """The distribution as a wheel, the same bytes each time."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in sorted(self.recorded().items()):
                member = zipfile.ZipInfo(path, _ZIP_EPOCH)
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr = 0o100644 << 16
                archive.writestr(member, data)
        return out.getvalue()


def find(name: str, interpreter: Interpreter, layout: Layout, cache_dir: Path) -> Distribution | None:
    """Distribution ``name`` for ``interpreter``, or None where no place has it.

    Tried in turn: the wheels of its ensurepip, those of its Linux distribution, the index of the
    user's pip settings, and what is installed in its own ``site-packages``.
    """
    folders = [layout.stdlib / "ensurepip" / "_bundled"]
    if layout.debian:
        folders.append(DISTRIBUTION_WHEELS)
    for folder in folders:
        wheels = sorted(folder.glob(f"{name}-*.whl"), key=_wheel_version)
        if wheels and (found := _from_wheel(name, wheels[-1])):
            return replace(found, files=debian.unpatched_setuptools(found.files)) if name == "setuptools" else found
    seconds = PIP_SECONDS if name == "pip" else SETUPTOOLS_SECONDS
    return _from_index(name, interpreter, seconds, cache_dir) or _installed(name, layout.stdlib / "site-packages")


def _wheel_version(path: Path) -> Version:
    try:
        return Version(path.name.split("-")[1])
    except (IndexError, InvalidVersion):
        return Version("0")


def _from_wheel(name: str, path: Path) -> Distribution | None:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {member: archive.read(member) for member in archive.namelist() if not member.endswith("/")}
    except (OSError, zipfile.BadZipFile):
        return None
    return _distribution(name, files)


def _from_index(name: str, interpreter: Interpreter, seconds: float, cache_dir: Path) -> Distribution | None:
    with tempfile.TemporaryDirectory(prefix="trainenv-index-") as folder:
        command = [pypi.find_uv(), "pip", "install", "--quiet", "--target", folder]
        command += ["--python", str(interpreter.executable), "--no-deps", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*command, *pypi.uv_options(), name],
                env={**pypi.uv_environment(cache_dir), "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        return _installed(name, Path(folder)) if done.returncode == 0 else None


def _installed(name: str, site_packages: Path) -> Distribution | None:
    """What RECORD says that ``name`` has in ``site_packages``; None if it is not there or not whole."""
    for record in sorted(site_packages.glob(f"{name}-*.dist-info/RECORD")):
        try:
            rows = list(csv.reader(io.StringIO(record.read_text())))
            paths = [row[0] for row in rows if row and not _made_by_installer(row[0])]
            return _distribution(name, {path: (site_packages / path).read_bytes() for path in paths})
        except OSError:
            continue
    return None


def _made_by_installer(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    if path.startswith(("..", "/", "bin/", "__pycache__/")) or "/__pycache__/" in path:
        return True
    return ".dist-info/" in path and name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def _distribution(name: str, files: dict[str, bytes]) -> Distribution | None:
    metadata = next((path for path in sorted(files) if re.fullmatch(r"[^/]+\.dist-info/METADATA", path)), None)
    if metadata is None or any(".data/" in path.split("/")[0] + "/" for path in files):
        return None
    version = metadata.split("/")[0].removesuffix(".dist-info").split("-")[-1]
    points = files.get(os.path.dirname(metadata) + "/entry_points.txt", b"").decode()
    return Distribution(name, version, files, tuple(_console_scripts(points)))


def _console_scripts(text: str) -> Iterator[str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    if parser.has_section("console_scripts"):
        yield from (f"{name} = {target}" for name, target in parser.items("console_scripts"))
