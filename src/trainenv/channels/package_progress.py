"""How far py-rattler has come with an installation, by the events that it reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from trainenv.progress import Step


class InstallProgress:
    """Passes py-rattler's events on as one step in bytes; they come from other threads.

    ``look_at`` is called with the name of each package before it is linked. ``sizes`` are those of the
    package files to be linked, by name. A file that is fetched counts twice, when it comes and when it is
    linked.
    """

    def __init__(self, step: Step, look_at: Callable[[str], None], sizes: Mapping[str, int]) -> None:
        self._step = step
        self._look_at = look_at
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._counting = threading.Lock()
        self._fetched: dict[int, str] = {}
        self._came: dict[int, int] = {}
        self._linking: dict[int, str] = {}
        self.downloaded = 0
        self.fetched = 0
        self.linked = 0
        step.expect(self._total)

    @property
    def being_fetched(self) -> list[str]:
        return list(self._fetched.values())

    @property
    def downloads(self) -> int:
        """How many packages are on their way."""
        return len(self._fetched)

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self._fetched[operation] = package_name
        return operation

    def on_download_start(self, cache_entry: int) -> int:
        name = self._fetched[cache_entry]
        with self._counting:
            if cache_entry not in self._came:  # What broke off begins once more.
                self._came[cache_entry] = 0
                self.fetched += 1
                self._total += self._sizes.get(name, 0)
                self._step.expect(self._total)
        self._name_work()
        return cache_entry

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        with self._counting:
            more = max(0, progress - self._came[download_idx])
            self._came[download_idx] += more
            self.downloaded += more
        self._step.advance(more)

    def on_populate_cache_complete(self, cache_entry: int) -> None:
        self._fetched.pop(cache_entry, None)
        self._name_work()

    def on_link_start(self, operation: int, package_name: str) -> int:
        self._look_at(package_name)
        self._linking[operation] = package_name
        self._name_work()
        return operation

    def on_link_complete(self, index: int) -> None:
        name = self._linking.pop(index)
        with self._counting:
            self.linked += 1
        self._step.advance(self._sizes.get(name, 0))
        self._name_work()

    def _name_work(self) -> None:
        """Say what is waited for: downloads before links, of several the one that began first."""
        fetched = [name for entry, name in tuple(self._fetched.items()) if entry in self._came]
        for what, names in (("download", fetched), ("link", [*self._linking.values()])):
            if names:
                self._step.detail(f"{what} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
                return
