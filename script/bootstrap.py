"""Makes the project's .venv and installs the project into it, in place; see script/setup.

Usage, in the project's folder: python script/bootstrap.py EXTRA STAMP

Standard library only, and no ensurepip is needed. STAMP is what ``.venv/set-up-EXTRA`` says once all
is done. Whatever is interrupted is begun afresh by the next run, and two runs at once take turns.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from find_pip import find_pip

VENV = Path(".venv")
INTERPRETER = VENV / "bin" / "python"
UNFINISHED = VENV / "unfinished"

NO_PIP = (
    "script/setup: nothing on this machine gives pip. Install it (Debian and Ubuntu: apt-get install python3-venv), "
    "or name your package index: export PIP_INDEX_URL=..."
)
NO_VENV = "script/setup: {python} can't make a virtual environment; name another Python: PYTHON=/path/to/python"


def main(extra: str, stamp: str) -> int:
    """Set up; returns the exit code. ``extra`` is ``plain`` or an optional dependency group."""
    stamps = {VENV / "set-up-plain", VENV / f"set-up-{extra}"}
    with _alone():
        if all(path.is_file() and path.read_text() == stamp for path in stamps):
            return 0
        begun = time.monotonic()
        work = f"set up .venv with Python {sys.version.split()[0]}"
        _show(work) if sys.stderr.isatty() else print(work, file=sys.stderr)
        if not _is_whole() and not _make_venv():
            return 1
        UNFINISHED.touch()
        code = _install("." if extra == "plain" else f".[{extra}]", work)
        UNFINISHED.unlink()
        if code == 0:
            for path in stamps:
                path.write_text(stamp)
            _show()
            print(f"✓ {work}".ljust(56), f"{time.monotonic() - begun:6.1f} s", file=sys.stderr)
    return code


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other set-ups of this checkout waiting."""
    folder = os.open(".", os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _is_whole() -> bool:
    """Whether .venv was completely made, at this place, of a Python that is still there and new enough."""
    if UNFINISHED.exists():
        return False
    try:
        made_here = f"{Path.cwd() / VENV}" in (VENV / "bin" / "activate").read_text()
        check = "import sys; sys.exit(sys.version_info[:2] < (3, 10))"
        return made_here and subprocess.run([INTERPRETER, "-c", check], check=False).returncode == 0
    except OSError:
        return False


def _make_venv() -> bool:
    shutil.rmtree(VENV, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=False)
    if done.returncode:
        print(NO_VENV.format(python=sys.executable), file=sys.stderr)
    return done.returncode == 0


def _install(project: str, work: str) -> int:
    """Install ``project`` with its dependencies; pip's news is shown beside ``work``, its errors only if it fails."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+", errors="replace") as errors:
        pip = find_pip(str(INTERPRETER), scratch)
        if pip is None:
            _show()
            print(NO_PIP, file=sys.stderr)
            return 1
        command = [*pip, "install", "--progress-bar", "off", "--disable-pip-version-check", "--editable", project]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace") as process:
            assert process.stdout is not None
            for line in process.stdout:
                _show(f"{work}: {line.strip()}")
        if process.returncode:
            _show()
            errors.seek(0)
            print(errors.read(), "script/setup: pip failed", sep="", file=sys.stderr)
    return process.returncode


def _show(text: str = "") -> None:
    """Put ``text`` in place of the terminal's last line; nothing where standard error is no terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2]))
    except KeyboardInterrupt:
        _show()
        print("script/setup: interrupted; the next run begins afresh", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"script/setup: {error}", file=sys.stderr)
        sys.exit(1)
