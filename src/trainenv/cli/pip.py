"""``trainenv pip``: pip's words for the PyPI packages of an environment."""

from __future__ import annotations

from pathlib import Path

import click

from trainenv.channels.target import Target
from trainenv.cli.changes import Asking, busy_options, change_options, freeze_conda_option, target_options
from trainenv.cli.create import remove
from trainenv.cli.env import list_packages
from trainenv.cli.group import Group
from trainenv.cli.output import OWN_NAME, offline_option, own_name, workspace
from trainenv.errors import UsageError

_FILE = click.Path(path_type=Path)

_ELSEWHERE = {
    "freeze": "trainenv env export -n NAME --format requirements.txt",
    "check": "trainenv env verify NAME",
    "lock": "trainenv lock -r requirements.txt --format pylock.toml",
    "download": "trainenv channel mirror NAME -o FOLDER",
    "cache": "trainenv clean",
}


class _PipGroup(Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            instead = _ELSEWHERE.get(args[0], f"trainenv run -n NAME python -m pip {args[0]}")
            raise UsageError(f"there is no `trainenv pip {args[0]}`", hint=f"Use `{instead}`")
        return super().resolve_command(ctx, args)


@click.group(cls=_PipGroup)
def pip() -> None:
    """Install, list and remove PyPI packages in pip's words; changes are transactions.

    \b
    Example:
      trainenv pip install -n my_training_env 'numpy<2' -r requirements.txt
    """


@pip.command()
@OWN_NAME
@click.option("-r", "--requirement", "files", type=_FILE, multiple=True, help="A requirements.txt.")
@click.option("-c", "--constraint", "constraints", metavar="FILE", multiple=True, help="A constraints file.")
@click.option("-e", "--editable", "editables", metavar="PATH", multiple=True, help="A project to use where it lies.")
@click.option("-i", "--index-url", "index", metavar="URL", help="The package index, instead of that of pip's settings.")
@click.option("--extra-index-url", "indexes", metavar="URL", multiple=True, help="One more package index.")
@click.option("-f", "--find-links", "links", metavar="PLACE", multiple=True, help="A folder or page of wheels.")
@click.option("--no-index", is_flag=True, help="Only --find-links, no index.")
@click.option("--pre", is_flag=True, help="Take versions before their release as well.")
@click.option("--no-binary", "built", metavar="NAMES", multiple=True, help="Build these from source, or :all:.")
@click.option("--only-binary", "ready", metavar="NAMES", multiple=True, help="Never build these, or :all:.")
@click.option("-U", "--upgrade", is_flag=True, help="Take the newest of the packages named.")
@target_options
@freeze_conda_option
@offline_option
@busy_options
@change_options
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@click.pass_context
def install(
    ctx: click.Context,
    name: str | None,
    files: tuple[Path, ...],
    constraints: tuple[str, ...],
    editables: tuple[str, ...],
    index: str | None,
    indexes: tuple[str, ...],
    links: tuple[str, ...],
    no_index: bool,
    pre: bool,
    built: tuple[str, ...],
    ready: tuple[str, ...],
    upgrade: bool,
    target: Target,
    freeze_conda: bool,
    wait: bool,
    force: bool,
    asking: Asking,
    packages: tuple[str, ...],
) -> None:
    """Install PyPI packages: names, URLs, folders; when anything fails the environment is as it was.

    \b
    Example:
      trainenv pip install -n my_training_env 'numpy<2' scikit-learn
      trainenv pip install -n my_training_env -e .
    """
    if not (packages or editables or files):
        raise UsageError("no package was named", hint="See `trainenv pip install --help`")
    options = [f"--constraint {file}" for file in constraints]
    options += [option for option, is_given in (("--no-index", no_index), ("--pre", pre)) if is_given]
    options += [f"--no-binary {names}" for names in built] + [f"--only-binary {names}" for names in ready]
    options += [f"--index-url {index}"] if index else []
    options += [f"--extra-index-url {url}" for url in indexes] + [f"--find-links {place}" for place in links]
    place = workspace(ctx, as_json=asking.as_json)
    asking.carry_out(
        lambda: place.install(
            own_name(place, name),
            files=files,
            requirements=[*options, *(f"-e {path}" for path in editables), *packages],
            upgrade=upgrade,
            target=target,
            freeze_conda=freeze_conda,
            confirm=asking.confirm,
            wait=wait,
            force=force,
        ),
        "Changed",
    )


pip.add_command(list_packages)
pip.add_command(remove, "uninstall")
