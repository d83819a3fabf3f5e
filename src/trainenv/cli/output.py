"""How results look: tables for people, JSON for programs; options that several commands share."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trainenv.api import Workspace
from trainenv.cli import table
from trainenv.cli.completion import ENVIRONMENT, FOLDER
from trainenv.environments.records import replace_file
from trainenv.errors import UsageError

if TYPE_CHECKING:
    from trainenv.environments.environment import Environment

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
offline_option = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, option, given: os.environ.update(TRAINENV_OFFLINE="1") if given else None,
    help="Send nothing: use only what the caches have.",
)
_QUIET = "trainenv.quiet"
quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, option, given: ctx.meta.update({_QUIET: True}) if given else None,
    help="Show no progress.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask; without a terminal trainenv never does.")


def environment_options(command: F) -> F:
    """``-n NAME`` or ``-p PREFIX``, as conda has them."""
    command = click.option(
        "-p", "--prefix", metavar="PREFIX", type=FOLDER, help="Folder of the environment, instead of a name."
    )(command)
    return click.option("-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment.")(command)


def workspace(ctx: click.Context, *, as_json: bool = False) -> Workspace:
    """The workspace that the command line means; with ``as_json`` its progress is JSON lines, with ``-q`` none."""
    from trainenv.progress import JsonLinesReporter, NoticesOnly
    from trainenv.terminal import TerminalReporter

    reporter = JsonLinesReporter() if as_json else NoticesOnly() if ctx.meta.get(_QUIET) else TerminalReporter()
    return Workspace(ctx.find_root().obj, reporter=reporter)


def chosen(
    place: Workspace,
    name: str | None,
    prefix: str | None,
    argument: str | None = None,
    *,
    or_active: bool = False,
    to_use: bool = True,
) -> Environment:
    """The environment that ``-n``, ``-p`` or, where a command takes one, its ``argument`` names.

    With ``or_active``, where nothing is named, the one that is active in the shell, as conda has it.
    """
    active = os.environ.get("CONDA_PREFIX")
    if or_active and active and name is None and prefix is None and argument is None:
        return place.environment_at(active)
    if sum(given is not None for given in (name, prefix, argument)) != 1:
        raise UsageError("name one environment, with -n NAME or -p PREFIX", hint="See `trainenv env list`")
    name = name or argument
    if prefix is not None:
        return place.environment_at(prefix)
    assert name is not None
    return place.environment(name, to_use=to_use)


def write_file(file: Path, text: str) -> None:
    """All of it or nothing, except into what is no file, such as a pipe. Raises ``UsageError``."""
    try:
        if file.exists() and not file.is_file():
            file.write_text(text, encoding="utf-8")
        else:
            file.parent.stat()
            replace_file(file, text.encode())
    except OSError as error:
        raise UsageError(f"{file} can't be written", cause=error.strerror or str(error)) from None


OWN_NAME = click.option(
    "-n", "--name", metavar="NAME", type=ENVIRONMENT, help="Name of the environment [default: the active one]."
)


def own_name(place: Workspace, name: str | None) -> str:
    """The environment to be changed: ``name``, else the active one of this workspace, as conda has it."""
    if name is not None:
        return name
    active = os.environ.get("CONDA_PREFIX")
    if active and os.path.realpath(os.path.dirname(active)) == os.path.realpath(place.settings.envs_dir):
        return os.path.basename(active)
    raise UsageError(
        "name the environment, with -n NAME",
        cause=f"the active one, {active}, is not of this workspace" if active else "none is active in this shell",
        hint="See `trainenv env list`",
    )


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on standard output; columns named in ``right`` are aligned to the right."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    found = table.lines(columns, rows, right=right, width=width)
    if terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        found[0] = f"\x1b[1m{found[0]}\x1b[0m"
    print("\n".join(found))


def print_ready(environment: Environment, done: str, *, as_json: bool) -> None:
    """An environment that came out of an archive, and how to use it; ``done`` says how it came."""
    if as_json:
        print_json(environment.to_json())
        return
    print(f"{done} {environment.name} in {environment.prefix}")
    print(f"Use it: trainenv run -n {environment.name} python")


def duration(started: str | None, finished: str | None) -> str:
    """How long something took, or takes until now, as ``1h 02m`` or ``3.4s``; times are ISO 8601 in UTC."""
    if started is None:
        return ""
    end = datetime.datetime.now(tz=datetime.timezone.utc) if finished is None else _moment(finished)
    seconds = max(0.0, (end - _moment(started)).total_seconds())
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, hours, days = int(seconds // 60) % 60, int(seconds // 3600) % 24, int(seconds // 86400)
    if days:
        return f"{days}d {hours:02d}h"
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {int(seconds) % 60:02d}s"


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
