"""``trainenv shell``: the user's own shell on a terminal, with the environment on top of what start-up files do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import MakePrefix, terminal
from tests.conftest import program
from trainenv import Workspace

# Start-up files that set PATH anew, set a prompt, and show that they were read.
_STARTUP = {
    "bash": (".bashrc", "PATH=/usr/bin:/bin\nPS1='at> '\nread_file=rc\n"),
    "zsh": ("dots/.zshrc", "PATH=/usr/bin:/bin\nPS1='at> '\nread_file=rc\n"),
    "dash": (".shrc", "PATH=/usr/bin:/bin\nPS1='at> '\nread_file=rc\n"),
    "fish": (
        ".config/fish/config.fish",
        "set -gx PATH /usr/bin /bin\nfunction fish_prompt; echo -n 'at> '; end\nset -g read_file rc\n",
    ),
}


def _home(own_home: Path, shell: str) -> dict[str, str]:
    """The user's variables and start-up files; zsh's ZDOTDIR is named by .zshenv, as people have it."""
    name, content = _STARTUP[shell]
    file = own_home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    (own_home / ".zshenv").write_text('ZDOTDIR="$HOME/dots"\n')
    where = subprocess.run(["sh", "-c", f"command -v {shell}"], capture_output=True, text=True, check=True)
    variables = os.environ | {"SHELL": where.stdout.strip(), "XDG_CONFIG_HOME": str(own_home / ".config")}
    return variables | ({"ENV": str(own_home / ".shrc")} if shell == "dash" else {})


@pytest.mark.parametrize("shell", list(_STARTUP))
def test_activation_wins_over_startup_files_and_the_exit_code_is_the_shells(
    workspace: Workspace, make_prefix: MakePrefix, own_home: Path, shell: str
) -> None:
    make_prefix("chat", {"WITH": "it's\nhere"}, {"activate.d/a.sh": "", "activate.d/a.fish": ""})
    variables = _home(own_home, shell)
    with terminal(program(workspace, "shell", "-n", "chat"), variables) as tty:
        tty.expect(r"\(chat\) at> ")
        tty.say('prog; echo "<$read_file:$CONDA_SHLVL:$WITH:$ZDOTDIR:$ENV:$_TRAINENV_STARTUP>"')
        tty.expect("program of chat")
        ends = {"zsh": f"{own_home}/dots::", "dash": f":{own_home}/.shrc:"}.get(shell, "::")
        tty.expect(f"<rc:1:it's\\s+here:{ends}>")
        tty.expect(r"\(chat\) at> ")
        tty.say("trainenv deactivate")
        tty.expect(r"(?<!\) )at> ")
        tty.say("exit 7")
        assert tty.process.wait(timeout=30) == 7


def test_inside_another_environment_it_goes_on_top(
    workspace: Workspace, make_prefix: MakePrefix, own_home: Path
) -> None:
    make_prefix("outer")
    make_prefix("inner")
    variables = _home(own_home, "bash")
    command = program(workspace, "run", "-n", "outer", *program(workspace, "shell", "-n", "inner"))
    with terminal(command, variables) as tty:
        tty.expect(r"\(inner\) at> ")
        tty.say("prog; trainenv deactivate; prog; exit")
        tty.expect("program of inner")
        tty.expect("program of outer")


def test_without_a_terminal_the_shell_reads_its_commands_in_the_environment(
    workspace: Workspace, make_prefix: MakePrefix
) -> None:
    make_prefix("chat", {"WITH": "variable"}, {"activate.d/a.sh": "export FROM=script\n"})
    done = subprocess.run(
        program(workspace, "shell", "chat"),
        input='prog; echo "$WITH $FROM"; exit 5\n',
        env=os.environ | {"SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("program of chat\nvariable script\n", 5), done.stderr
