"""The ``run`` command as the command tree shows it; ``trainenv.cli.run`` does the work."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from trainenv.cli import run as fast
from trainenv.cli.completion import RUN


class _Run(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        return fast.HELP.rstrip()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        return RUN.shell_complete(ctx, self.params[0], incomplete)


@click.command(
    cls=_Run,
    short_help="Run a command in an environment.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=RUN)
@click.pass_context
def run(ctx: click.Context, arguments: tuple[str, ...]) -> int:
    workspace = ctx.find_root().obj
    own = ["--workspace", workspace] if workspace else []
    return fast.run([*own, *arguments])
