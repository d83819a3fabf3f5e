"""``trainenv clean``."""

from __future__ import annotations

import sys

import click

from trainenv.cli.output import json_option, print_json, print_table, workspace, yes_option
from trainenv.sizes import human_size


@click.command()
@click.option(
    "-a", "--all", "everything", is_flag=True, help="Also what `env rollback` returns to, and channel indexes."
)
@click.option("-d", "--dry-run", is_flag=True, help="Only show what would go.")
@yes_option
@json_option
@click.pass_context
def clean(ctx: click.Context, everything: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove what no environment uses: packages, staging, generations, host packages.

    \b
    Example:
      trainenv clean --dry-run
    """
    from trainenv.environments.cleaning import total

    place = workspace(ctx, as_json=as_json)
    asks = not yes and not dry_run and not as_json and sys.stdin.isatty()
    found = place.clean(everything=everything, dry_run=dry_run or asks)
    if as_json:
        items = [item.to_json() for item in found]
        print_json({"dry_run": dry_run, "freed": total(found).own, "items": items})
        return
    if not found:
        print("There is nothing to remove")
        return
    kinds = dict.fromkeys(item.kind for item in found)
    rows = []
    for kind in kinds:
        alike = [item for item in found if item.kind == kind]
        size = total(alike)
        rows.append((kind, len(alike), human_size(size.apparent), human_size(size.own)))
    print_table(["Kind", "Items", "Size", "Frees"], rows, right=["Items", "Size", "Frees"])
    if asks:
        click.confirm("Remove this?", abort=True)
        found = place.clean(everything=everything)
    print(f"{'Would free' if dry_run else 'Freed'} {human_size(total(found).own)}")
