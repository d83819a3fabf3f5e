"""Install damaged PyPI packages again with uv: the versions and hashes of the environment's own lock."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from trainenv.channels.pypi import run_uv
from trainenv.environments import relocated, wheels
from trainenv.environments.contents import NOT_EXECUTABLE, Damage, check, expected_files
from trainenv.environments.locked import LockedWheel, of_prefix
from trainenv.environments.lockfiles import pylock
from trainenv.environments.mending import Mending, clear, make_executable, put
from trainenv.environments.ownership import changed, settle_ownership, snapshot
from trainenv.environments.records import (
    Distribution,
    canonical_name,
    distributions,
    pypi_distributions,
    python_version,
    readable_conda_records,
    replace_file,
    site_packages,
)
from trainenv.environments.staging import remove_tree
from trainenv.errors import DiskFullError, InstallError, TrainenvError


class PypiMender:
    """Mends PyPI packages."""

    def __init__(self, mending: Mending) -> None:
        self._mending = mending
        self._prefix = mending.prefix
        self._reasons = mending.reasons

    def mend(self, damage: Sequence[Damage]) -> dict[str, dict[str, str]]:
        """Install the PyPI packages that ``damage`` names again.

        Returns the conda packages that they have replaced, by name (see ``settle_ownership``).
        """
        for item in damage:
            if item.what == NOT_EXECUTABLE:
                make_executable(self._prefix / item.path)
        names = {item.owner for item in damage if item.what != NOT_EXECUTABLE}
        sources = self._sources(names)
        if not sources:
            return {}
        whole = snapshot(self._prefix)
        if not self._reinstall(list(sources.values()), damage) and len(sources) > 1:
            for wheel in sources.values():
                self._reinstall([wheel], damage)
        after = snapshot(self._prefix)
        relocated.forget(self._prefix, changed(whole, after))
        return settle_ownership(self._prefix, self._mending.staging.target_prefix, whole, after)

    def _sources(self, names: set[str]) -> dict[str, LockedWheel]:
        """What to install for the packages ``names``, as far as that is known."""
        if not names:
            return {}
        locked = {wheel.name: wheel for wheel in pylock.read_own(self._prefix)}
        installed = {wheel.name: wheel for wheel in of_prefix(self._prefix).wheels}
        found = {name: installed.get(name) or locked.get(name) for name in names}
        for name, wheel in found.items():
            if wheel is None or not wheel.location:
                exact = f"{name}=={wheel.version}" if wheel else name
                self._reasons[name] = (
                    f"nobody knows where it came from; `trainenv pip install -n {self._mending.original.name} {exact}` "
                    "takes it from the package index"
                )
        return {name: wheel for name, wheel in found.items() if wheel is not None and wheel.location}

    def _reinstall(self, sources: Sequence[LockedWheel], damage: Sequence[Damage]) -> bool:
        """Remove and install ``sources``; returns False, with everything as it was, where that fails."""
        python = python_version(self._prefix)
        own_lock = self._prefix / pylock.OWN
        text = own_lock.read_bytes() if own_lock.is_file() else None
        names = {wheel.name for wheel in sources}
        removed = self._remove(names, [item.path for item in damage if item.owner in names and item.path])
        try:
            replace_file(own_lock, pylock.dump(sources, python or "3").encode())
            self._install(names)
        except DiskFullError:
            raise
        except TrainenvError as error:
            self._reasons |= dict.fromkeys(names, error.cause or error.message)
            for path in removed:
                with suppress(OSError):
                    put(self._mending.original / path, self._prefix / path)
            return False
        finally:
            if text is None:
                own_lock.unlink(missing_ok=True)
            else:
                replace_file(own_lock, text)
        for name in names:
            self._reasons.pop(name, None)
        return True

    def _install(self, names: Iterable[str]) -> None:
        def install() -> None:
            wheels.install(
                self._prefix,
                folder=self._prefix.parent,
                cache_dir=self._mending.settings.cache_dir,
                keep_open=(self._mending.staging.lock_descriptor,),
                reporter=self._mending.reporter,
                access=self._mending.access,
            )

        try:
            install()
            spoiled = self._spoiled(names)
        except InstallError as error:
            if "invalid" not in error.cause:
                raise
            spoiled = sorted(names)
        if spoiled:
            # What was edited in place is hard-linked into uv's cache: the cache has the damage too.
            cache_dir = self._mending.settings.cache_dir
            run_uv(["cache", "clean", *spoiled], cache_dir=cache_dir, access=self._mending.access)
            self._remove(set(spoiled), [])
            install()

    def _spoiled(self, names: Iterable[str]) -> list[str]:
        found = [one for one in pypi_distributions(self._prefix) if one.key in names]
        expected = [replace(item, canonical=None) for item in expected_files(self._prefix, [], found)]
        site = "/site-packages/"
        return sorted({item.owner for item in expected if site in item.path and check(self._prefix, item) is not None})

    def _remove(self, names: set[str], damaged: Iterable[str]) -> list[str]:
        """Remove the packages ``names`` and what stands at ``damaged``; returns what was there."""
        conda_owned = {path for record in readable_conda_records(self._prefix)[0] for path in record.files}
        paths = set(damaged)
        whole = [found for found in distributions(self._prefix) if found.key in names]
        for found in (*whole, *self._unreadable(names)):
            folder = self._prefix / found.folder
            paths |= {path for path, _, _ in found.record() if not path.startswith("..")}
            paths |= {str(file.relative_to(self._prefix)) for file in folder.rglob("*") if file.is_file()}
        removed = [path for path in paths - conda_owned if os.path.lexists(self._prefix / path)]
        for path in removed:
            clear(self._prefix / path)
        for folder in {(self._prefix / path).parent for path in removed if ".dist-info/" in path}:
            remove_tree(folder)
        return removed

    def _unreadable(self, names: set[str]) -> list[Distribution]:
        """The packages that have a ``dist-info`` folder, but no readable metadata in it."""
        return [
            Distribution(folder.name.split("-")[0], "", str(folder.relative_to(self._prefix)), self._prefix)
            for site in site_packages(self._prefix)
            for folder in (self._prefix / site).glob("*.dist-info")
            if canonical_name(folder.name.split("-")[0]) in names
        ]
