"""``trainenv demo``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from trainenv.cli.output import human_size, print_table


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
    from rich.markup import escape

    from trainenv.demo import travel
    from trainenv.progress import RichReporter

    reporter = RichReporter()
    console = reporter.console
    begun = time.monotonic()

    def say(text: str) -> None:
        console.print(f"\n[bold]{escape(text)}[/bold]")

    def log(text: str) -> None:
        console.print(f"  [dim]│[/dim] {escape(text.rstrip())}", soft_wrap=True)

    journey = travel(folder, reporter, say, log)
    say("What came of it")
    print_table(
        ["Environment", "Python", "Packages", "Size", "Seconds"],
        [
            (item["name"], item["python"], item["packages"], human_size(int(str(item["size"]))), f"{seconds:.1f}")
            for item, seconds in journey.environments
        ],
        right=["Packages", "Size", "Seconds"],
    )
    print(f"\nChart of the metrics: {journey.chart}")
    print(f"Everything is kept in {journey.folder}")
    print(f"Done in {time.monotonic() - begun:.0f} s")
