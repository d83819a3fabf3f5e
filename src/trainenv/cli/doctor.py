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

    Exits with 1 when something will not work.

    \b
    Example:
      trainenv doctor
    """
    findings = []
    for finding in examine(workspace(ctx, as_json=as_json).settings):
        findings.append(finding)
        if not as_json:
            print(f"{_MARKS[finding.state]} {finding.name}: {finding.text}", flush=True)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    return 1 if any(finding.state == "error" for finding in findings) else 0
