"""The command line: parses, calls the Python API, prints.

``trainenv run`` is on its own path: it must become the user's command with as little between as
can be, so nothing heavy is imported before it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from trainenv.credentials import without_credentials
from trainenv.errors import Terminated, TrainenvError
from trainenv.printable import printable

_HEED_SECONDS = 0.1


def main() -> NoReturn:
    """The ``trainenv`` program: ends the process with the command's exit code.

    0 done, 1 failed, 2 wrong usage, 130 interrupted; ``run`` becomes its command and has its code.
    """
    _open_missing_streams()
    _speak_utf8()
    sys.unraisablehook = _heed_later
    gc.set_threshold(100_000)  # Looking for cycles after every 700 objects takes a tenth of a short command's time.
    code = _guarded(sys.argv[1:])
    # py-rattler's threads can crash an orderly interpreter exit although all work is done.
    os._exit(code)


def _speak_utf8() -> None:
    """Begin anew where the locale has another encoding: files name paths in UTF-8, and Python would misread those."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _guarded(arguments: list[str]) -> int:
    try:
        code = _dispatched(arguments)
        sys.stdout.flush()
        return code
    except TrainenvError as error:
        _say(f"error: {error.headline}", error.details)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        _say(": ".join(["interrupted", *map(str, interrupt.args)]))
        return 130
    except Terminated as end:
        number, *outcome = end.args
        _say(": ".join([f"ended by {signal.Signals(number).name}", *outcome]))
        return 128 + int(number)
    except (BrokenPipeError, SystemExit):  # The reader of the output went away; rich exits then.
        return 128 + signal.SIGPIPE
    except Exception as error:
        if os.environ.get("TRAINENV_DEBUG"):
            import traceback

            traceback.print_exc()
        _say(f"error: {_in_words(error)}")
        return 1


def _dispatched(arguments: list[str]) -> int:
    if arguments[:1] == ["run"]:
        from trainenv.cli.run import run

        return run(arguments[1:])
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminate)
    if "_TRAINENV_COMPLETE" in os.environ:
        from trainenv.cli.completion import complete

        return complete()
    from trainenv.cli.app import dispatch

    return dispatch(arguments)


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)


def _heed_later(lost: sys.UnraisableHookArgs) -> None:
    """A signal that met a finalizer or a weak reference's callback, as imports have many, comes once more after it."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(lost.exc_value, Terminated):
        number = lost.exc_value.args[0]
        signal.signal(number, _terminate)
    else:
        sys.__unraisablehook__(lost)
        return
    import _thread
    import time

    def once_more() -> None:
        time.sleep(_HEED_SECONDS)
        os.kill(os.getpid(), number)

    _thread.start_new_thread(once_more, ())


def _open_missing_streams() -> None:
    """A closed stream becomes an empty one; what a terminal's encoding lacks is shown as an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
        elif mode == "w" and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, details: Sequence[str] = ()) -> None:
    """One line on standard error, and indented ones below it, if anybody still reads it."""
    lines = [f"trainenv: {text}", *(f"  {printable(without_credentials(line))}" for line in details)]
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except OSError:
        pass


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    library, lacks, _ = str(error).partition(": cannot open shared object file")
    if isinstance(error, ImportError) and lacks:
        return f"this machine lacks {library}, which the Python of trainenv needs. Install the package that brings it"
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{what}. This is a defect of trainenv: please report what TRAINENV_DEBUG=1 prints"
