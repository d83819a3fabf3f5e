"""The command tree. A command's module is imported when the command is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from trainenv.cli.group import Group
from trainenv.errors import TrainenvError, UsageError

COMMANDS = {
    "create": "create:create",
    "install": "create:install",
    "remove": "create:remove",
    "update": "create:update",
    "lock": "lock:lock",
    "pip": "pip:pip",
    "list": "env:list_packages",
    "env": "env:env",
    "run": "forms:run",
    "activate": "shell:activate",
    "deactivate": "shell:deactivate",
    "shell": "shell:shell",
    "init": "init:init",
    "pack": "archive:pack",
    "unpack": "archive:unpack",
    "inspect": "archive:inspect",
    "push": "shipping:push",
    "pull": "shipping:pull",
    "receive": "shipping:receive",
    "method": "method:method",
    "train": "train:train",
    "task": "task:task",
    "channel": "channel:channel",
    "clean": "clean:clean",
    "doctor": "doctor:doctor",
    "demo": "demo:demo",
}


_ELSEWHERE = {
    "clone": "`trainenv env clone NAME -n NEW`",
    "compare": "`trainenv env diff NAME FILE`",
    "config": "the file trainenv.toml; `trainenv doctor` shows what is in force",
    "export": "`trainenv env export -n NAME`",
    "help": "`trainenv --help`",
    "info": "`trainenv doctor`",
    "rename": "`trainenv env rename OLD NEW`",
    "uninstall": "`trainenv remove -n NAME PACKAGE`",
    "upgrade": "`trainenv update -n NAME PACKAGE`",
    "verify": "`trainenv env verify NAME`",
    "version": "`trainenv --version`",
}


_OTHER_OPTIONS: dict[tuple[object, object], str] = {
    ("list", "-e"): "`trainenv env export --format requirements.txt`",
    ("list", "--export"): "`trainenv env export`",
    ("list", "--explicit"): "`trainenv env export --format explicit`",
    **{
        (command, option): "-n NAME; envs_dir in trainenv.toml says where environments lie"
        for command in ("create", "install", "remove", "update")
        for option in ("-p", "--prefix")
    },
}
"""What to use for an option that conda has there and trainenv has not."""


class LazyGroup(Group):
    """A group whose commands are named as ``module:attribute`` under ``trainenv.cli``."""

    def __init__(self, *, lazy: Mapping[str, str], **rest: Any) -> None:
        super().__init__(**rest)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command = getattr(importlib.import_module(f"trainenv.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    elsewhere=_ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--workspace", metavar="DIR", help="The workspace to use (else $TRAINENV_HOME, or the nearest upward).")
@click.version_option(package_name="trainenv")
@click.pass_context
def app(ctx: click.Context, workspace: str | None) -> None:
    """Build, move and run the Python environments of model-training code.

    \b
    Example:
      trainenv create -n my_training_env python=3.11 -r requirements.txt
      trainenv pack -n my_training_env -o my_training_env.tar.zst
      trainenv unpack my_training_env.tar.zst
      trainenv train my_method --set epochs=3
    """
    ctx.obj = workspace


def dispatch(arguments: list[str]) -> int:
    """Run the command line ``arguments``; returns the exit code. Raises ``TrainenvError``."""
    try:
        result = app.main(args=arguments, prog_name="trainenv", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error.format_message())
        return 0
    except click.Abort as abort:
        raise KeyboardInterrupt(*getattr(abort.__cause__, "args", ())) from None
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "trainenv"
        asked = (error.ctx.info_name if error.ctx else None, getattr(error, "option_name", None))
        instead = _OTHER_OPTIONS.get(asked)
        hint = f"Use {instead}" if instead else f"See `{where} --help`"
        raise UsageError(error.format_message().rstrip("."), hint=hint) from None
    except click.ClickException as error:
        raise TrainenvError(error.format_message()) from None
    return result if isinstance(result, int) else 0
