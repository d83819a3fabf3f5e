"""The lock of an environment: ``conda-meta/trainenv/pixi.lock``, every package with URL and sha256."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainenv.channels.conda import Source
from trainenv.credentials import without_credentials
from trainenv.environments.records import NOTES_DIR, conda_records, pypi_distributions, replace_file
from trainenv.environments.wheels import LockedWheel, locked

LOCK = f"{NOTES_DIR}/pixi.lock"


def write_lock(prefix: Path, sources: Sequence[Source]) -> None:
    """Write down what ``prefix`` holds, as py-rattler writes a ``pixi.lock``.

    The same packages give the same bytes.
    """
    from rattler import LockFile, LockPlatform, PrefixRecord, Subdir
    from rattler.lock import LockChannel

    records = conda_records(prefix)
    platform = LockPlatform(str(Subdir.current()))
    lock = LockFile([platform])
    urls = [without_credentials(source.url) for source in sources] or sorted(
        {str(r.content.get("channel")) for r in records}
    )
    lock.set_channels("default", [LockChannel(url) for url in urls])
    for record in records:
        lock.add_conda_package("default", platform, PrefixRecord.from_path(record.path))
    installed = {distribution.key for distribution in pypi_distributions(prefix, records)}
    wheels = [wheel for wheel in locked(prefix) if wheel.name in installed]
    for wheel in wheels:
        lock.add_pypi_package("default", platform, wheel.name, wheel.version, wheel.location)
    path = prefix / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.to_path(path)
    if wheels:
        replace_file(path, _with_hashes(path.read_text(), wheels))


def _with_hashes(text: str, wheels: Sequence[LockedWheel]) -> bytes:
    """py-rattler takes no sha256 for PyPI packages, but reads one that stands in the file."""
    from ruamel.yaml import YAML

    hashes = {wheel.name: wheel.sha256 for wheel in wheels if wheel.sha256}
    yaml = YAML()
    yaml.width = 10_000
    content: dict[str, Any] = yaml.load(text)
    for package in content.get("packages", []):
        if "pypi" in package and package.get("name") in hashes:
            package["sha256"] = hashes[package["name"]]
    out = io.BytesIO()
    yaml.dump(content, out)
    return out.getvalue()
