"""How far uv has come with an installation, by the lines it writes: it tells no bytes while it fetches."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from trainenv.environments.records import canonical_name
from trainenv.progress import Step, carried

_LINE = re.compile(
    r"(DEBUG Identified uncached distribution:|Downloading|Downloaded|Building|Built|Prepared|\+) (\S+)"
    r"(?: \(([^)]+)\))?"
)


class WheelProgress:
    """Moves a step in bytes forward by uv's lines, through ``hear``.

    ``sizes`` are the bytes of the files to be installed, by canonical name; those of ``remote`` are not on this
    machine. As with conda's, a file that is fetched counts when it has come, and every one when it is in place.
    """

    def __init__(self, step: Step, sizes: Mapping[str, int], remote: Collection[str]) -> None:
        self._step = step
        self._sizes = sizes
        self._remote = remote
        self._total = sum(sizes.values())
        self._awaited: set[str] = set()
        self._fetched = self._downloaded = 0
        self._installed: set[str] = set()
        step.expect(self._total)

    def hear(self, line: str) -> None:
        """Take one line of uv's standard error."""
        match = _LINE.match(line)
        if match is None:
            return
        what, word, size = match.groups()
        name = canonical_name(re.split(r"==|@", word)[0])
        if what.startswith("DEBUG"):
            self._awaited.add(name)
            self._total += self._sizes.get(name, 0)
            self._step.expect(self._total)
        elif what in ("Downloading", "Building"):
            self._step.detail(f"{what.lower().replace('ing', '')} {name} {size or ''}".strip())
        elif what in ("Downloaded", "Built"):
            self._came(name)
        elif what == "Prepared":
            for each in sorted(self._awaited):
                self._came(each)
            self._step.detail("link")
        else:
            self._installed.add(name)
            self._step.advance(self._sizes.get(name, 0))

    def hear_linked(self, line: str) -> None:
        """Take one line of a uv that fetches nothing: what it calls uncached it finds in its cache after all."""
        if not line.startswith("DEBUG"):
            self.hear(line)

    def finish(self) -> None:
        """Say what came of it."""
        self._step.conclude(
            carried(len(self._installed), self._fetched, self._downloaded),
            packages=len(self._installed),
            fetched=self._fetched,
            downloaded=self._downloaded,
        )

    def _came(self, name: str) -> None:
        if name in self._awaited:
            self._awaited.remove(name)
            if name in self._remote:
                self._fetched += 1
                self._downloaded += self._sizes.get(name, 0)
            self._step.advance(self._sizes.get(name, 0))
