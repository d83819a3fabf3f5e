"""Proof that an interpreter has become relocatable, before anyone depends on it.

Its package is laid out in a scratch prefix and started there. It must find itself in that prefix,
install into that prefix's ``site-packages`` and ``bin`` and nowhere else, and import every extension
module that it imports at home.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainenv.channels.host.buildinfo import PLACEHOLDER
from trainenv.channels.host.contents import Entry
from trainenv.channels.host.interpreters import Interpreter
from trainenv.errors import InterpreterError

_SECONDS = 60.0

_QUESTION = """
import importlib, json, site, sys, sysconfig
importable = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    importable.append(name)
print(json.dumps({
    "prefixes": sorted({sys.prefix, sys.base_prefix, sys.exec_prefix}),
    "site_packages": site.getsitepackages(),
    "sys_path": [entry for entry in sys.path if not entry.endswith(".zip")],
    "paths": {key: sysconfig.get_path(key) for key in ("purelib", "platlib", "scripts", "data", "include")},
    "libdir": sysconfig.get_config_var("LIBDIR"),
    "importable": importable,
}))
"""

_MODULES = (
    "ssl",
    "sqlite3",
    "ctypes",
    "lzma",
    "bz2",
    "zlib",
    "readline",
    "hashlib",
    "decimal",
    "curses",
    "uuid",
    "dbm",
    "multiprocessing",
    "distutils",
    "venv",
)


def check(interpreter: Interpreter, entries: Iterable[Entry], scratch: Path) -> None:
    """Raise ``InterpreterError``, saying what is wrong, unless the package works in a folder of ``scratch``."""
    home = _ask(interpreter.executable)
    with tempfile.TemporaryDirectory(prefix=".building-trial-", dir=scratch) as folder:
        prefix = Path(os.path.realpath(folder))
        _lay_out(entries, prefix)
        moved = _ask(prefix / "bin" / "python")
    short = interpreter.short_version
    library = f"{prefix}/lib/python{short}"
    expected = {
        "prefixes": [str(prefix)],
        "site_packages": [f"{library}/site-packages"],
        "sys_path": [library, f"{library}/lib-dynload", f"{library}/site-packages"],
        "paths": {
            "purelib": f"{library}/site-packages",
            "platlib": f"{library}/site-packages",
            "scripts": f"{prefix}/bin",
            "data": str(prefix),
            "include": f"{prefix}/include/python{short}",
        },
        "libdir": f"{prefix}/lib",
        "importable": home["importable"],
    }
    for key, value in expected.items():
        if moved[key] != value:
            shown = str(moved[key]).replace(str(prefix), "PREFIX")
            wanted = str(value).replace(str(prefix), "PREFIX")
            raise InterpreterError("it can't be moved", cause=f"in another prefix its {key} is {shown}, not {wanted}")


def _lay_out(entries: Iterable[Entry], prefix: Path) -> None:
    """What is unchanged is only linked to, except programs: they find their prefix by their real path."""
    for entry in entries:
        path = prefix / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.link is not None:
            path.symlink_to(entry.link)
        elif entry.origin is not None and not entry.path.startswith("bin/"):
            path.symlink_to(entry.origin)
        else:
            data = entry.data
            if entry.placeholder:
                data = data.replace(PLACEHOLDER.encode(), str(prefix).encode())
            path.write_bytes(data)
            path.chmod(0o755 if entry.executable else 0o644)


def _ask(executable: Path) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [str(executable), "-I", "-B", "-W", "ignore", "-c", _QUESTION, *_MODULES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            timeout=_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise InterpreterError("it does not run", cause=str(error)) from None
    if not isinstance(answer, dict):
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise InterpreterError("it does not run", cause=words[-1])
    return answer
