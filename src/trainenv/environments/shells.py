"""What to say to a shell so that it takes an activation step: bash, zsh and sh, fish, PowerShell."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from trainenv.environments.activation import scripts
from trainenv.environments.stacking import Step
from trainenv.errors import UsageError

# The files for shells that come with trainenv: the `trainenv` function, completion, start-up.
FOLDER = Path(__file__).parent / "shell"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ANCESTORS = 8


class Dialect(Protocol):
    """How a family of shells writes things. ``extension`` is that of its scripts in ``activate.d``."""

    extension: str

    def quoted(self, text: str) -> str:
        """``text`` as one word that stands for itself."""

    def code(self, step: Step) -> list[str]:
        """The lines that take ``step``."""

    def wrapper(self, command: Sequence[str]) -> list[str]:
        """The lines that define the shell function ``trainenv``; ``command`` starts trainenv."""


class Posix(Dialect):
    """bash, zsh, dash, busybox and other descendants of the Bourne shell, also under ``set -eu``."""

    extension = ".sh"

    def quoted(self, text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    def code(self, step: Step) -> list[str]:
        lines = [f". {self.quoted(str(script))}" for script in scripts(step.left, "deactivate.d", self.extension)]
        for name, value in _nameable(step):
            lines.append(f"unset {name}" if value is None else f"export {name}={self.quoted(value)}")
        lines += self._prompt(*map(self.quoted, step.prompt))
        lines += [f". {self.quoted(str(script))}" for script in scripts(step.entered, "activate.d", self.extension)]
        return [*lines, "hash -r 2>/dev/null || true"]

    def _prompt(self, before: str, after: str) -> list[str]:
        return [
            'if [ -n "${PS1+x}" ]; then',
            f"    _trainenv_shown={before}",
            '    case "$_trainenv_shown:$PS1" in :*) ;; *:*"$_trainenv_shown"*)',
            '        PS1="${PS1%%"$_trainenv_shown"*}${PS1#*"$_trainenv_shown"}" ;;',
            "    esac",
            f'    PS1={after}"$PS1"',
            "    unset _trainenv_shown",
            "fi",
        ]

    def wrapper(self, command: Sequence[str]) -> list[str]:
        words = " ".join(map(self.quoted, command))
        return [f'_trainenv_program() {{ {words} "$@"; }}', f". {self.quoted(str(FOLDER / 'wrapper.sh'))}"]


class Fish(Dialect):
    """fish, from 3.1 on."""

    extension = ".fish"

    def quoted(self, text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def code(self, step: Step) -> list[str]:
        lines = [f"source {self.quoted(str(script))}" for script in scripts(step.left, "deactivate.d", self.extension)]
        for name, value in _nameable(step):
            lines.append(f"set -e {name}" if value is None else f"set -gx {name} {self.quoted(value)}")
        lines.append(f"source {self.quoted(str(FOLDER / 'prompt.fish'))}")
        lines += [
            f"source {self.quoted(str(script))}" for script in scripts(step.entered, "activate.d", self.extension)
        ]
        return lines

    def wrapper(self, command: Sequence[str]) -> list[str]:
        words = " ".join(map(self.quoted, command))
        return [
            f"function _trainenv_program; {words} $argv; end",
            f"source {self.quoted(str(FOLDER / 'wrapper.fish'))}",
        ]


class PowerShell(Dialect):
    """PowerShell 5.1 and later. It can't hold an empty variable: it removes one that becomes empty."""

    extension = ".ps1"

    def quoted(self, text: str) -> str:
        return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"

    def code(self, step: Step) -> list[str]:
        lines = [f". {self.quoted(str(script))}" for script in scripts(step.left, "deactivate.d", self.extension)]
        for name, value in _nameable(step):
            if value is None:
                lines.append(f"Remove-Item -ErrorAction SilentlyContinue Env:{name}")
            else:
                lines.append(f"$Env:{name} = {self.quoted(value)}")
        lines.append(f". {self.quoted(str(FOLDER / 'prompt.ps1'))}")
        return lines + [
            f". {self.quoted(str(script))}" for script in scripts(step.entered, "activate.d", self.extension)
        ]

    def wrapper(self, command: Sequence[str]) -> list[str]:
        words = " ".join(map(self.quoted, command))
        return [
            f"function global:_trainenv_program {{ & {words} @args }}",
            f". {self.quoted(str(FOLDER / 'wrapper.ps1'))}",
        ]


_POSIX, _FISH, _POWERSHELL = Posix(), Fish(), PowerShell()

DIALECTS: dict[str, Dialect] = {
    "posix": _POSIX,
    "sh": _POSIX,
    "ash": _POSIX,
    "bash": _POSIX,
    "busybox": _POSIX,
    "dash": _POSIX,
    "ksh": _POSIX,
    "zsh": _POSIX,
    "fish": _FISH,
    "powershell": _POWERSHELL,
    "pwsh": _POWERSHELL,
}


def activation_code(step: Step, shell: str | None = None) -> bytes:
    """What a shell evaluates to take ``step`` and to know the function ``trainenv`` from then on.

    ``shell`` is one of ``DIALECTS``, by default the shell that this process was started from.
    """
    dialect = DIALECTS[shell or detect() or "posix"]
    return os.fsencode("\n".join([*dialect.wrapper(program()), *dialect.code(step)]) + "\n")


def detect() -> str | None:
    """The name of the shell, one of ``DIALECTS``, that this process or an ancestor was started from."""
    pid = os.getppid()
    for _ in range(_ANCESTORS):
        try:
            status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        name = status[status.index("(") + 1 : status.rindex(")")].lstrip("-")
        if name in DIALECTS:
            return name
        pid = int(status[status.rindex(")") + 1 :].split()[1])
    return None


def users_shell() -> str:
    """The program that the user wants as shell: ``$SHELL``, else what the system has for the user."""
    import pwd

    wanted = os.environ.get("SHELL")
    if not wanted:
        try:
            wanted = pwd.getpwuid(os.getuid()).pw_shell
        except KeyError:
            wanted = ""
    found = shutil.which(wanted or "sh")
    if found is None:
        raise UsageError(f"the shell {wanted} can't be started", hint="Set SHELL to one that is there")
    return found


def program() -> list[str]:
    """The command that starts this very trainenv, from any folder and whatever is on PATH."""
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == "trainenv" and os.access(own, os.X_OK):
        return [own]
    return [sys.executable, "-m", "trainenv"]


def _nameable(step: Step) -> list[tuple[str, str | None]]:
    """The changes, those to be unset first; a name that no shell can say is left alone."""
    named = [(name, value) for name, value in step.changes.items() if _VARIABLE.match(name)]
    return sorted(named, key=lambda change: change[1] is not None)
