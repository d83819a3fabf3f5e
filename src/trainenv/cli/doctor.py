"""``trainenv doctor``."""

from __future__ import annotations

import click

from trainenv.cli.output import json_option, print_json, workspace
from trainenv.doctor import examine

_MARKS = {"ok": "✓", "warning": "!", "error": "✗"}


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Look at this machine: interpreters, channels, pip's settings, disk, programs.

    Exits with 1 when something will not work. With --json its output is one object: the findings,
    and the machine as `trainenv inspect FILE --against-host` takes it elsewhere.

    \b
    Example:
      trainenv doctor
      trainenv doctor --json > machine_b.json
    """
    place = workspace(ctx, as_json=as_json)
    findings = []
    for finding in examine(place.settings):
        findings.append(finding)
        if not as_json:
            print(f"{_MARKS[finding.state]} {finding.name}: {finding.text}", flush=True)
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings], "host": place.host().to_json()})
    return 1 if any(finding.state == "error" for finding in findings) else 0
