"""Builds an environment from an archive of pixi-pack: conda packages, wheels and nothing else.

Such an archive is a channel (``channel/SUBDIR/*.conda`` with ``repodata.json``), a folder of wheels (``pypi/*.whl``),
and ``pixi-pack.json``. It holds exactly what is to be installed, so it is taken for a lock. Its packages stay in the
cache as long as an environment is made of them, so that ``env repair`` finds them there.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainenv import locks, sharing
from trainenv.archives.foreign.extraction import Extraction, members_in
from trainenv.archives.foreign.platforms import machine_of
from trainenv.archives.foreign.recognise import Kind
from trainenv.archives.hashing import sha256_of
from trainenv.environments import build
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel, local_path
from trainenv.environments.records import canonical_name
from trainenv.environments.specification import Specification
from trainenv.environments.staging import remove_tree, require
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter
from trainenv.settings import Settings

METADATA = "pixi-pack.json"
CHANNEL, WHEELS = "channel", "pypi"

_KNOWN_VERSION = "1"


def build_from(
    settings: Settings, archive: Path, kind: Kind, name: str, confirm: Callable[[], None], reporter: Reporter
) -> None:
    """Make environment ``name`` of the packages in ``archive``, without a network. Raises a ``TrainenvError``.

    ``confirm`` is called when all has been read and nothing is used yet.
    """
    require(settings, name, exists=False)
    with locks.part_of_cache(settings.cache_dir):
        store = settings.cache_dir / "unpacked"
        sharing.make_folder(store)
        folder = Path(tempfile.mkdtemp(prefix=".", dir=store))
        try:
            extraction = Extraction(archive, folder)
            with members_in(archive, kind, reporter, folder=folder) as (members, limits):
                extraction.write_all(members, limits)
            confirm()
            check_metadata(archive, _read_json(archive, folder / METADATA))
            folder = _kept(store, folder)
            locked = _locked(archive, folder)
        except BaseException:
            remove_tree(folder)
            raise
        build.create(settings, name, Specification(locked=locked), reporter)


def check_metadata(archive: Path, content: Mapping[str, Any]) -> None:
    """Raise ``ArchiveError`` unless ``pixi-pack.json`` is of a known version and names this machine's platform."""
    if content.get("version") != _KNOWN_VERSION:
        raise ArchiveError(
            f"{archive} is of a form that trainenv does not know",
            cause=f"version {content.get('version')!r} of pixi-pack's archives",
            hint="Use a newer trainenv, or pixi-unpack",
        )
    wanted = str(content.get("platform"))
    if machine_of(wanted) != platform.machine():
        raise ArchiveError(
            f"{archive} can't be used here",
            cause=f"it is made for {wanted} and this machine is a Linux on {platform.machine()}",
            hint="Nothing was unpacked",
        )


def _kept(store: Path, folder: Path) -> Path:
    """``folder`` under the name that its packages give it; what was unpacked before is as good."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{sha256_of(folder / name)}\0".encode(errors="surrogateescape"))
    place = store / digest.hexdigest()[:16]
    try:
        os.rename(folder, place)
    except OSError:
        if not place.is_dir():
            raise
        remove_tree(folder)
    return place


def _locked(archive: Path, folder: Path) -> LockedEnvironment:
    """All packages in ``folder``, by URL and sha256."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    conda = [package for subdir in sorted((folder / CHANNEL).glob("*/")) for package in _conda(archive, subdir)]
    if not conda:
        raise ArchiveError(f"{archive} is damaged", cause="its channel has no packages", hint="Pack it again")
    wheels = []
    for file in sorted((folder / WHEELS).glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(file.name)
        except InvalidWheelFilename as error:
            raise ArchiveError(f"{archive} is damaged", cause=str(error), hint="Pack it again") from None
        wheels.append(LockedWheel(canonical_name(name), str(version), file.as_uri(), sha256_of(file)))
    channel = f"{(folder / CHANNEL).as_uri()}/"
    return LockedEnvironment(str(archive), (channel,), tuple(conda), tuple(wheels))


def _conda(archive: Path, subdir: Path) -> list[LockedConda]:
    """The packages that ``repodata.json`` of ``subdir`` lists; files beside it that it does not list don't count."""
    from rattler import Channel, RepoData

    try:
        records = RepoData.from_path(subdir / "repodata.json").into_repo_data(Channel(subdir.parent.as_uri()))
    except Exception as error:  # py-rattler has no common class for its errors
        raise ArchiveError(f"{archive} is damaged", cause=f"{subdir.name}/repodata.json: {error}") from None
    found = [LockedConda.from_record(record) for record in records]
    for package in found:
        file = local_path(package.url)
        if file is None or not os.path.realpath(file).startswith(f"{os.path.realpath(subdir)}/"):
            raise ArchiveError(f"{archive} is refused", cause=f"it names a package outside of it, {package.file_name}")
        if not file.is_file():
            raise ArchiveError(f"{archive} is damaged", cause=f"it lacks {package.file_name}", hint="Pack it again")
    return found


def _read_json(archive: Path, file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise ArchiveError(f"{archive} is damaged", cause=f"it has no {file.name} that can be read") from None
    return content if isinstance(content, dict) else {}
