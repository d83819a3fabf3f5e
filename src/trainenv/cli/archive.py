"""``trainenv pack``, ``unpack`` and ``inspect``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainenv.archives import FORMATS, read_host
from trainenv.cli.output import (
    chosen,
    environment_options,
    json_option,
    print_json,
    print_ready,
    print_table,
    workspace,
)
from trainenv.errors import UsageError
from trainenv.sizes import human_size

if TYPE_CHECKING:
    from trainenv.archives import Editable, Filter

_FILE = click.Path(path_type=Path)
_MARKS = {"ok": "✓", "warning": "!", "error": "✗"}


class _Pack(click.Command):
    """Remembers in which order ``--exclude`` and ``--include`` were given: each acts on what those before left."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        ctx.meta[_ORDER] = [param.name for param in order if param.name in ("exclude", "include")]
        return super().parse_args(ctx, args)


_ORDER = f"{__name__}.order"


def _filters(ctx: click.Context, **patterns: tuple[str, ...]) -> list[Filter]:
    """The patterns in the order in which they were given."""
    left = {kind: list(given) for kind, given in patterns.items()}
    return [(kind, left[kind].pop(0)) for kind in ctx.meta[_ORDER]]


@click.command(cls=_Pack)
@environment_options
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="The archive to write [default: NAME.tar.zst].")
@click.option("--format", type=click.Choice(list(FORMATS)), help="Its format [default: what FILE is called].")
@click.option("--level", type=int, help="Compression: tar.zst 1 to 19 [3], tar.gz 1 to 9 [4], squashfs 1 to 22 [3].")
@click.option("--threads", type=int, help="Compressing threads [default: one a core].")
@click.option("--self-extracting", is_flag=True, help="Write a shell script that unpacks itself: NAME.sh.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out files and folders that match.")
@click.option("--include", metavar="PATTERN", multiple=True, help="Take back in what an earlier --exclude left out.")
@click.option("--strip", is_flag=True, help="Leave out compiled Python, tests and static libraries.")
@click.option(
    "--editable",
    type=click.Choice(["refuse", "include", "wheel"]),
    default="refuse",
    show_default=True,
    help="What to do with projects installed with -e: pack their folders, or install a wheel of each instead.",
)
@click.option("--dereference", is_flag=True, help="Pack what links lead to outside of the environment.")
@click.option(
    "--against",
    type=_FILE,
    metavar="FILE",
    help="Pack only what the other machine lacks: an archive that it has unpacked, or its `trainenv env manifest`.",
)
@click.option(
    "--sign",
    is_flag=False,
    flag_value="",
    metavar="[KEY]",
    help="Sign it with an SSH key [default: your own], as FILE.sig beside it.",
)
@json_option
@click.pass_context
def pack(
    ctx: click.Context,
    name: str | None,
    prefix: str | None,
    output: Path | None,
    format: str | None,
    level: int | None,
    threads: int | None,
    self_extracting: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    strip: bool,
    editable: Editable,
    dereference: bool,
    against: Path | None,
    sign: str | None,
    as_json: bool,
) -> None:
    """Pack an environment into one file that unpacks anywhere.

    The file is an ordinary tar, in zstd unless its name ends in .tar.gz or .tar. With trainenv on the other
    machine, `trainenv unpack` checks and places it; without, `tar -xf` and `source bin/conda-unpack` do.

    \b
    Example:
      trainenv pack -n my_training_env -o my_training_env.tar.zst
      trainenv pack -n my_training_env --against yesterday.tar.zst
    """
    place = workspace(ctx, as_json=as_json)
    environment = chosen(place, name, prefix)
    if sign is not None and format == "folder":
        raise UsageError("a folder can't be signed", hint="Choose a format that is one file")
    key = None if sign is None else place.signing_key(sign or None)
    archive = place.pack(
        environment,
        output,
        format=format,
        level=level,
        threads=threads,
        self_extracting=self_extracting,
        filters=_filters(ctx, exclude=exclude, include=include),
        strip=strip,
        editable=editable,
        dereference=dereference,
        against=against,
    )
    signature = None if key is None else place.sign(archive.path, key)
    if as_json:
        print_json({**archive.to_json(), "signature": None if signature is None else str(signature)})
        return
    print(f"Packed {environment.name}: {archive.files} files, {human_size(archive.bytes)}, in {archive.path}")
    if against is not None:
        print(f"It is a delta: {archive.manifest.files.absent_count} of its files are on the other machine already")
    if archive.not_packed and archive.not_packed.files:
        print(f"Left out: {archive.not_packed}")
    if signature is not None:
        print(f"Signed it with {key}: {signature} goes with it")
    file = shlex.quote(archive.path.name)
    other = f", or sh {file}" if archive.path.suffix == ".sh" else ""
    print(f"Carry it over, then there: trainenv unpack {file}{other}")


@click.command()
@click.argument("file", type=_FILE, metavar="FILE")
@click.option("-n", "--name", metavar="NAME", help="Name of the new environment [default: the archive's].")
@click.option("--prefix", metavar="PATH", help="The prefix under which another machine or container sees it.")
@click.option(
    "--from",
    "others",
    type=_FILE,
    metavar="FILE",
    multiple=True,
    help="Another archive, for what a delta builds on and no environment here has; repeatable.",
)
@click.option("--mount", is_flag=True, help="Mount a squashfs image, which is ready at once, instead of unpacking it.")
@click.option("--require-signature", is_flag=True, help="Unpack it only if somebody signed it who may.")
@click.option(
    "--allowed-signers", type=_FILE, metavar="FILE", help="Who may, as ssh-keygen has it; implies --require-signature."
)
@json_option
@click.pass_context
def unpack(
    ctx: click.Context,
    file: Path,
    name: str | None,
    prefix: str | None,
    others: tuple[Path, ...],
    mount: bool,
    require_signature: bool,
    allowed_signers: Path | None,
    as_json: bool,
) -> None:
    """Make an environment from an archive, each file checked and relocated to its place here.

    \b
    Example:
      trainenv unpack my_training_env.tar.zst -n my_training_env
    """
    place = workspace(ctx, as_json=as_json)
    environment = place.unpack(
        file,
        name,
        prefix=prefix,
        others=others,
        mount=mount,
        require_signature=require_signature or None,
        allowed_signers=allowed_signers,
    )
    print_ready(environment, "Mounted" if mount else "Unpacked", as_json=as_json)


@click.command()
@click.argument("file", metavar="FILE|URL")
@click.option("--verify", is_flag=True, help="Check every byte against its sha256.")
@click.option(
    "--against-host", type=_FILE, metavar="JSON", help="Hold it against another machine: its `trainenv doctor --json`."
)
@json_option
@click.pass_context
def inspect(ctx: click.Context, file: str, verify: bool, against_host: Path | None, as_json: bool) -> None:
    """Show what an archive holds, and what it needs of a machine beside what this one has.

    Of one that lies elsewhere only its end is fetched, without --verify.

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
    if (origins := place.origins(archive)) is not None:
        shown |= {"new_files": origins.new_files, "new_bytes": origins.new_bytes}
        shown["missing"] = [member.path for member in origins.missing]
    signature = None if archive.address else place.signature(file, verify=verify)
    if as_json:
        signed = None if signature is None else signature.to_json()
        print_json({**shown, "signature": signed, "host_checks": [check.to_json() for check in checks]})
        return
    shown["bytes"] = human_size(shown["bytes"])
    shown["unpacked_bytes"] = human_size(shown["unpacked_bytes"])
    if origins is not None:
        shown["new_files"] = f"{origins.new_files} that no environment here has"
        shown["new_bytes"] = human_size(origins.new_bytes)
    rows = list(shown.items())
    if archive.manifest.against is not None:
        rows.append(("delta against", ", ".join(archive.manifest.against.names)))
        rows.append(("missing here", f"{len(shown['missing'])} files that it builds on"))
    if signature is not None:
        by = signature.signer or (f"{signature.key}, who is not known" if signature.key else "somebody not known")
        rows.append(("signed by", by if signature.checked else f"{by}: --verify checks it"))
    if verify and "verified" not in shown:
        rows.append(("verified", "every file holds its sha256"))
    print_table(["Archive", shown["path"]], [row for row in rows if not isinstance(row[1], list | dict)])
    print()
    print_table(
        ["", "Needs", "Asked for by", host.name if host else "This machine"],
        [(_MARKS[check.state], f"{check.name} {check.needs}", check.needed_by, check.has) for check in checks],
    )
