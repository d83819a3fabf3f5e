"""``trainenv run``: activate an environment and become the command.

Standard library only, and as few modules of it as possible: this is on the way of every start.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from trainenv import locks, settings
from trainenv.environments import activation, mounts
from trainenv.errors import UsageError

HELP = """Usage: trainenv run [OPTIONS] COMMAND [ARGS]...

  Run a command in an environment.

  trainenv becomes the command: signals, standard input and the exit code are
  the command's own, and its output appears as it is written.

  Example: trainenv run -n my_training_env python train.py --epochs 3

Options:
  -n, --name NAME      Name of the environment.
  -p, --prefix PREFIX  Folder of the environment, instead of a name.
  --cwd DIR            Folder to run the command in.
  --workspace DIR      The workspace to use.
  --help               Show this message and exit.
"""

_ACCEPTED_FROM_CONDA = {"--no-capture-output", "--live-stream"}


def run(arguments: list[str]) -> int:
    """Parse ``arguments`` (what stands after ``run``) and become the command; returns for ``--help``."""
    options: dict[str, str] = {}
    command = list(arguments)
    while command and command[0].startswith("-"):
        option = command.pop(0)
        if option == "--":
            break
        if option in ("--help", "-h"):
            print(HELP, end="")
            return 0
        if option in _ACCEPTED_FROM_CONDA:
            continue
        option, separator, value = option.partition("=")
        key = {"-n": "name", "--name": "name", "-p": "prefix", "--prefix": "prefix"}.get(option)
        key = key or {"--cwd": "cwd", "--workspace": "workspace"}.get(option)
        if key is None:
            raise UsageError(f"no such option of run: {option}", hint="See `trainenv run --help`")
        if not separator:
            if not command:
                raise UsageError(f"option {option} needs a value", hint="See `trainenv run --help`")
            value = command.pop(0)
        options[key] = value
    return _become(options, command)


def _become(options: dict[str, str], command: list[str]) -> int:
    if not command or not command[0]:
        raise UsageError("no command to run", hint="Example: trainenv run -n my_training_env python train.py")
    if ("name" in options) == ("prefix" in options):
        raise UsageError("name one environment, with -n NAME or -p PREFIX", hint="See `trainenv run --help`")
    prefix, name = _find(options)
    if "cwd" in options:
        try:
            os.chdir(options["cwd"])
        except OSError as error:
            raise UsageError(f"can't run in {options['cwd']}", cause=error.strerror or "") from None
    argv, variables = activation.launched(prefix, name, command, os.environ)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, variables)
    except FileNotFoundError:
        print(f"trainenv: error: {argv[0]}: no such command in environment {name!r} or on PATH", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"trainenv: error: {argv[0]}: {error.strerror}", file=sys.stderr)
        return 126


def _find(options: dict[str, str]) -> tuple[Path, str]:
    """Prefix and name of the environment, with its lock held: nobody changes it under the command."""
    if "prefix" in options:
        prefix = Path(os.path.abspath(options["prefix"]))
        mounts.ensure(prefix)
        locks.shared_at(prefix)
        if not (prefix / "conda-meta").is_dir():
            from trainenv.environments.environment import at

            at(prefix)
        return prefix, prefix.name
    workspace = settings.load(options.get("workspace"))
    name = options["name"]
    prefix = workspace.prefix_of(name)
    mounts.ensure(prefix)
    if prefix.is_dir():
        locks.shared(workspace, name)
    if not (prefix / "conda-meta").is_dir():
        from trainenv.environments.environment import get

        prefix = get(workspace, name).prefix
        locks.shared_at(prefix)
    return prefix, name
