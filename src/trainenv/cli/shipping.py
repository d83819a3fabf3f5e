"""``trainenv pull``."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.cli.output import json_option, print_json, workspace

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("address", metavar="URL")
@click.option("-n", "--name", metavar="NAME", help="Name of the new environment [default: the archive's].")
@click.option("--prefix", metavar="PATH", help="The prefix under which another machine or container sees it.")
@click.option("--require-signature", is_flag=True, help="Take it only if somebody signed it who may.")
@click.option(
    "--allowed-signers", type=_FILE, metavar="FILE", help="Who may, as ssh-keygen has it; implies --require-signature."
)
@json_option
@click.pass_context
def pull(
    ctx: click.Context,
    address: str,
    name: str | None,
    prefix: str | None,
    require_signature: bool,
    allowed_signers: Path | None,
    as_json: bool,
) -> None:
    """Make an environment from an archive that lies on another machine.

    URL is one of http, https, ssh or whatever fsspec knows (s3, gs ...), or HOST:PATH as scp has it. Only what is
    needed of the archive is fetched. When the connection is lost, the same command goes on where that happened.

    \b
    Example:
      trainenv pull https://files.example.org/my_training_env.tar.zst
      trainenv pull gpu7:archives/my_training_env.tar.zst -n my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = place.pull(
        address, name, prefix=prefix, require_signature=require_signature or None, allowed_signers=allowed_signers
    )
    if as_json:
        print_json(environment.to_json())
        return
    print(f"Unpacked {environment.name} in {environment.prefix}")
    print(f"Use it: trainenv run -n {environment.name} python")
