"""``trainenv demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainenv.cli.output import print_table
from trainenv.sizes import human_size

if TYPE_CHECKING:
    from trainenv.terminal import TerminalReporter


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Work there [default: a new one]."
)
def demo(folder: Path | None) -> None:
    """Watch the whole journey: build, train, pack, move, prove, train again.

    Uses the host channel (this machine's own interpreters) and real data that scikit-learn ships.
    The folder is kept. Exits with 1 when anything is not as it says.

    \b
    Example:
      trainenv demo
    """
    from trainenv.demo import travel
    from trainenv.terminal import TerminalReporter, human_time

    reporter = TerminalReporter()
    audience = _Terminal(reporter)
    begun = time.monotonic()
    journey = travel(folder, reporter, audience)
    audience.say("What came of it")
    print_table(
        ["Environment", "Python", "Packages", "Size", "Seconds"],
        [
            (item["name"], item["python"], item["packages"], human_size(int(str(item["size"]))), f"{seconds:.1f}")
            for item, seconds in journey.environments
        ],
        right=["Packages", "Size", "Seconds"],
    )
    print(f"\nChart of the metrics:  {journey.chart}")
    print(f"Everything is kept in: {journey.folder}")
    print(f"Done in {human_time(time.monotonic() - begun)}.")


class _Terminal:
    """Shows an ``Audience`` of the demo between the steps."""

    def __init__(self, reporter: TerminalReporter) -> None:
        self._reporter = reporter

    def say(self, headline: str) -> None:
        self._reporter.print(("\n" + headline, "bold"))

    def log(self, line: str) -> None:
        self._reporter.print(("  │ ", "dim"), (line, ""))

    def prove(self, fact: str) -> None:
        self._reporter.print(("=", "bold green"), (f" {fact}", ""))
