"""Put damaged files of conda packages back, from a fresh install of these packages beside the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trainenv.channels import cache_health
from trainenv.credentials import without_credentials
from trainenv.environments import from_lock, linking, relocated
from trainenv.environments.contents import NOT_EXECUTABLE, Damage, check, expected_files
from trainenv.environments.locked import LockedConda, LockedEnvironment, local_path
from trainenv.environments.lockfiles import pixi
from trainenv.environments.mending import Mending, clear, make_executable, put
from trainenv.environments.records import (
    NOTES_DIR,
    CondaRecord,
    pypi_distributions,
    readable_conda_records,
    replace_file,
)
from trainenv.environments.staging import remove_tree
from trainenv.errors import DiskFullError, TrainenvError


class CondaMender:
    """Mends conda packages."""

    def __init__(self, mending: Mending) -> None:
        self._mending = mending
        self._prefix = mending.prefix
        self._reasons = mending.reasons

    def mend(self, damage: Sequence[Damage]) -> None:
        """Put back the files and records of conda packages that ``damage`` names."""
        packages = self._packages({item.owner for item in damage})
        if not packages:
            return
        scratch = self._prefix.parent / "fresh"
        for batch in [list(packages.values()), *([one] for one in packages.values())]:
            wanted = [package for package in batch if not (scratch / "conda-meta" / f"{_stem(package)}.json").exists()]
            try:
                self._install_fresh(wanted, scratch)
            except DiskFullError:
                raise
            except TrainenvError as error:
                self._reasons |= {package.name: error.cause or error.message for package in batch}
            else:
                for package in batch:
                    self._reasons.pop(package.name, None)
                if len(batch) == len(packages):
                    break
        fresh = {record.name: record for record in readable_conda_records(scratch)[0]}
        for item in damage:
            if item.owner in fresh and item.owner not in self._reasons:
                if item.path.startswith("conda-meta/"):
                    self._put_record(fresh[item.owner], scratch)
                else:
                    self._put_conda_file(item, fresh[item.owner], scratch)
        remove_tree(scratch)

    def _packages(self, names: set[str]) -> dict[str, LockedConda]:
        """Where the packages come from: by their own records, else by the lock."""
        from rattler import PrefixRecord

        found: dict[str, LockedConda] = {}
        for record in readable_conda_records(self._prefix)[0]:
            if record.name in names:
                with suppress(Exception):  # py-rattler's own errors have no common base.
                    found[record.name] = LockedConda.from_record(PrefixRecord.from_path(record.path))
        lock = self._prefix / NOTES_DIR / "pixi.lock"
        if names - found.keys():
            with suppress(OSError, TrainenvError):
                locked = pixi.read(lock, lock.read_text(encoding="utf-8"))
                found |= {one.name: one for one in locked.conda if one.name in names - found.keys()}
        self._reasons |= dict.fromkeys(names - found.keys(), "nothing says where it came from")
        return found

    def _install_fresh(self, packages: Sequence[LockedConda], scratch: Path) -> None:
        """Install ``packages`` into ``scratch``, with python, as its version says where others put their files."""
        from rattler import PrefixRecord, RepoDataRecord

        present = readable_conda_records(scratch)[0]
        names = {record.name for record in present} | {package.name for package in packages}
        python = [] if "python" in names else list(self._packages({"python"}).values())
        self._reasons.pop("python", None)
        records: list[RepoDataRecord] = []
        for package in (*packages, *python):
            is_cached = self._is_soundly_cached(package)
            file = local_path(package.url)
            if is_cached and package.record and file is not None and not file.is_file():
                records.append(package.record)  # Its channel is gone, and not needed.
            else:
                locked = LockedEnvironment("its record", conda=(package,))
                found = from_lock.records(self._mending.settings, locked, self._mending.reporter)
                # As from a channel, not as from a prefix: it is to be fetched and checked.
                records += (RepoDataRecord(one, one.file_name, one.url, one.channel) for one in found)
        linking.link(
            [*(PrefixRecord.from_path(record.path) for record in present), *records],
            scratch,
            target_prefix=self._mending.staging.target_prefix,
            specs=[],
            cache_dir=self._mending.settings.cache_dir,
            reporter=self._mending.reporter,
            access=self._mending.access,
        )

    def _is_soundly_cached(self, package: LockedConda) -> bool:
        """Whether the package cache has it whole. What was edited in place is linked into the cache: that copy goes."""
        entry = cache_health.entry_of(self._mending.settings.cache_dir, _stem(package))
        if cache_health.damage(entry, full=True):
            cache_health.condemn(entry)
        return entry.is_there

    def _put_record(self, fresh: CondaRecord, scratch: Path) -> None:
        """Put back a record, and those files of its package that are not there or not PyPI's by now."""
        records = [*readable_conda_records(self._prefix)[0], fresh]
        taken = {path for found in pypi_distributions(self._prefix, records) for path, _, _ in found.record()}
        kept = [path for path in fresh.files if path not in taken]
        content = {**fresh.content, "files": kept}
        if fresh.paths:
            paths = [entry for entry in fresh.paths if entry["_path"] not in taken]
            content["paths_data"] = {**fresh.content["paths_data"], "paths": paths}
        text = without_credentials(json.dumps(content, indent=2))
        target = self._prefix / "conda-meta" / fresh.path.name
        clear(target)
        replace_file(target, text.encode())
        for item in expected_files(self._prefix, [CondaRecord(target, content)], []):
            if check(self._prefix, item) is not None:
                put(scratch / item.path, self._prefix / item.path)

    def _put_conda_file(self, item: Damage, fresh: CondaRecord, scratch: Path) -> None:
        source, target = scratch / item.path, self._prefix / item.path
        if item.what == NOT_EXECUTABLE:
            make_executable(target)
            return
        if not os.path.lexists(source):
            self._reasons[item.owner] = f"the package has no {item.path}"
            return
        put(source, target)
        for record in readable_conda_records(self._prefix)[0]:
            if record.name == item.owner:
                self._accept(item.path, record, fresh)

    def _accept(self, path: str, record: CondaRecord, fresh: CondaRecord) -> None:
        """Let the record have the hash of the fresh file, which was checked with its package."""
        expected = {item.path: item for item in expected_files(self._prefix, [record], [])}
        if path not in expected or check(self._prefix, expected[path]) is None:
            return
        relocated.forget(self._prefix, [path])
        entries = {entry["_path"]: entry for entry in fresh.paths}
        paths = [entries.get(path, entry) if entry["_path"] == path else entry for entry in record.paths]
        data = {**(record.content.get("paths_data") or {}), "paths": paths}
        replace_file(record.path, json.dumps({**record.content, "paths_data": data}, indent=2).encode())


def _stem(package: LockedConda) -> str:
    return f"{package.name}-{package.version}-{package.build}"
