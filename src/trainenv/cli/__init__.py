"""The command line: parses, calls the Python API, prints.

``trainenv run`` is on its own path: it must become the user's command with as little between as
can be, so nothing heavy is imported before it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from trainenv.errors import TrainenvError


def main() -> NoReturn:
    """The ``trainenv`` program: ends the process with the command's exit code.

    0 done, 1 failed, 2 wrong usage, 130 interrupted; ``run`` becomes its command and has its code.
    """
    code = _guarded(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    # py-rattler's threads can crash an orderly interpreter exit although all work is done.
    os._exit(code)


def _guarded(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["run"]:
            from trainenv.cli.run import run

            return run(arguments[1:])
        from trainenv.cli.app import dispatch

        return dispatch(arguments)
    except TrainenvError as error:
        print(f"trainenv: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("trainenv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("TRAINENV_DEBUG"):
            raise
        print(
            f"trainenv: error: {_in_words(error)}. If that makes no sense to you, run it again with "
            "TRAINENV_DEBUG=1 and report what it prints",
            file=sys.stderr,
        )
        return 1


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
