"""``trainenv env manifest``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trainenv.cli.completion import ENVIRONMENT
from trainenv.cli.output import chosen, json_option, print_json, workspace
from trainenv.errors import UsageError
from trainenv.sizes import human_size


@click.command()
@click.option("-n", "--name", "names", metavar="NAME", type=ENVIRONMENT, multiple=True, help="This one; repeatable.")
@click.option("-p", "--prefix", "prefixes", metavar="PREFIX", multiple=True, help="The one in this folder; repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="The file [default: the output].")
@json_option
@click.pass_context
def manifest(
    ctx: click.Context, names: tuple[str, ...], prefixes: tuple[str, ...], output: Path | None, as_json: bool
) -> None:
    """Say in a small file what this machine has, so that another one packs only what is new here.

    All environments are meant where none is named. --json lists every file instead.

    \b
    Example:
      trainenv env manifest -o machine_b.manifest
      trainenv pack -n my_training_env --against machine_b.manifest     (on the other machine)
    """
    if output is None and not as_json and sys.stdout.isatty():
        raise UsageError(
            "a manifest is nothing to read", hint="Name a file with -o FILE, or list the files with --json"
        )
    from trainenv.archives import machine

    place = workspace(ctx, as_json=as_json)
    named = [chosen(place, name, None) for name in names] + [chosen(place, None, prefix) for prefix in prefixes]
    listed = place.manifests(named)
    if as_json:
        print_json([machine.to_json(each) for each in listed])
        return
    content = machine.to_bytes(listed)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{output} can't be written", cause=error.strerror or str(error)) from None
    files = sum(each.files.absent_count for each in listed)
    environments = "1 environment" if len(listed) == 1 else f"{len(listed)} environments"
    print(f"Listed {environments}, {files} files, in {output} ({human_size(len(content))})")
