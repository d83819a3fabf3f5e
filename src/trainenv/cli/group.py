"""A group of commands that says what each is for in a whole sentence, and what a mistyped one may mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from trainenv.errors import UsageError


class Group(click.Group):
    """What ``@click.group(cls=Group)`` makes.

    ``elsewhere`` says what to use for a command that conda or pip has in this place and trainenv in another.
    """

    def __init__(self, *arguments: Any, elsewhere: Mapping[str, str] | None = None, **rest: Any) -> None:
        super().__init__(*arguments, **rest)
        self._elsewhere = elsewhere or {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """click cuts the sentences to the width of the line; here they go on in the next one."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(limit=1000)) for name, each in commands if each and not each.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            if instead := self._elsewhere.get(args[0]):
                raise UsageError(f"there is no command `{ctx.command_path} {args[0]}`", hint=f"Use {instead}")
            import difflib

            near = difflib.get_close_matches(args[0], names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"See `{ctx.command_path} --help`"
            raise UsageError(f"there is no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)
