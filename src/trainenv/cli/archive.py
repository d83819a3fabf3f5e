"""``trainenv pack``, ``unpack`` and ``inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.archives import read_host
from trainenv.cli.output import (
    chosen,
    environment_options,
    human_size,
    json_option,
    print_json,
    print_table,
    workspace,
)

_FILE = click.Path(path_type=Path)
_MARKS = {"ok": "✓", "warning": "!", "error": "✗"}


@click.command()
@environment_options
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="The archive to write [default: NAME.tar.zst].")
@click.option("--level", type=click.IntRange(1, 19), default=3, show_default=True, help="Level of compression.")
@click.option("--threads", type=click.IntRange(1), help="Compressing threads [default: one a core].")
@json_option
@click.pass_context
def pack(
    ctx: click.Context,
    name: str | None,
    prefix: str | None,
    output: Path | None,
    level: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Pack an environment into one file that unpacks anywhere.

    The file is an ordinary tar in zstd. With trainenv on the other machine, `trainenv unpack` checks
    and places it; without, `tar --zstd -xf` and `source bin/conda-unpack` do.

    \b
    Example:
      trainenv pack -n my_training_env -o my_training_env.tar.zst
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix)
    archive = place.pack(environment, output or Path(f"{environment.name}.tar.zst"), level=level, threads=threads)
    if as_json:
        print_json(archive.to_json())
        return
    print(f"Packed {environment.name}: {archive.files} files, {human_size(archive.bytes)}, in {archive.path}")
    print(f"Carry it over, then there: trainenv unpack {archive.path.name}")


@click.command()
@click.argument("file", type=_FILE, metavar="FILE")
@click.option("-n", "--name", metavar="NAME", help="Name of the new environment [default: the archive's].")
@click.option("--prefix", metavar="PATH", help="The prefix under which another machine or container sees it.")
@json_option
@click.pass_context
def unpack(ctx: click.Context, file: Path, name: str | None, prefix: str | None, as_json: bool) -> None:
    """Make an environment from an archive, each file checked and relocated to its place here.

    \b
    Example:
      trainenv unpack my_training_env.tar.zst -n my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = place.unpack(file, name, prefix=prefix)
    if as_json:
        print_json(environment.to_json())
        return
    print(f"Unpacked {environment.name} in {environment.prefix}")
    print(f"Use it: trainenv run -n {environment.name} python")


@click.command()
@click.argument("file", type=_FILE, metavar="FILE")
@click.option("--verify", is_flag=True, help="Check every byte against its sha256.")
@click.option(
    "--against-host", type=_FILE, metavar="JSON", help="Hold it against another machine: its `trainenv doctor --json`."
)
@json_option
@click.pass_context
def inspect(ctx: click.Context, file: Path, verify: bool, against_host: Path | None, as_json: bool) -> None:
    """Show what an archive holds, and what it needs of a machine beside what this one has.

    \b
    Example:
      trainenv inspect my_training_env.tar.zst --verify
      trainenv inspect my_training_env.tar.zst --against-host machine_b.json
    """
    place = workspace(ctx, as_json=as_json)
    host = None if against_host is None else read_host(against_host)
    archive = place.inspect(file, verify=verify)
    checks = place.host_checks(archive, host)
    shown = archive.to_json()
    if as_json:
        print_json({**shown, "host_checks": [check.to_json() for check in checks]})
        return
    shown["bytes"] = human_size(shown["bytes"])
    shown["unpacked_bytes"] = human_size(shown["unpacked_bytes"])
    rows = list(shown.items())
    if verify:
        rows.append(("verified", "every file holds its sha256"))
    print_table(["Archive", str(file)], [row for row in rows if not isinstance(row[1], list | dict)])
    print()
    print_table(
        ["", "Needs", "Asked for by", host.name if host else "This machine"],
        [(_MARKS[check.state], f"{check.name} {check.needs}", check.needed_by, check.has) for check in checks],
    )
