"""What a shell offers when the user presses Tab: names of environments, methods, programs, commands.

The shell's part is in ``trainenv/environments/shell/completion.*``. It hands over the words up to the
cursor in ``_TRAINENV_COMPLETE``, joined by the character 1F, and reads lines of kind (``plain``,
``dir``, ``file``), value and help, with tabs between.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string
from click.types import StringParamType

from trainenv import settings
from trainenv.errors import TrainenvError

VARIABLE = "_TRAINENV_COMPLETE"
RUN_OPTIONS = ("-n", "--name", "-p", "--prefix", "--cwd", "--workspace", "--help")
_SEPARATOR = "\x1f"
_MOST_TASKS = 50


class _Completion(ShellComplete):
    """click's completion, spoken as the module's docstring says."""

    name = "trainenv"

    def get_completion_args(self) -> tuple[list[str], str]:
        raw = os.environ[VARIABLE].split(_SEPARATOR)
        *words, incomplete = [" ".join(split_arg_string(word)) for word in raw]
        return words, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        return "\t".join((item.type, str(item.value), " ".join((item.help or "").split())))


def complete() -> int:
    """Print what may stand at the cursor; an unreadable workspace offers nothing."""
    from trainenv.cli.app import app

    try:
        print(_Completion(app, {}, "trainenv", VARIABLE).complete())
    except TrainenvError:
        return 1
    return 0


class _Environment(StringParamType):
    name = "environment"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return environments(ctx, incomplete)


class _Method(StringParamType):
    name = "method"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return _folders(_settings(ctx).methods_dir, ("method.yaml", "MLproject"), incomplete)


class _Task(StringParamType):
    """The ids of tasks, the newest first."""

    name = "task"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return _folders(_settings(ctx).tasks_dir, ("task.json",), incomplete)[: -_MOST_TASKS - 1 : -1]


class _Folder(StringParamType):
    name = "folder"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return [CompletionItem(incomplete, type="dir")]


class _Run(StringParamType):
    """What follows ``run``: its own options, the environment's name, then a program of the environment."""

    name = "argument"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        words = list(ctx.params.get(param.name or "") or ())
        options: dict[str, str] = {}
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if not words:
                if option in ("-n", "--name"):
                    return environments(ctx, incomplete)
                return [CompletionItem(incomplete, type="dir")]
            options[option] = words.pop(0)
        if not words and incomplete.startswith("-"):
            return [CompletionItem(option) for option in RUN_OPTIONS if option.startswith(incomplete)]
        name = options.get("-n") or options.get("--name")
        if words or "/" in incomplete or name is None:
            return [CompletionItem(incomplete, type="file")]
        return _programs(_settings(ctx).envs_dir / name / "bin", incomplete)


ENVIRONMENT = _Environment()
METHOD = _Method()
TASK = _Task()
RUN = _Run()
FOLDER = _Folder()


def environments(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """The environments of the workspace that the command line means."""
    return _folders(_settings(ctx).envs_dir, ("conda-meta",), incomplete)


def _settings(ctx: click.Context) -> settings.Settings:
    return settings.load(ctx.find_root().params.get("workspace"))


def _folders(place: Path, holding: tuple[str, ...], incomplete: str) -> list[CompletionItem[str]]:
    """The folders in ``place`` that hold one of these files."""
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return []
    begun = [name for name in names if name.startswith(incomplete)]
    return [CompletionItem(name) for name in begun if any((place / name / file).exists() for file in holding)]


def _programs(place: Path, incomplete: str) -> list[CompletionItem[str]]:
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and os.access(place / name, os.X_OK)]
