"""Asking an interpreter what it is, without trusting it to answer.

A path called ``python3`` may be anything: Python 2, PyPy, a wrapper script, a program that hangs. So
each is run once, isolated and with a time limit, and its answer is kept by path, size and time of
change.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROBE_SECONDS = 10.0
"""How long an interpreter may take to answer: generous, for a cold disk and busy cores."""

FAILURE_KEPT_SECONDS = 600.0
"""After this time an interpreter that failed is tried again: it may have been the load or a missing tool."""

_FORMAT = 1

# Run by the interpreter itself, by Python 2 as well, hence the old style.
_QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import json, os, sysconfig
info = sys.version_info
version = "%d.%d.%d" % info[:3]
if info[3] != "final":
    version += {"alpha": "a", "beta": "b", "candidate": "rc"}.get(info[3], info[3]) + str(info[4])
get = sysconfig.get_config_var
implementation = getattr(sys, "implementation", None)
try:
    import _imp
    frozen_site = bool(_imp.is_frozen("site"))
except ImportError:
    frozen_site = False
sys.stdout.write("\\n" + json.dumps({
    "version": version,
    "implementation": implementation.name if implementation else "python2",
    "executable": sys.executable or "",
    "prefix": getattr(sys, "base_prefix", None) or getattr(sys, "real_prefix", sys.prefix),
    "stdlib": sysconfig.get_path("stdlib"),
    "include": sysconfig.get_path("include", "posix_prefix"),
    "multiarch": getattr(implementation, "_multiarch", ""),
    "platlibdir": getattr(sys, "platlibdir", "lib"),
    "system": "%s-%s-%d" % (sys.platform, os.uname()[4], 64 if sys.maxsize > 2 ** 32 else 32),
    "musl": "musl" in "%s %s %s" % (get("SOABI"), get("HOST_GNU_TYPE"), get("MULTIARCH")),
    "debug": hasattr(sys, "gettotalrefcount"),
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "frozen_site": frozen_site,
}) + "\\n")
"""


@dataclass(frozen=True)
class Answer:
    """What an interpreter says of itself. ``prefix`` is that of the base interpreter of a venv."""

    version: str
    implementation: str
    executable: str
    prefix: str
    stdlib: str
    include: str
    multiarch: str
    platlibdir: str
    system: str
    musl: bool
    debug: bool
    free_threaded: bool
    frozen_site: bool


class Prober:
    """Asks interpreters, many at once, and remembers their answers in ``memory``, a JSON file.

    ``ask`` maps each path to its answer, or to the reason, in words for a user, why there is none.
    """

    def __init__(self, memory: Path) -> None:
        self._file = memory
        self._known = _read(memory)

    def ask(self, paths: Iterable[Path]) -> dict[Path, Answer | str]:
        wanted = list(dict.fromkeys(paths))
        answers = {path: self._recall(path) for path in wanted}
        missing = [path for path, answer in answers.items() if answer is None]
        if missing:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(max_workers=min(8, len(missing))) as pool:
                answers.update(zip(missing, pool.map(_ask, missing), strict=True))
            for path in missing:
                self._remember(path, answers[path])
            self._write()
        return {path: answer for path, answer in answers.items() if answer is not None}

    def _recall(self, path: Path) -> Answer | str | None:
        known = self._known.get(str(path))
        identity = identity_of(path)
        if known is None or identity is None or known.get("identity") != identity:
            return None
        if "failure" in known:
            fresh = 0 <= time.time() - known["asked"] < FAILURE_KEPT_SECONDS
            return str(known["failure"]) if fresh else None
        try:
            return Answer(**known["answer"])
        except (KeyError, TypeError):
            return None

    def _remember(self, path: Path, answer: Answer | str | None) -> None:
        if isinstance(answer, Answer):
            self._known[str(path)] = {"identity": identity_of(path), "answer": asdict(answer)}
        else:
            self._known[str(path)] = {"identity": identity_of(path), "failure": answer, "asked": time.time()}

    def _write(self) -> None:
        known = {path: entry for path, entry in self._known.items() if os.path.exists(path)}
        text = json.dumps({"format": _FORMAT, "interpreters": known}, indent=1, sort_keys=True)
        with suppress(OSError):  # what can't be remembered is asked again
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._file.parent, prefix=f".{self._file.name}-", delete=False
            ) as out:
                out.write(text)
            os.replace(out.name, self._file)


def identity_of(path: Path) -> list[int] | None:
    """Size and time of change (ns) of the file at ``path``; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read(memory: Path) -> dict[str, Any]:
    try:
        read = json.loads(memory.read_bytes())
        known = read["interpreters"] if read["format"] == _FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {path: entry for path, entry in known.items() if isinstance(entry, dict)}


def _ask(path: Path) -> Answer | str:
    """Run ``path`` isolated (no site, no user's variables) in a process group of its own.

    ``-I`` would do, but Python 2 does not know it; ``-E -s -S`` and the first lines of the question
    come to the same. A group, because what hangs may be the child of a wrapper script.
    """
    try:
        process = subprocess.Popen(
            [str(path), "-EsS", "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        if path.is_symlink() and not path.exists():
            return "it is a link to a file that is not there"
        return f"it can't be started ({error.strerror or error})"
    try:
        output, errors = process.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"it gave no answer within {PROBE_SECONDS:g} seconds"
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["without a word"]
        if process.returncode < 0:
            return f"it is killed by signal {-process.returncode} when it starts"
        return f"it fails to start with exit code {process.returncode} ({lines[-1][:200]})"
    try:
        return Answer(**json.loads(output.strip().splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        return "it does not answer as a Python does"
