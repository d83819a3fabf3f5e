"""``trainenv push`` and ``pull``, and ``receive``, which the other side of ``push`` runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainenv.cli.output import chosen, environment_options, json_option, print_json, print_ready, workspace
from trainenv.errors import VerificationError
from trainenv.sizes import human_size

if TYPE_CHECKING:
    from trainenv.archives import Editable

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
    print_ready(environment, "Unpacked", as_json=as_json)


@click.command()
@click.argument("address", metavar="URL")
@environment_options
@click.option("--as", "new_name", metavar="NAME", help="Its name there [default: the same].")
@click.option("--replace", is_flag=True, help="Put it in the place of the one of that name there.")
@click.option(
    "--visible-as", metavar="PATH", help="The prefix under which yet another machine or container sees it there."
)
@click.option("--trainenv", metavar="PATH|none", help="trainenv's program there, or none [default: looked for].")
@click.option(
    "--editable",
    type=click.Choice(["refuse", "include", "wheel"]),
    default="refuse",
    show_default=True,
    help="What to do with projects installed with -e, as `pack` has it.",
)
@click.option("--level", type=int, help="Level of compression [default: 3].")
@json_option
@click.pass_context
def push(
    ctx: click.Context,
    address: str,
    name: str | None,
    prefix: str | None,
    new_name: str | None,
    replace: bool,
    visible_as: str | None,
    trainenv: str | None,
    editable: Editable,
    level: int | None,
    as_json: bool,
) -> None:
    """Bring an environment to another machine, or its archive to a place that keeps them.

    URL is ssh://[USER@]HOST[:PORT][/PATH] or HOST:[PATH]. PATH is a workspace there or any folder for environments, by
    default your own workspace there. With trainenv there only what that machine lacks is sent; without, its shell and
    tar unpack the archive. When the connection is lost, the same command goes on where that happened.

    With any other URL the archive itself is put there.

    \b
    Example:
      trainenv push -n my_training_env ssh://gpu7
      trainenv push -n my_training_env ada@gpu7:/srv/envs
      trainenv push -n my_training_env s3://bucket/my_training_env.tar.zst
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix)
    pushed = place.push(
        environment,
        address,
        name=new_name,
        replace=replace,
        prefix=visible_as,
        trainenv=trainenv,
        editable=editable,
        level=level,
    )
    if as_json:
        print_json(pushed.to_json())
    elif pushed.is_archive:
        print(f"The archive of {pushed.name}, {human_size(pushed.sent)}, is at {pushed.place}")
        print(f"Fetch it from there: {pushed.next_command}")
    else:
        print(f"{pushed.name} is in {pushed.place} on {pushed.on}; {human_size(pushed.sent)} were sent")
        print(f"Use it there: {pushed.next_command}")
    if pushed.problems:
        raise VerificationError(
            f"{pushed.name} is on {pushed.on}, and not all that its records say holds there",
            cause=pushed.problems[0],
            hint="`trainenv env verify` there shows all",
        )


@click.command(hidden=True)
def receive() -> int:
    """What `push` starts on the other side; it speaks with that, not with people.

    \b
    Example:
      trainenv push -n my_training_env ssh://gpu7     (which starts it on gpu7)
    """
    from trainenv.archives.shipping import receiving

    return receiving.receive()
